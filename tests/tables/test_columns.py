"""Columns: one row says all of a column, also where it comes from outside."""

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from result_cases import frame_of
from tiny import table

from cdc_flower.core.errors import UserError
from cdc_flower.report.comparison.tables import cost_table
from cdc_flower.simulations.links.accounting import Usage
from cdc_flower.tables.column import Column, Columns, Pool, Scope, Type
from cdc_flower.tables.column_docs import columns_in_markdown, with_columns
from cdc_flower.tables.columns import COLUMNS
from cdc_flower.tables.long_table import ResultsWriter, schema
from cdc_flower.tables.results import Results, read_results
from cdc_flower.tables.summary import summarize, summary_columns

PAGE = Path(__file__).parents[2] / "docs" / "results.md"


def energy(**changes: Any) -> Column:
    """A column that the package does not have."""
    fields: dict[str, Any] = {"unit": "J", "neutral": 0.0, "pooled": Pool.PER_DEVICE}
    fields |= {"in_summary": True, "heading": "energy J per device"}
    return Column("energy_j", "Energy that the device spent.", **(fields | changes))


def written(path: Path, frame: pd.DataFrame) -> Path:
    with ResultsWriter(path) as writer:
        writer.append(frame)
    return path


def test_a_column_from_outside_is_in_all_that_follows_from_columns(tmp_path: Path) -> None:
    with COLUMNS.including(energy()):
        assert schema().names[-1] == "energy_j" and str(schema().field("energy_j").type) == "double"
        usage = Usage.zeros(3)
        usage.energy_j[np.array([0, 2])] += [1.0, 3.0]
        frame = frame_of(**usage.facts(np.array([0, 2])))
        assert frame["energy_j"].tolist() == [1.0, 1.0, 3.0, 3.0]
        results = read_results(written(tmp_path / "r.parquet", frame))
        assert results.cells["energy_j"].tolist() == [1.0, 3.0]
        summary = summarize(results)
        assert summary["energy_j_per_device"].tolist() == [2.0, 2.0]
        sent = pd.DataFrame({"bytes_up": [0.0], "bytes_down": [0.0]}, index=["persona"])
        page = cost_table(summary, sent, {"persona": "#000"})
        assert "<th>energy J per device</th>" in page and "<td>2<" in page
        assert "| `energy_j` | float64 | J |" in columns_in_markdown()
    assert "energy_j" not in COLUMNS and not hasattr(Usage.zeros(1), "energy_j")
    assert "energy_j" not in schema().names and "energy_j_per_device" not in summary_columns()


def test_a_strategy_that_is_played_has_the_column_from_outside() -> None:
    with COLUMNS.including(energy(neutral=-2.0)):
        rows = table("static")
    assert rows["energy_j"].tolist() == [-2.0] * len(rows)
    pd.testing.assert_frame_equal(rows.drop(columns="energy_j"), table("static"))


def test_a_file_from_before_a_column_is_read_as_if_it_were_neutral(tmp_path: Path) -> None:
    path = written(tmp_path / "r.parquet", frame_of())
    place = Column("place", "Where it is.", Type.TEXT, neutral="nowhere", is_counted=False)
    with COLUMNS.including(energy(neutral=0.5)), COLUMNS.including(place):
        for results in (read_results(path), Results.of(pd.read_parquet(path))):
            assert results.cells["energy_j"].tolist() == [0.5, 0.5]
            assert results.cells["place"].tolist() == ["nowhere"] * 2
            assert summarize(results)["energy_j_per_device"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("pool", "name", "wanted"),
    [
        # Devices 10 and 11 have 1 and 3 in segment 0, 2 and 10 in segment 1.
        (Pool.TOTAL, "energy_j", 16.0),
        (Pool.PER_DEVICE, "energy_j_per_device", 8.0),
        (Pool.MEAN, "energy_j_mean", 4.0),
        (Pool.MEDIAN, "energy_j_median", 2.5),
    ],
)
def test_the_summary_pools_a_column_as_its_row_says(pool: Pool, name: str, wanted: float) -> None:
    with COLUMNS.including(energy(pooled=pool)):
        frames = [
            frame_of(energy_j=np.array([1.0, 3.0])),
            frame_of(segment=5, energy_j=np.array([2.0, 10.0])),
        ]
        summary = summarize(Results.of(pd.concat(frames)))
        assert summary[name].tolist() == [wanted, wanted]


def test_seconds_that_are_not_finite_are_left_out_of_a_mean() -> None:
    with COLUMNS.including(energy(pooled=Pool.MEAN)):
        frame = frame_of(energy_j=np.array([np.inf, 3.0]))
        assert summarize(Results.of(frame))["energy_j_mean"].tolist() == [3.0, 3.0]


def test_columns_of_every_scope_and_of_text_can_be_added() -> None:
    network = Column("network", "Of the run.", Type.TEXT, scope=Scope.RUN, neutral="")
    square = Column("value_square", "Sum of squares.", scope=Scope.METRIC, neutral=np.nan)
    place = Column("place", "Where the device is.", Type.TEXT, neutral="", is_counted=False)
    with COLUMNS.including(network), COLUMNS.including(square), COLUMNS.including(place):
        squares, places = np.arange(4.0).reshape(2, 2), np.array(["hill", "lake"])
        frame = frame_of(network="4g", value_square=squares, place=places)
        assert frame["network"].tolist() == ["4g"] * 4
        assert frame["value_square"].tolist() == [0.0, 1.0, 2.0, 3.0]
        assert frame["place"].tolist() == ["hill", "hill", "lake", "lake"]
        assert Results.of(frame).cells["place"].tolist() == ["hill", "lake"]
        bare = frame_of()
        assert bare["network"].tolist() == [""] * 4 and bare["value_square"].isna().all()


def test_every_column_of_a_frame_has_the_type_of_its_row() -> None:
    frame = frame_of(bytes_up=np.array([1, 2], np.int32), latency_s=0)
    for column in COLUMNS:
        if column.type is Type.TEXT:
            assert isinstance(frame[column.name].dtype, pd.CategoricalDtype)
        else:
            assert frame[column.name].dtype == column.dtype


def test_what_is_not_given_is_neutral_or_missed_by_name() -> None:
    assert frame_of()["num_late"].tolist() == [0] * 4
    with pytest.raises(UserError, match="facts: unknown column 'num_lat'; did you mean 'num_late'"):
        frame_of(num_lat=1)
    without = Columns(column for column in COLUMNS)
    assert without["num_examples"].neutral is None
    with pytest.raises(UserError, match="results: unknown column 'num_exampels'; did you mean"):
        without["num_exampels"]


@pytest.mark.parametrize("name", ["device_id", "num_examples", "seed", "value_count"])
def test_a_column_without_a_neutral_value_must_be_given(name: str) -> None:
    with pytest.raises(UserError, match=rf"the column '{name}' must be given"):
        frame_of(**{name: None})


def test_a_type_or_shape_that_loses_numbers_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="num_labels must be int64, got float64"):
        frame_of(num_labels=0.5)
    with pytest.raises(ValueError, match=r"seed must have shape \(\), got \(2,\)"):
        frame_of(seed=np.array([1, 2]))
    with pytest.raises(ValueError, match=r"device_id must have shape \(1,\), got \(\)"):
        frame_of(device_id=3)


def test_usage_begins_neutral_and_knows_its_columns() -> None:
    usage = Usage.zeros(2)
    assert set(vars(usage)) == {column.name for column in COLUMNS.counted}
    assert usage.bytes_up.tolist() == [0, 0] and usage.bytes_up.dtype == np.int64
    assert usage.staleness_s.tolist() == [0.0, 0.0] and np.isnan(usage.latency_s).all()
    with pytest.raises(AttributeError, match="counted column 'num_lat'; did you mean 'num_late'"):
        _ = usage.num_lat
    other = copy.deepcopy(usage)
    other.num_late[0] = 5
    assert usage.num_late.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neutral": None}, "energy_j: a counted column must be a number with a neutral value"),
        ({"type": Type.TEXT, "neutral": ""}, "energy_j: a counted column must be a number"),
        ({"pooled": Pool.NONE}, "energy_j: a column of the summary must be a pooled fact"),
        ({"is_fact": False}, "energy_j: a column of the summary must be a pooled fact"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        energy(**changes)


def test_a_name_is_an_identifier_and_taken_once() -> None:
    with pytest.raises(ValueError, match="identifier, got 'energy j'"):
        Column("energy j", "Energy.")
    for name in ("bytes_up", "bytes_up_per_device", "run"):
        with pytest.raises(UserError, match=f"got '{name}' twice"):
            COLUMNS.register(Column(name, "Taken.", neutral=0.0))


def test_the_page_of_columns_is_made_from_them() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_columns(page), "python -m cdc_flower.tables.column_docs docs/results.md"
    with pytest.raises(UserError, match="a page of columns must have"):
        with_columns("no marks")


def test_what_the_page_shows_reads_a_file_as_the_summary_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "results" / "runs" / "latest"
    folder.mkdir(parents=True)
    frame = pd.concat([frame_of(), frame_of(strategy="static", bytes_up=7)])
    summary = summarize(read_results(written(folder / "results.parquet", frame)))
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.setattr(COLUMNS, "_by_name", dict(COLUMNS._by_name))  # the page registers a column
    for block in code:
        exec(block, scope)
    assert "energy_j" in COLUMNS
    for _, row in summary.iterrows():
        assert scope["values"][row["strategy"], row["metric"]] == pytest.approx(row["mean"])
        assert scope["bytes_up"][row["strategy"]] == row["bytes_up_per_device"] * 2
