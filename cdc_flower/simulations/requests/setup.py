"""From a configuration to a request policy, one for each run of a strategy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.models.video.ranking import VideoModel
from cdc_flower.simulations.requests.answers import OwnAnswers, held_out_doubts
from cdc_flower.simulations.requests.policies import Every, OnDrift, Policy, Random
from cdc_flower.simulations.requests.sensor import ClipSensor, HistorySensor, Sensor
from cdc_flower.simulations.requests.uncertainty import Uncertainty, train_uncertainty
from cdc_flower.strategies.base import Cloud
from cdc_flower.training.scoring import Arrays, tensors

POLICIES = ("always", "never", "random", "every", "on_drift", "uncertainty")
#: Of a device model that policies on items look into.
EMBEDDING = "embedding"


@dataclass(frozen=True)
class Requests:
    """When devices report.

    Args:
        policy: None: always.
        max_bytes: Up and down, after which a device reports no more. None: no limit.
    """

    policy: Policy | None = None
    max_bytes: float | None = None


def check_policy(config: Mapping[str, Any]) -> None:
    """Check what can be checked before anything is trained.

    Raises:
        UserError: If the policy is unknown, or a value is out of its range.
    """
    if config["name"] not in POLICIES:
        raise unknown_name("policy", config["name"], POLICIES, "policy")
    limit = config.get("max_bytes")
    if limit is not None and (
        isinstance(limit, bool) or not isinstance(limit, int | float) or limit < 0
    ):
        raise UserError(f"policy.max_bytes must be a number >= 0, or null, got {limit!r}")
    if config["name"] in ("random", "uncertainty"):
        Random(config["rate"], 0)
    if config["name"] == "every":
        Every(config["n"])
    if config["name"] == "uncertainty":
        epochs = config["epochs"]
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 0:
            raise UserError(f"policy.epochs must be a whole number >= 0, got {epochs!r}")


def requests_of(config: Mapping[str, Any], stream: Any, cloud: Cloud, strategy: Any) -> Requests:
    """The policy of a configured ``policy``, for one run of a strategy that is prepared.

    Raises:
        UserError: If a value is wrong, or the policy needs items and the task has none.
    """
    name, limit = config["name"], config.get("max_bytes")
    if name == "always":
        return Requests(None if limit is None else Every(1), limit)
    if name in ("never", "random"):
        return Requests(Random(0.0 if name == "never" else config["rate"], cloud.seed), limit)
    if name == "every":
        return Requests(Every(config["n"]), limit)
    deployed = strategy.deployment()
    if isinstance(cloud.model, VideoModel):
        return Requests(_on_video(config, stream, cloud, cloud.model, deployed), limit)
    if EMBEDDING not in deployed:
        raise UserError(
            f"policy {name} needs a model with item embeddings, got {', '.join(list(deployed)[:3])}, ..."
        )
    sensor = HistorySensor(stream, deployed[EMBEDDING])
    if name == "on_drift":
        return Requests(_on_drift(config, sensor), limit)
    return Requests(
        Uncertainty(sensor, train_uncertainty(cloud, strategy, config["epochs"]), config["rate"]),
        limit,
    )


def _on_video(
    config: Mapping[str, Any], stream: Any, cloud: Cloud, model: VideoModel, deployed: Arrays
) -> Policy:
    """The policies that look into clips and answers."""
    train: Any = cloud.train
    validation: Any = cloud.validation
    if config["name"] == "uncertainty":
        return OwnAnswers(held_out_doubts(model, deployed, validation), config["rate"])
    historical = np.unique(model.clips.clip_of(train.queries))
    return _on_drift(config, ClipSensor(stream, model, tensors(deployed), historical))


def _on_drift(config: Mapping[str, Any], sensor: Sensor) -> Policy:
    return OnDrift(sensor, config["detector"], config["threshold"], config["delta"])
