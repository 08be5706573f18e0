"""From a configuration to a request policy, one for each run of a strategy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import checked_values, options_of
from cdc_flower.models.video.ranking import VideoModel
from cdc_flower.simulations.requests.answers import Ask, OwnAnswers, held_out_doubts
from cdc_flower.simulations.requests.doubt import Doubt
from cdc_flower.simulations.requests.policies import Devices, Policy, policies
from cdc_flower.simulations.requests.sensor import ClipSensor, HistorySensor, Sensor
from cdc_flower.simulations.requests.uncertainty import DetectorDoubt, train_uncertainty
from cdc_flower.strategies.base import Cloud
from cdc_flower.training.scoring import Arrays, tensors

#: Of a device model that policies on items look into.
EMBEDDING = "embedding"


@dataclass(frozen=True)
class Requests:
    """When devices report.

    Args:
        policy: None: always, with no limit.
        devices: What the policy may look at, given a function that asks devices.
    """

    policy: Policy | None = None
    devices: Callable[[Ask], Devices] = lambda ask: Devices(0, _nothing, _nothing)


def _nothing(*_: object) -> Any:
    raise RuntimeError("this policy must decide without looking at devices")


def policy_of(config: Mapping[str, Any]) -> Policy:
    """Makes the policy of a configured ``policy``; everything is checked before anything is trained.

    Raises:
        UserError: If the policy is unknown, a key is none, or a value is out of its range.
    """
    kind = policies.find(config["name"], "policy.name").value
    values: dict[str, Any] = checked_values(options_of(kind), config, "policy")
    return kind(**values)


def requests_of(config: Mapping[str, Any], stream: Any, cloud: Cloud, strategy: Any) -> Requests:
    """Makes the policy for one run of a strategy that is prepared.

    Args:
        config: The configured ``policy``.
        stream: Of the devices.
        cloud: Of the strategy.
        strategy: Prepared.

    Raises:
        UserError: If a value is wrong, or the policy needs items and the task has none.
    """
    policy = policy_of(config)
    if policy.name == "always" and policy.max_bytes is None:
        return Requests()

    def devices(ask: Ask) -> Devices:
        deployed = strategy.deployment()
        return Devices(
            cloud.seed,
            lambda: _sensor(stream, cloud, deployed),
            lambda epochs: _doubt(stream, cloud, strategy, epochs, ask),
        )

    return Requests(policy, devices)


def _sensor(stream: Any, cloud: Cloud, deployed: Arrays) -> Sensor:
    if isinstance(cloud.model, VideoModel):
        train: Any = cloud.train
        historical = np.unique(cloud.model.clips.clip_of(train.queries))
        return ClipSensor(stream, cloud.model, tensors(deployed), historical)
    if EMBEDDING not in deployed:
        found = ", ".join(list(deployed)[:3])
        raise UserError(f"policy needs a model with item embeddings, got {found}, ...")
    return HistorySensor(stream, deployed[EMBEDDING])


def _doubt(stream: Any, cloud: Cloud, strategy: Any, epochs: int, ask: Ask) -> Doubt:
    deployed = strategy.deployment()
    if isinstance(cloud.model, VideoModel):
        held: Any = cloud.validation
        return OwnAnswers(held_out_doubts(cloud.model, deployed, held), ask)
    sensor = _sensor(stream, cloud, deployed)
    assert isinstance(sensor, HistorySensor)
    return DetectorDoubt(sensor, train_uncertainty(cloud, strategy, epochs))
