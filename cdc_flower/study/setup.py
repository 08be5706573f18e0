"""From a configuration to a run: stream, model, fleet, grid, strategies.

Everything is checked here, before anything is written or trained.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from flwr.serverapp import Grid
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from cdc_flower.core.errors import UserError
from cdc_flower.core.saveable import Arrays
from cdc_flower.core.stream import Stream
from cdc_flower.devices.app import DeviceApp
from cdc_flower.models.base import DeviceModel
from cdc_flower.simulations.attacks.setup import NONE, check_attack
from cdc_flower.simulations.fleet import Fleet
from cdc_flower.simulations.grids.kinds import GridOptions, grids
from cdc_flower.simulations.protocol.encoding import codecs_of
from cdc_flower.simulations.requests.setup import policy_of
from cdc_flower.study.arms import strategies_of
from cdc_flower.study.check import checked_config
from cdc_flower.study.cloud import HistoricalStream
from cdc_flower.study.composing import ROOT
from cdc_flower.study.fleet_setup import fleet_of, network_of
from cdc_flower.study.nodes import without_leftovers
from cdc_flower.study.play import Playable
from cdc_flower.study.plays import (
    check_counts,
    check_generates,
    check_logs,
    check_plays,
    check_tells,
    tells,
)
from cdc_flower.study.references import references_of
from cdc_flower.study.trees import Config, Tree
from cdc_flower.tasks.protocol import Task
from cdc_flower.tasks.registry import tasks
from cdc_flower.training.cloud import Cloud

NO_EXPERIMENT = "none"


class PlayedStream(Stream, HistoricalStream, Protocol):
    """Data of every device in time, and from before."""


class PlayedStrategy(Playable, Protocol):
    """A strategy as a run plays it; see :class:`~cdc_flower.strategies.base.OnDevices`."""

    def prepare(self, cloud: Cloud) -> None:
        """Trains the cloud side on historical data."""

    def state(self) -> Arrays:
        """Gives what the cloud learned while the stream went on, by name."""


@dataclass(frozen=True)
class Setup:
    """Holds all that a run is made of.

    Attributes:
        stream: Of every device.
        model: Of the devices.
        fleet: Links and speeds.
        strategies: Name -> strategy, in the order of the configuration.
        references: Names of reference lines.
        task: Reports and scores of devices.
    """

    stream: PlayedStream
    model: DeviceModel
    fleet: Fleet
    strategies: dict[str, PlayedStrategy]
    references: list[str]
    task: Task

    @property
    def device_ids(self) -> np.ndarray:
        """``[n]``."""
        return np.arange(self.stream.num_devices)


def prepare(config: Config) -> Setup:
    """Makes everything that a run needs from its resolved configuration.

    Raises:
        UserError: If a value is wrong, a file is missing or a row is malformed.
    """
    config = checked_config(config)
    strategies = cast(dict[str, PlayedStrategy], strategies_of(config))
    check_plays(strategies, config["task"])
    check_tells(strategies, config["task"])
    codecs_of(config["protocol"])
    policy_of(config["policy"])
    check_attack(config.get("attack", NONE), strategies, tells(config["task"]))
    network = network_of(config["network"])
    fleet_of(config, network, 1)  # before data are read, which may take minutes
    built = tasks.find(config["task"], "task").value.build(config)
    check_generates(strategies, built.model)
    check_logs(strategies, built.stream)
    check_counts(strategies, built.stream.num_devices)
    fleet = fleet_of(config, network, built.stream.num_devices)
    return Setup(built.stream, built.model, fleet, strategies, references_of(config), built.task)


def resolved(config: DictConfig, overrides: Sequence[str] = (), config_name: str = ROOT) -> Tree:
    """Turns a composed configuration into plain values.

    An experiment without an ``experiment_name`` gets the name of its file.

    Args:
        config: As Hydra composed it.
        overrides: What it was composed with, such as ``experiment=video_arms``.
        config_name: Of the root configuration.

    Raises:
        UserError: If a value that must be given is missing, or one that it refers to does not
            exist.
    """
    try:
        settled = without_leftovers(config, overrides, config_name)
        container = OmegaConf.to_container(settled, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(
            f"{error.full_key} must be given on the command line or in a file"
        ) from error
    except OmegaConfBaseException as error:
        raise UserError(
            f"{getattr(error, 'full_key', 'config')}: {str(error).splitlines()[0]}"
        ) from error
    values = cast(Tree, container)
    if not values.get("experiment_name"):
        pairs = [text.partition("=")[::2] for text in overrides]
        chosen = [value for key, value in pairs if key.lstrip("+") == "experiment"]
        values["experiment_name"] = chosen[-1] if chosen else NO_EXPERIMENT
    return dict(values)


def grid_of(config: Config, setup: Setup) -> Grid:
    """Makes the grid that plays the devices."""
    kind = grids.of_node(config["grid"], "grid")
    make: Callable[..., GridOptions] = kind.value
    app = DeviceApp(setup.model, setup.stream, setup.task)
    return make(**kind.arguments(config["grid"])).grid(app, setup.device_ids)
