"""Which strategy plays which task is declared, and checked before any data are read."""

from typing import Any

import pytest
from flwr.serverapp.strategy import FedAvg as FlowersFedAvg
from run_cases import composed_of

from cdc_flower.core.errors import UserError
from cdc_flower.strategies.registry import build_strategy, strategies
from cdc_flower.study.plays import check_plays, plays, strategies_that_play
from cdc_flower.study.setup import prepare, resolved
from cdc_flower.tasks.registry import tasks

PAIRS = [(name, task) for name in strategies for task in tasks]
WRONG = [(name, task) for name, task in PAIRS if not plays(strategies[name].value, task)]


class DataRead(Exception):
    """Data were read."""


def prepare_without_data(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise DataRead

    for entry in tasks.entries():
        monkeypatch.setattr(entry.value, "build", refuse)
    prepare(resolved(composed_of(*overrides)))


@pytest.mark.parametrize(("name", "task"), WRONG)
def test_a_pair_that_does_not_fit_is_refused_before_the_data_are_read(
    name: str, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError) as refused:
        prepare_without_data(monkeypatch, f"task={task}", f"strategies=[{name}]")
    text = str(refused.value)
    assert text.startswith(f"strategies: {name} cannot play task={task}") and "\n" not in text
    assert all(other in text for other in strategies_that_play(task))
    assert all(other in text for other in tasks if plays(strategies[name].value, other))


@pytest.mark.parametrize(("name", "task"), [pair for pair in PAIRS if pair not in WRONG])
def test_a_pair_that_fits_goes_on_to_the_data(
    name: str, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataRead):
        prepare_without_data(monkeypatch, f"task={task}", f"strategies=[{name}]")


def test_all_but_cdc_mmpg_play_all_tasks_and_it_plays_video() -> None:
    assert WRONG == [("cdc_mmpg", "recommendation")]
    assert list(tasks) == ["recommendation", "video_qa", "video_retrieval"]


def test_an_arm_is_named_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="strategies: whole_clip cannot play task=recommendation"):
        prepare_without_data(
            monkeypatch,
            "strategies=[static,whole_clip]",
            "+strategy.whole_clip={method: cdc_mmpg, arm: full_clip}",
        )


def test_a_strategy_of_flowers_own_declares_nothing_and_plays_everything() -> None:
    for task in tasks:
        check_plays({"stock": FlowersFedAvg()}, task)


def test_one_that_reads_nothing_that_is_told_plays_no_task() -> None:
    odd: Any = build_strategy("duet", {})
    odd.reads = frozenset({"smells"})
    with pytest.raises(
        UserError, match=r"odd cannot play task=video_qa.* reads smells; it plays no task"
    ):
        check_plays({"odd": odd}, "video_qa")
