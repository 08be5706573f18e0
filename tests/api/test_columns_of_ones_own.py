"""Columns of the results that functions of a user's own make of the others."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from api_cases import small
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import cdc_flower as cdc
from cdc_flower.tables.column import Column
from cdc_flower.tables.columns import COLUMNS
from cdc_flower.tables.made_columns import made_columns

pytestmark = pytest.mark.slow  # plays whole runs

Known = Mapping[str, NDArray]


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(COLUMNS, "_by_name", dict(COLUMNS._by_name))
    yield


def energy(known: Known) -> NDArray:
    """Energy of the radio. In joules."""
    return 0.5 * known["bytes_up"]


def test_a_column_is_in_costs_summary_and_a_folder_that_others_can_read(tmp_path: Path) -> None:
    cdc.register("column", "energy_j", unit="J", pooled="per_device", in_summary=True)(energy)

    run = small(["static", "duet"], config={"references": ["markov"]})

    costs = run.costs
    np.testing.assert_array_equal(costs["energy_j"], 0.5 * costs["bytes_up"])
    assert costs["energy_j"].sum() > 0
    summary = run.summary
    np.testing.assert_allclose(
        summary["energy_j_per_device"], 0.5 * summary["bytes_up_per_device"], rtol=1e-9
    )
    assert COLUMNS["energy_j"].doc == "Energy of the radio. In joules."
    folder = run.save(tmp_path / "run")
    assert "energy_j" in cdc.load(folder).costs
    code = "import sys, cdc_flower as cdc; print(*cdc.load(sys.argv[1]).costs)"
    told = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "bytes_up" in told and "energy_j" not in told


def test_a_folder_from_before_the_column_has_its_neutral_value(tmp_path: Path) -> None:
    folder = small().save(tmp_path / "run")
    cdc.register("column", "energy_j", pooled="mean", in_summary=True)(energy)
    loaded = cdc.load(folder)
    assert loaded.costs["energy_j"].isna().all() and loaded.summary["energy_j_mean"].isna().all()


def test_a_column_may_be_made_of_one_that_was_registered_before_it() -> None:
    cdc.register("column", "energy_j")(energy)
    cdc.register("column", "energy_mj")(lambda known: 1e3 * known["energy_j"])
    made = made_columns({"device_id": np.arange(2), "bytes_up": np.array([2, 4])})
    assert made["energy_j"].tolist() == [1.0, 2.0] and made["energy_mj"].tolist() == [1e3, 2e3]


def test_a_cell_of_a_notebook_that_is_run_again_puts_its_function_in_place() -> None:
    cdc.register("column", "energy_j")(energy)

    def again(known: Known) -> NDArray:
        return 2.0 * known["bytes_up"]

    again.__module__, again.__qualname__ = energy.__module__, energy.__qualname__
    cdc.register("column", "energy_j")(again)
    made = made_columns({"device_id": np.arange(2), "bytes_up": np.array([2, 4])})
    assert made["energy_j"].tolist() == [4.0, 8.0]
    with pytest.raises(cdc.UserError, match="names of their own, got 'energy_j' twice"):
        cdc.register("column", "energy_j")(lambda known: known["bytes_up"])


@pytest.mark.parametrize(
    ("function", "facts", "told"),
    [
        (lambda known: known["bytes_upp"], {}, "column mine: unknown column 'bytes_upp'; did you"),
        (lambda known: np.ones(3), {}, r"for each device \(1 device\), got the shape \(3,\)"),
        (lambda known: known["latency_s"], {"type": "int64"}, "must return int64, got float64"),
        (lambda known: "far", {}, "must return float64, got <U3"),
        (lambda known: None, {}, "must return float64, got object"),
        (energy, {"pooled": "sum"}, "unknown pooled 'sum'"),
        (energy, {"scope": "metric"}, "unknown fact 'scope'"),
        (energy, {"in_summary": True}, "must be a pooled fact"),
        (energy, {"neutral": None}, "with a neutral value"),
    ],
)
def test_a_column_that_cannot_be_made_is_told_before_anything_runs(
    function: object, facts: dict[str, object], told: str
) -> None:
    with pytest.raises(cdc.UserError, match=told):
        cdc.register("column", "mine", **facts)(function)
    assert "mine" not in COLUMNS


@given(
    sent=st.lists(st.integers(0, 2**40), min_size=0, max_size=5),
    factor=st.floats(-1e6, 1e6),
    is_given=st.booleans(),
)
def test_functions_see_every_column_of_a_device_and_cannot_change_them(
    sent: list[int], factor: float, is_given: bool
) -> None:
    facts = {"device_id": np.arange(len(sent), dtype=np.int32)}
    if is_given:
        facts["bytes_up"] = np.array(sent, np.int64)

    def scaled(known: Known) -> NDArray:
        assert all(len(known[name]) == len(sent) for name in known)
        with pytest.raises(ValueError, match="read-only"):
            known["bytes_up"].fill(1)
        return factor * known["bytes_up"]

    with COLUMNS.including(Column("scaled", "Scaled.", neutral=np.nan, made_of=scaled)):
        made = made_columns(facts)["scaled"]
    expected = factor * np.array(sent if is_given else [0] * len(sent), np.float64)
    np.testing.assert_array_equal(made, expected)
