"""From a configuration to what a run needs: stream, model, cloud, fleet, grid, strategies.

Everything is checked here, before anything is written or trained.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from flwr.serverapp import Grid
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from torch import Tensor

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.seeds import torch_generator
from cdc_flower.devices.app import DeviceApp
from cdc_flower.models import device_model
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.layers import Parameters
from cdc_flower.simulations.fleet import Fleet
from cdc_flower.simulations.grids.base import InlineGrid
from cdc_flower.simulations.protocol.codecs import codecs_of
from cdc_flower.simulations.requests.setup import check_policy
from cdc_flower.strategies.base import Cloud
from cdc_flower.study.arms import strategies_of
from cdc_flower.study.fleet_setup import fleet_of, network_of
from cdc_flower.study.plays import TASKS, check_plays
from cdc_flower.study.references import references_of
from cdc_flower.tasks.recommendation.interests import interests_stream
from cdc_flower.tasks.recommendation.readers.read import read_events
from cdc_flower.tasks.recommendation.stream import EventStream, event_stream
from cdc_flower.tasks.recommendation.task import RECOMMENDATION, Task
from cdc_flower.tasks.video.build import VIDEO_TASKS, check_video, video_parts
from cdc_flower.training.checkpoints import Checkpoints, fingerprint

GRIDS = ("inline", "ray")
VALIDATIONS = ("devices", "last")
NO_EXPERIMENT = "none"
#: Keys of ``data`` that concern reading a file, or cutting it, and not the embedded generator.
STREAM_KEYS = ("cut", "historical_fraction", "segment_s", "exclude_seen")
EMBEDDED = "shifting_interests"
#: Devices of the embedded data where the configuration leaves it open.
EMBEDDED_DEVICES = 1000
LARGEST = 2**31 - 1  # of the configured whole numbers
#: Keys that must hold a number.
NUMBERS = (
    "cloud.rate",
    "cloud.validation_fraction",
)


@dataclass(frozen=True)
class Setup:
    """What a run is made of.

    Attributes:
        stream: Of every device; ``model``: of the devices; ``fleet``: links and speeds.
        strategies: Name -> strategy, in the order of the configuration.
        references: Names of reference lines.
        task: What devices report, and how they are scored.
    """

    stream: Any
    model: DeviceModel
    fleet: Fleet
    strategies: dict[str, Any]
    references: list[str]
    task: Task = RECOMMENDATION

    @property
    def device_ids(self) -> np.ndarray:
        """``[n]``."""
        return np.arange(self.stream.num_devices)


def prepare(config: Mapping[str, Any]) -> Setup:
    """Everything a run needs, from its resolved configuration.

    Raises:
        UserError: If a value is wrong, a file is missing or a row is malformed.
    """
    for key, known in (("task", TASKS), ("grid.name", GRIDS), ("cloud.validation", VALIDATIONS)):
        value = lookup(config, key)
        if value not in known:
            raise unknown_name(key.removesuffix(".name").split(".")[-1], value, known, key)
    whole_number(config, "seed", 0)
    whole_number(config, "num_segments", 1)
    whole_number(config, "grid.num_workers", 1)
    whole_number(config, "cloud.epochs", 0)
    whole_number(config, "cloud.batch_size", 1)
    whole_number(config, "cloud.num_negatives", 1)
    whole_number(config, "cloud.patience", 1)
    for key in ("cloud.adaptation.batch_size", "cloud.adaptation.examples_per_epoch"):
        if lookup(config, key) is not None:
            whole_number(config, key, 1)
    if lookup(config, "fleet.num_devices") is not None:
        whole_number(config, "fleet.num_devices", 1)
    whole_number(config, "model.width", 1)
    if config["task"] in VIDEO_TASKS:
        check_video(config)
    else:
        whole_number(config, "model.history_length", 1)
    for key in NUMBERS:
        value = lookup(config, key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{key} must be a number, got {value!r}")
    if not lookup(config, "cloud.rate") >= 0:
        raise UserError(f"cloud.rate must be >= 0, got {lookup(config, 'cloud.rate')}")
    fraction = lookup(config, "cloud.validation_fraction")
    if not 0 < fraction < 1:
        raise UserError(f"cloud.validation_fraction must be in (0, 1), got {fraction}")
    strategies, references = strategies_of(config), references_of(config)
    check_plays(strategies, config["task"])
    network = network_of(config["network"])
    fleet_of(config, network, 1)
    codecs_of(config["protocol"])
    check_policy(config["policy"])
    parts: tuple[Any, DeviceModel, Task]
    parts = video_parts(config) if config["task"] in VIDEO_TASKS else recommendation_parts(config)
    stream, model, task = parts
    return Setup(
        stream, model, fleet_of(config, network, stream.num_devices), strategies, references, task
    )


def recommendation_parts(config: Mapping[str, Any]) -> tuple[EventStream, DeviceModel, Task]:
    """Stream, model and task of a recommendation run.

    Raises:
        UserError: As :func:`prepare`.
    """
    stream = stream_of(config)
    if stream.num_negatives >= stream.num_items:
        raise UserError(
            f"num_negatives must be < {stream.num_items}, the number of items in the data, got {stream.num_negatives}"
        )
    try:
        model = device_model(
            config["model"]["name"],
            stream.num_items,
            config["model"]["width"],
            stream.history_length,
        )
    except ValueError as error:
        raise UserError(f"model.{error}") from error
    return stream, model, RECOMMENDATION


def resolved(config: DictConfig, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Turns a composed configuration into plain values.

    An experiment without an ``experiment_name`` gets the name of its file.

    Args:
        config: As Hydra composed it.
        overrides: What it was composed with, such as ``experiment=video_arms``.

    Raises:
        UserError: If a value that must be given is missing, or one that it refers to does not
            exist.
    """
    try:
        values: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(
            f"{error.full_key} must be given on the command line or in a file"
        ) from error
    except OmegaConfBaseException as error:
        raise UserError(
            f"{getattr(error, 'full_key', 'config')}: {str(error).splitlines()[0]}"
        ) from error
    if not values.get("experiment_name"):
        pairs = [text.partition("=")[::2] for text in overrides]
        chosen = [value for key, value in pairs if key.lstrip("+") == "experiment"]
        values["experiment_name"] = chosen[-1] if chosen else NO_EXPERIMENT
    return dict(values)


def lookup(config: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key."""
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


def whole_number(config: Mapping[str, Any], key: str, least: int) -> int:
    """A configured value that must be a whole number of at least ``least``.

    Raises:
        UserError: If it is not.
    """
    value = lookup(config, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{key} must be a whole number >= {least}, got {value}")
    if value > LARGEST:
        raise UserError(f"{key} must be <= {LARGEST}, got {value}")
    return value


def stream_of(config: Mapping[str, Any]) -> EventStream:
    """The stream of the configured data.

    Raises:
        UserError: As :func:`prepare`.
    """
    data = dict(config["data"])
    common = {"num_segments": config["num_segments"], "seed": config["seed"]}
    common["history_length"] = config["model"]["history_length"]
    common["num_negatives"] = whole_number(config, "num_negatives", 1)
    num_devices = config["fleet"]["num_devices"]
    if data["name"] == EMBEDDED:
        num_devices = EMBEDDED_DEVICES if num_devices is None else num_devices
        knobs = {key: value for key, value in data.items() if key not in ("name", "path", *common)}
        return interests_stream(num_devices, **common, **knobs)
    events = read_events(data)
    if events.num_skipped:
        print(f"{events.source}: {events.num_skipped:,} malformed rows skipped", file=sys.stderr)
    events = events.frequent(data.get("min_user_events", 1), data.get("min_item_events", 1))
    if num_devices is not None:
        events = events.first_devices(num_devices)
    return event_stream(events, **common, **{key: data[key] for key in STREAM_KEYS if key in data})


def grid_of(config: Mapping[str, Any], setup: Setup) -> Grid:
    """The grid that plays the devices."""
    app = DeviceApp(setup.model, setup.stream, setup.task)
    if config["grid"]["name"] == "inline":
        return InlineGrid(app, setup.device_ids)
    from cdc_flower.simulations.grids.ray import RayGrid

    grid = config["grid"]
    return RayGrid(
        app, setup.device_ids, num_workers=grid["num_workers"], address=grid.get("address")
    )


def train_cloud(
    config: Mapping[str, Any], setup: Setup, progress: Callable[[str, int], Callable[[], None]]
) -> Cloud:
    """The base model, trained on the historical part or taken from the cache, for the strategies.

    Raises:
        UserError: If the historical part has no example.
    """
    settings, seed, model = config["cloud"], config["seed"], setup.model
    batch_size = settings["batch_size"]
    history = setup.stream.historical()
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

    cloud.fit(
        f"{config['model']['name']}: training the base model",
        {"rate": settings["rate"]},
        parameters,
        parameters.values(),
        loss,
        epochs=settings["epochs"],
        rate=settings["rate"],
        batches=lambda epoch: train.batches(batch_size, epoch, seed, cloud.num_negatives),
        held_out=lambda: validation.batches(batch_size, 0, seed, cloud.num_negatives),
        num_batches=-(-train.num_examples // batch_size),
    )
    for value in parameters.values():
        value.requires_grad_(False)
    return cloud
