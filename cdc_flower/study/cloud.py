"""Trains the base model in the cloud on the historical part of the data."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.core.errors import UserError
from cdc_flower.core.held import Held
from cdc_flower.core.options import options_of
from cdc_flower.core.seeds import torch_generator
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.layers import Parameters
from cdc_flower.models.registry import find_model
from cdc_flower.study.trees import Config
from cdc_flower.training.checkpoints import Checkpoints, fingerprint
from cdc_flower.training.cloud import Cloud, History, Stage
from cdc_flower.training.own_code import own_code
from cdc_flower.training.schedule import Schedule


class CandidateBatch(Protocol):
    """Examples to train on.

    Attributes:
        history: ``[B, L]``, items before each example, padded with 0.
        candidates: ``[B, C]``, the true one first.
    """

    history: NDArray[np.int32]
    candidates: NDArray[np.int32]


class SplitHistory(History, Protocol):
    """Historical data from which a validation part can be split off."""

    def split(self, fraction: float, seed: int) -> tuple[Self, Self]:
        """Holds out a share of the devices."""

    def split_last(self) -> tuple[Self, Self]:
        """Holds out the last example of each device."""

    def content_hash(self) -> str:
        """Names the content."""


class HistoricalStream(Protocol):
    """A stream with a historical part."""

    def historical(self) -> SplitHistory:
        """Gives the labelled data from before the stream."""


def train_cloud(
    config: Config,
    stream: HistoricalStream,
    model: DeviceModel,
    progress: Callable[[str, int], Callable[[], None]],
) -> Cloud:
    """Trains the base model on the historical part, or takes it from the cache, for the strategies.

    Args:
        config: Resolved and checked.
        stream: Of the devices, with its historical part.
        model: Of the devices.
        progress: (text, steps) -> a function to call after each step.

    Raises:
        UserError: If the historical part has no example.
    """
    settings = config["cloud"]
    seed = config["seed"]
    batch_size = settings["batch_size"]
    history = stream.historical()
    if settings["validation"] == "last":
        train, validation = history.split_last()
    else:
        train, validation = history.split(settings["validation_fraction"], seed)
    if not train.num_examples:
        raise UserError(
            "data: the historical part has no example to train on; raise data.historical_fraction"
        )
    cloud = _untrained(config, model, train, validation, progress)
    parameters = cloud.parameters
    for value in parameters.values():
        value.requires_grad_()

    def loss(batch: CandidateBatch) -> Tensor:
        history, candidates = (
            torch.from_numpy(ids).long() for ids in (batch.history, batch.candidates)
        )
        return model.loss(model.score(model.tabulate(parameters), history, candidates)).mean()

    stage = Stage(
        f"{config['model']['name']}: training the base model",
        {"rate": settings["rate"]},
        parameters,
        parameters.values(),
        settings["epochs"],
        settings["rate"],
    )
    cloud.fit(
        stage,
        loss,
        batches=lambda epoch: train.batches(batch_size, epoch, seed, cloud.num_negatives),
        held_out=lambda: validation.batches(batch_size, 0, seed, cloud.num_negatives),
        num_batches=-(-train.num_examples // batch_size),
    )
    for value in parameters.values():
        value.requires_grad_(False)
    patience = settings["adaptation"]["patience_steps"]
    return replace(cloud, schedule=replace(cloud.schedule, patience_steps=patience))


def with_own_code(cloud: Cloud, strategy: object) -> Cloud:
    """Names a cloud after a strategy of the user's own, whose code trains on top of it."""
    own = own_code(type(strategy))
    return replace(cloud, identity=f"{cloud.identity} {own}") if own and cloud.identity else cloud


def _untrained(
    config: Config,
    model: DeviceModel,
    train: SplitHistory,
    validation: SplitHistory,
    progress: Callable[[str, int], Callable[[], None]],
) -> Cloud:
    """Makes a cloud with new parameters, and the name that they will have once they are trained.

    Args:
        config: Resolved and checked.
        model: Of the devices.
        train: Examples to train on.
        validation: Examples held out.
        progress: (text, steps) -> a function to call after each step.
    """
    settings = config["cloud"]
    seed = config["seed"]
    parameters: Parameters = model.init(torch_generator(seed, "model"))
    key = {
        "what": "base",
        "model": config["model"],
        "cloud": {name: value for name, value in settings.items() if name != "adaptation"},
        "seed": seed,
        "data": [train.content_hash(), validation.content_hash()],
    }
    node = config["model"]
    maker = node.value if isinstance(node, Held) else find_model(node).value
    if own := own_code(maker, type(model), type(train)):
        key["own_code"] = own
    if facts := model.training_facts():
        key["own_model"] = facts
    return Cloud(
        model,
        parameters,
        train,
        validation,
        seed,
        batch_size=settings["adaptation"]["batch_size"] or settings["batch_size"],
        num_negatives=settings["num_negatives"],
        schedule=Schedule(**{name: settings[name] for name in options_of(Schedule)}),
        examples_per_epoch=settings["adaptation"]["examples_per_epoch"],
        identity=fingerprint(key),
        checkpoints=Checkpoints(config["cache"]),
        progress=progress,
    )
