"""A task of one's own, with its data and its model, plays without a change in the package."""

import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import own_task
import pytest
from run_cases import config_of, quiet, table_of

from cdc_flower.core.errors import UserError
from cdc_flower.models.registry import models
from cdc_flower.study import run as runs
from cdc_flower.study.setup import prepare
from cdc_flower.tasks.data import StreamShape, data
from cdc_flower.tasks.data.registry import DataOptions
from cdc_flower.tasks.registry import tasks


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The task, which is forgotten after the test."""
    for registry in (tasks, data, models):
        known = {entry.name: entry for entry in registry.entries()}  # type: ignore[attr-defined]
        monkeypatch.setattr(registry, "_entries", known)
    own_task.register()
    yield


def own_config(*overrides: str, **values: Any) -> dict[str, Any]:
    """A configuration of the task; further values stand at its top."""
    small = ["fleet.num_devices=4", "num_segments=3", "report=false", "cloud.epochs=3"]
    config = config_of("strategies=[static,fedavg]", *overrides, small=small)
    node = {"name": "numbers", "num_items": 6}
    return {
        **config,
        "task": "even_or_odd",
        "data": node,
        "model": {"name": "parity", "width": 4},
        **values,
    }


def test_static_and_fedavg_play_a_task_of_ones_own(own: None, tmp_path: Path) -> None:
    config = own_config(f"out={tmp_path}/run", "strategy.fedavg.rate=0.3")
    table = table_of(runs.run(config, console=quiet()))

    assert set(table["task"]) == {"even_or_odd"} and set(table["metric"]) == {"accuracy"}
    assert (table["value_count"] == own_task.PER_SEGMENT).all()
    assert len(table) == 2 * 4 * 3  # strategies, devices, segments
    learned = table[table["strategy"] == "fedavg"]
    assert (learned["bytes_down"] > 0).any()
    shares = table.groupby("strategy", observed=True)["value_sum"].sum()
    assert shares["fedavg"] != shares["static"]  # what it learned is in use


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"data": {"name": "shifting_interests"}},
            "data must give numbers with task=even_or_odd, such as numbers; "
            "shifting_interests gives items",
        ),
        (
            {"model": {"name": "gru4rec"}},
            "model must be one that reads numbers with task=even_or_odd, such as parity; "
            "gru4rec reads items",
        ),
        ({"data": {"name": "numbers", "num_items": 1}}, "data.num_items must be a whole number"),
        ({"model": {"name": "parity", "depth": 2}}, "model: unknown key 'depth'"),
        ({"references": ["markov"]}, "references must be empty with task=even_or_odd"),
        ({"task": "even_or_od"}, "task: unknown task 'even_or_od'; did you mean 'even_or_odd'"),
    ],
)
def test_what_does_not_fit_it_is_refused_in_one_sentence_before_data_are_read(
    own: None, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], text: str
) -> None:
    monkeypatch.setattr(own_task.NumberOptions, "stream", None)
    with pytest.raises(UserError) as caught:
        prepare(own_config(**values))
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)


def test_a_strategy_that_reads_what_its_devices_do_not_tell_is_refused(own: None) -> None:
    with pytest.raises(UserError, match="duet cannot play task=even_or_odd"):
        prepare(own_config(strategies=["static", "duet"]))


@pytest.mark.parametrize("policy", ["on_drift", "uncertainty"])
def test_a_policy_that_looks_at_devices_says_that_the_task_has_no_view_of_them(
    own: None, policy: str, tmp_path: Path
) -> None:
    pytest.importorskip("river")
    config = own_config(f"policy={policy}", f"out={tmp_path}/run")
    with pytest.raises(UserError, match=r"policy must be one without .* this task has none"):
        runs.run(config, console=quiet())


class Doubled(DataOptions):
    """Data that name their builder by its path."""

    builder: ClassVar[str] = f"{__name__}:twice_the_segments"


def twice_the_segments(options: Doubled, shape: StreamShape) -> tuple[float, int]:
    return options.segment_s, 2 * shape.num_segments


def test_data_make_their_stream_by_the_path_of_a_builder() -> None:
    assert Doubled(segment_s=5.0).stream(StreamShape(num_segments=3, seed=0)) == (5.0, 6)


def test_data_with_neither_a_builder_nor_a_method_say_so() -> None:
    with pytest.raises(TypeError, match="DataOptions must have a builder or a method stream"):
        DataOptions().stream(StreamShape(num_segments=3, seed=0))


@pytest.mark.parametrize("name", list(data))
def test_the_builder_of_every_kind_of_data_can_be_found(name: str) -> None:
    kind = data[name].value
    assert issubclass(kind, DataOptions)
    assert callable(pkgutil.resolve_name(kind.builder))
