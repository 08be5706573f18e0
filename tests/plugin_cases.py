"""Modules of a user's own, as texts, and a place to write them where nothing of them stays."""

import copy
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton

from cdc_flower.cli import main
from cdc_flower.configs import find_methods
from cdc_flower.core.errors import UserError
from cdc_flower.core.registry import OWN_KINDS
from cdc_flower.simulations.network.formats import trace_formats
from cdc_flower.study import plugins
from cdc_flower.study.check import checked_config
from cdc_flower.study.composing import hydra_at
from cdc_flower.study.keys import check_overrides
from cdc_flower.study.setup import resolved

MEAN_POOL = "+model._target_=own_model.MeanPool"
NUDGE = "+strategy.nudge._target_=own_strategy.Nudge"
SMALL = (
    "fleet.num_devices=4",
    "num_segments=2",
    "num_negatives=9",
    "data=shifting_interests",
    "references=[]",
    "data.history_events=12",
    "data.num_items=40",
    "cloud.epochs=1",
    "controls=false",
    "report=false",
)
MODEL = '''
from cdc_flower.models.base import DeviceModel, item_embedding
from cdc_flower.models.layers import embed


class MeanPool(DeviceModel):
    """Takes the mean of the items of the history."""

    encoded = 0

    def __init__(self, num_items: int, width: int = 16, depth: int = 1):
        super().__init__(num_items, width, 10)
        self.head_sizes = ((width, width),) * depth

    def init_static(self, generator):
        return {"embedding": item_embedding(generator, self.num_items, self.width)}

    def tabulate(self, parameters):
        return parameters

    def item_states(self, parameters, history):
        return embed(parameters["embedding"], history)

    def encode(self, parameters, history, candidates):
        MeanPool.encoded += 1
        count = (history != 0).sum(-1, keepdim=True).clamp(min=1)
        states = self.item_states(parameters, history).sum(-2) / count
        return states.unsqueeze(-2), embed(parameters["embedding"], candidates)

    def flops(self, num_candidates):
        return self.head_flops(num_candidates)
'''
STRATEGY = '''
import numpy as np
from cdc_flower.strategies.base import CloudStrategy


class Nudge(CloudStrategy):
    """Shifts what was trained by a number."""

    def __init__(self, rate: float = 0.1):
        self.rate = rate

    def deployment(self):
        return {name: value + np.float32(self.rate) for name, value in super().deployment().items()}


class Plain:
    """No strategy."""
'''
WORLD = '''
from dataclasses import dataclass

import numpy as np
from cdc_flower.core.options import option
from cdc_flower.models.base import DeviceModel
from cdc_flower.simulations.fleet import Network
from cdc_flower.simulations.requests.policies import Policy
from cdc_flower.tasks.data.shifting_interests import InterestsOptions


@dataclass
class Slow:
    """Thin links."""

    rate_bps: float = option(1e3, above=0)

    def network(self):
        return Network("slow", rate_up_bps=self.rate_bps, rate_down_bps=self.rate_bps)


class Always(Policy):
    """Every other device, whatever its name says."""

    def __init__(self, first: int = 0):
        super().__init__()
        self.first = first

    def decide(self, device_ids, segment):
        return device_ids % 2 == self.first


@dataclass(eq=False)
class Odd(Policy):
    def decide(self, device_ids, segment):
        return device_ids % 2 == 1


class Undecided(Policy):
    pass


class Mine(InterestsOptions):
    """As the embedded data."""


class Frame:
    gives = "items"

    def __init__(self, path: str):
        self.path = path

    def stream(self, shape):
        raise AssertionError("no data are read where a mistake is told")


class Unsaid:
    def stream(self, shape):
        raise AssertionError("no data are read of a class that does not say what it gives")


class Missaid(Frame):
    gives = 3


class Positions(Always):
    def __init__(self, first, /):
        super().__init__(first)


class Items(DeviceModel):
    def __init__(self, width: int):
        super().__init__(3, width)

    init_static = tabulate = item_states = encode = flops = None


NUMBER = 3
'''
REGISTERED = """
from own_model import MeanPool
from own_strategy import Nudge
from own_world import Always, Mine, Slow
from cdc_flower.models.registry import models
from cdc_flower.simulations.networks import networks
from cdc_flower.simulations.requests.policies import policies
from cdc_flower.strategies.registry import strategies
from cdc_flower.tasks.data import data

models.register("mean_pool")(MeanPool)
strategies.register("nudge")(Nudge)
networks.register("slow")(Slow)
policies.register("every_other")(Always)
data.register("mine")(Mine)
"""
MODULES = {
    "own_model": MODEL,
    "own_strategy": STRATEGY,
    "own_world": WORLD,
    "own_plugin": REGISTERED,
    "broken": "import os\n1 / 0\n",
}


@contextmanager
def nothing_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Makes a folder the current one, and forgets what is imported from it and registered."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    registries = [pkgutil.resolve_name(path) for path in plugins.REGISTRIES.values()]
    registries.append(trace_formats)
    entries = [(registry, dict(registry._complete())) for registry in registries]
    modules = set(sys.modules)
    store = ConfigStore.instance()
    repo, own_kinds = copy.deepcopy(store.repo), set(OWN_KINDS)
    yield folder
    for registry, known in entries:
        registry._entries = known
    for name in set(sys.modules) - modules:
        if str(folder) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]
    store.repo = repo
    OWN_KINDS.clear()
    OWN_KINDS.update(own_kinds)


@contextmanager
def own_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with the modules above."""
    with nothing_stays(folder, monkeypatch):
        for name, text in MODULES.items():
            (folder / f"{name}.py").write_text(text)
        yield folder


def config_of(
    *overrides: str, config_dir: Path | None = None, config_name: str = "config"
) -> dict[str, Any]:
    """Composes a configuration as the command line does, with all checks before data are read."""
    with hydra_at(None if config_dir is None else str(config_dir)):
        free = check_overrides(overrides, config_name)
        config = resolved(compose(config_name, overrides=free), free, config_name)
    return checked_config({**config, "command": ""})


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of ``cdc-flower`` in this process."""
    state = Singleton.get_state()
    monkeypatch.setattr(sys, "argv", ["cdc-flower", *arguments])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        Singleton.set_state(state)
        find_methods()
    return 0


def refusal(*overrides: str, config_dir: Path | None = None) -> str:
    """The sentence with which a command line is refused, before data are read."""
    with pytest.raises(UserError) as caught:
        config_of(*overrides, config_dir=config_dir)
    text = str(caught.value)
    assert "\n" not in text
    return text


def write(folder: Path, files: dict[str, str]) -> Path:
    """Writes YAML files into a folder for ``--config-dir``."""
    for name, text in files.items():
        path = folder / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "configs"
