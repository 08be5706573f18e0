"""Small runs from a configuration, for the tests of whole runs."""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from rich.console import Console

SMALL = (
    "fleet.num_devices=8",
    "num_segments=2",
    "num_negatives=19",
    "data.history_events=20",
    "data.num_items=60",
    "cloud.epochs=1",
    "strategy.duet.epochs=1",
    "strategy.fedavg.num_train_devices=3",
    "report=false",  # most look at the table alone
)


def config_of(*overrides: str, small: Sequence[str] = SMALL) -> dict[str, Any]:
    with initialize_config_module("cdc_flower.configs", version_base="1.3"):
        config = compose("config", overrides=[*small, *overrides])
    resolved: Any = OmegaConf.to_container(config, resolve=True)
    return resolved


def quiet() -> Console:
    return Console(file=StringIO(), width=100)


def table_of(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "results.parquet")
