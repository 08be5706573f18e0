"""Small comparisons from Python, and strategies, models and data of a user's own."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra import compose
from omegaconf import DictConfig

import cdc_flower as cdc
from cdc_flower.models import gru4rec

#: Keys of a comparison that takes a moment.
SMALL: dict[str, object] = {
    "num_negatives": 9,
    "data": "shifting_interests",
    "data.history_events": 20,
    "data.num_items": 60,
    "cloud.epochs": 1,
}


def small(strategies: object = "static", **given: Any) -> cdc.Run:
    """A comparison of 6 devices in 2 segments; of embedded data where none are given."""
    config = {**SMALL, **given.pop("config", {})}
    if "data" in given:
        config = {
            key: value for key, value in config.items() if key.partition(".")[0] != "data"
        } | {key: value for key, value in given.pop("own", {}).items()}
    sizes = {"segments": 2} if "data" in given else {"devices": 6, "segments": 2}
    alone = {"controls": False} if "controls" not in config else {}
    return cdc.compare(strategies, **{**sizes, **alone, **given}, config=config)


_compose = cache(lambda name, overrides, whole: compose(name, list(overrides), whole))


def keep_compositions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Composes each configuration once: a comparison takes five, and the files stay the same."""

    def kept(name: str, overrides: Sequence[str], return_hydra_config: bool = False) -> DictConfig:
        return copy.deepcopy(_compose(name, tuple(overrides), return_hydra_config))

    for module in ("cdc_flower.study.composing", "cdc_flower.api.composing"):
        monkeypatch.setattr(f"{module}.compose", kept)


@dataclass(eq=False, repr=False)
class Nudge(cdc.CloudStrategy):
    """Counts its rounds, and deploys a model moved by them, so that an old state would show."""

    rate: float = cdc.option(0.5, least=0, neutral=0, doc="of the nudge")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rounds = 0

    def deployment(self) -> Any:
        arrays = dict(super().deployment())
        name = next(iter(self.cloud.model.adaptive))
        return {**arrays, name: arrays[name] + np.float32(self.rate * (1 + self.rounds))}

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        self.rounds += 1
        return super().aggregate_train(server_round, replies)


class WideGRU(gru4rec.GRU4Rec):
    """A device model of one's own."""

    def __init__(self, num_items: int, width: int = 8, history_length: int = 6) -> None:
        super().__init__(num_items, width, history_length)


def frame(num_users: int = 6, num_events: int = 24, num_items: int = 40) -> pd.DataFrame:
    """Events of users, of which one in a hundred comes again."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "user": np.repeat([f"u{number}" for number in range(num_users)], num_events),
            "item": np.concatenate(
                [rng.permutation(num_items)[:num_events] for _ in range(num_users)]
            ),
            "time": np.tile(pd.date_range("2024-01-01", periods=num_events, freq="h"), num_users),
        }
    )
