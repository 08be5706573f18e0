"""Small runs from a configuration, for the tests of whole runs."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra import compose, initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from cdc_flower.study import run as runs
from cdc_flower.study.overrides import STRATEGY, package_groups

GROUPS = {STRATEGY, *package_groups()}
SMALL = (
    "fleet.num_devices=8",
    "num_segments=2",
    "num_negatives=19",
    "controls=false",  # most count the rows of strategies
    "data=shifting_interests",
    "data.history_events=20",
    "data.num_items=60",
    "cloud.epochs=1",
    "strategy.duet.epochs=1",
    "strategy.fedavg.num_train_devices=3",
    "report=false",  # most look at the table alone
)


@cache
def _files(choices: tuple[str, ...]) -> DictConfig:
    """The configuration with these files; reading them is what takes the time."""
    with initialize_config_module("cdc_flower.configs", version_base="1.3"):
        return compose("config", overrides=list(choices))


def composed_of(*overrides: str) -> DictConfig:
    """The configuration as Hydra composes it; each choice of files is read once."""
    changes = OverridesParser.create().parse_overrides(list(overrides))
    groups = [change for change in changes if change.key_or_group in GROUPS]
    choices = {change.key_or_group: change.input_line or "" for change in groups}  # the last counts
    composed = copy.deepcopy(_files(tuple(choices.values())))
    values = [change for change in changes if change.key_or_group not in GROUPS]
    ConfigLoaderImpl._apply_overrides_to_config(values, composed)
    return composed


def config_of(*overrides: str, small: Sequence[str] = SMALL) -> dict[str, Any]:
    """The configuration as plain values."""
    resolved: Any = OmegaConf.to_container(composed_of(*small, *overrides), resolve=True)
    return resolved


def quiet() -> Console:
    return Console(file=StringIO(), width=100)


def table_of(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "results.parquet")


@contextmanager
def without_summary() -> Iterator[None]:
    """Runs end with their table: a summary of a small one takes longer than the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "finish", lambda *args, **kwargs: None)
        yield


def played_table(config: dict[str, Any]) -> pd.DataFrame:
    """The table of a run, of which nothing else is asked."""
    with without_summary():
        return table_of(runs.run(config, console=quiet()))
