"""From a configuration to what a run needs: stream, model, cloud, fleet, grid, strategies.

Everything is checked here, before anything is written or trained.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.serverapp import Grid
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.devices.app import DeviceApp
from cdc_flower.models import device_model
from cdc_flower.models.base import DeviceModel
from cdc_flower.simulations.fleet import Fleet
from cdc_flower.simulations.grids.kinds import GridOptions, grids
from cdc_flower.simulations.protocol.encoding import codecs_of
from cdc_flower.simulations.requests.setup import policy_of
from cdc_flower.study.arms import strategies_of
from cdc_flower.study.check import checked_config
from cdc_flower.study.fleet_setup import fleet_of, network_of
from cdc_flower.study.plays import TASKS, check_plays
from cdc_flower.study.references import references_of
from cdc_flower.tasks.protocol import Task
from cdc_flower.tasks.recommendation.interests import interests_stream
from cdc_flower.tasks.recommendation.readers.read import read_events
from cdc_flower.tasks.recommendation.stream import EventStream, event_stream
from cdc_flower.tasks.recommendation.task import RECOMMENDATION
from cdc_flower.tasks.video.build import VIDEO_TASKS, check_video, video_parts

NO_EXPERIMENT = "none"
#: Keys of ``data`` that concern reading a file, or cutting it, and not the embedded generator.
STREAM_KEYS = ("cut", "historical_fraction", "segment_s", "exclude_seen")
EMBEDDED = "shifting_interests"
#: Devices of the embedded data where the configuration leaves it open.
EMBEDDED_DEVICES = 1000
LARGEST = 2**31 - 1  # of the configured whole numbers


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
    config = checked_config(config)
    if config["task"] not in TASKS:
        raise unknown_name("task", config["task"], TASKS, "task")
    whole_number(config, "model.width", 1)
    if config["task"] in VIDEO_TASKS:
        check_video(config)
    else:
        whole_number(config, "model.history_length", 1)
    strategies, references = strategies_of(config), references_of(config)
    check_plays(strategies, config["task"])
    network = network_of(config["network"])
    fleet_of(config, network, 1)
    codecs_of(config["protocol"])
    policy_of(config["policy"])
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
    """Makes the grid that plays the devices."""
    make: Callable[..., GridOptions] = grids.find(config["grid"]["name"], "grid.name").value
    app = DeviceApp(setup.model, setup.stream, setup.task)
    return make(**config["grid"]).grid(app, setup.device_ids)
