"""Parts of a user's own that are given to a comparison by a registered name, or as a class."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
from api_cases import small
from flwr.serverapp.strategy import FedAdagrad
from plugin_cases import nothing_stays

import cdc_flower as cdc
from cdc_flower.study.catalog import described, entries_of
from cdc_flower.tasks.recommendation.task import Recommendation


@dataclass(frozen=True)
class Bus:
    """A slow link."""

    rate_bps: float = cdc.option(1e3, above=0, doc="bit/s")

    def network(self) -> cdc.Network:
        return cdc.Network("bus", rate_up_bps=self.rate_bps, rate_down_bps=self.rate_bps)


@dataclass(frozen=True, kw_only=True)
class Clicks(cdc.FrameData):
    """Four users."""

    num_users: int = cdc.option(4, least=2, doc="users")

    def frame(self, seed: int) -> pd.DataFrame:
        rows = range(40 * self.num_users)
        return pd.DataFrame(
            {
                "user": [row // 40 for row in rows],
                "item": [(row * 7) % 30 for row in rows],
                "time": [row % 40 for row in rows],
            }
        )


class Dot(torch.nn.Module):
    """Matches the last item."""

    adaptive = ("head",)

    def __init__(self, num_items: int, width: int = 8) -> None:
        super().__init__()
        self.items = torch.nn.Embedding(num_items + 1, width)
        self.head = torch.nn.Linear(width, width)

    def forward(self, history: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        last = self.head(self.items(history[:, -1]))
        return (self.items(candidates) @ last.unsqueeze(-1)).squeeze(-1)


class Ranking(Recommendation):
    """Ranks as recommendation does."""


class Raw(FedAdagrad):
    """Averages as Flower does."""


@pytest.fixture(autouse=True)
def only_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with nothing_stays(tmp_path, monkeypatch):
        yield


def test_a_registered_network_is_chosen_by_its_name_and_takes_its_keys() -> None:
    cdc.register("network", "bus")(Bus)
    run = small(network="bus", config={"network.rate_bps": 5e3})
    assert run.config["network"] == {"name": "bus", "rate_bps": 5e3}
    assert "bus" in cdc.list_of("networks")


def test_registered_data_and_a_registered_model_are_chosen_by_their_names() -> None:
    cdc.register("data", "clicks")(Clicks)
    cdc.register("model", "dot")(Dot)
    run = small(data="clicks", model="dot", own={"data.num_users": 3, "model.width": 4})
    assert run.config["data"]["num_users"] == 3 and run.config["model"]["name"] == "dot"
    assert run.costs["device_id"].nunique() == 3
    assert "clicks" in cdc.list_of("data") and "dot" in cdc.list_of("models")


def test_a_class_or_an_object_makes_the_network() -> None:
    by_class = small(network=Bus, config={"network.rate_bps": 5e3})
    by_object = small(network=Bus(5e3))
    assert by_class.config["network"] == by_object.config["network"]
    assert by_class.config["network"]["rate_bps"] == 5e3
    assert by_class.config["network"]["name"] == "bus"
    with pytest.raises(cdc.UserError, match=r"network.rate_bps must be a number > 0, got -1"):
        small(network=Bus, config={"network.rate_bps": -1})


def test_a_registered_class_is_a_task_and_another_is_told_how() -> None:
    with pytest.raises(cdc.UserError, match=r'@cdc.register\("task", NAME\) names, got Ranking'):
        small(task=Ranking)
    cdc.register("task", "ranking", reads="items")(Ranking)
    assert set(small(task=Ranking).results["task"]) == {"ranking"}


def test_a_raw_strategy_of_flowers_is_described_with_all_that_can_be_set() -> None:
    cdc.register("strategy", "raw")(Raw)
    (entry,) = described("raw")
    names = {each.name for each in entry.options}
    assert {"eta", "layers", "optimizer"} <= names  # of Flower's class, and of training on devices
    assert entry.summary == "Averages as Flower does."
    assert {each.name for each in entries_of("strategies")["raw"].options} == names
