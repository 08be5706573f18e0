"""The base model, trained in the cloud on the historical part of the data."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from cdc_flower.core.errors import UserError
from cdc_flower.core.seeds import torch_generator
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.layers import Parameters
from cdc_flower.training.checkpoints import Checkpoints, fingerprint
from cdc_flower.training.cloud import Cloud, Stage


def train_cloud(
    config: Mapping[str, Any],
    stream: Any,
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
    settings, seed = config["cloud"], config["seed"]
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
    parameters: Parameters = model.init(torch_generator(seed, "model"))
    key = {
        "what": "base",
        "model": config["model"],
        "cloud": {name: value for name, value in settings.items() if name != "adaptation"},
        "seed": seed,
        "data": [train.content_hash(), validation.content_hash()],
    }
    cloud = Cloud(
        model,
        parameters,
        train,
        validation,
        seed,
        batch_size=settings["adaptation"]["batch_size"] or settings["batch_size"],
        num_negatives=settings["num_negatives"],
        patience=settings["patience"],
        examples_per_epoch=settings["adaptation"]["examples_per_epoch"],
        identity=fingerprint(key),
        checkpoints=Checkpoints(config["cache"]),
        progress=progress,
    )
    for value in parameters.values():
        value.requires_grad_()

    def loss(batch: Any) -> Tensor:
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
    return cloud
