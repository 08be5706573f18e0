"""Results in memory: each cell once, each number as it was in the long table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_cases import frame_of

from cdc_flower.core.errors import UserError
from cdc_flower.tables import results as cells
from cdc_flower.tables.columns import COLUMNS
from cdc_flower.tables.long_table import ResultsWriter
from cdc_flower.tables.results import Results, cell_key, joined, read_results


def long_table() -> pd.DataFrame:
    """Two segments of one strategy, and one of another that has another metric besides."""
    frames = [
        frame_of(),
        frame_of(segment=5, bytes_up=np.array([300, 2**40])),
        frame_of(strategy="duet", metrics=("auc", "ndcg@10")),
    ]
    return pd.concat(frames, ignore_index=True)


def rows_of(frame: pd.DataFrame, metric: str) -> list[tuple]:
    """The rows of a metric: what the cell is known by, its facts and its values."""
    columns = [*COLUMNS.keys, *COLUMNS.facts, "value_sum", "value_count"]
    return (
        frame.loc[frame["metric"] == metric, columns].fillna(-1.0).to_records(index=False).tolist()
    )


def rows_held(results: Results, metric: str) -> list[tuple]:
    """The same of results in memory."""
    return (
        results.rows(metric, [*COLUMNS.keys, *COLUMNS.facts])
        .fillna(-1.0)
        .to_records(index=False)
        .tolist()
    )


def written(path: Path, frames: list[pd.DataFrame]) -> Path:
    with ResultsWriter(path) as writer:
        for frame in frames:
            writer.append(frame)
    return path


def test_a_cell_is_held_once_however_many_metrics_it_has() -> None:
    frame = long_table()
    results = Results.of(frame)
    assert frame["bytes_down"].sum() == 2 * 3 * 2000
    assert results.cells["bytes_down"].sum() == 3 * 2000
    assert len(results.cells) == 6 and results.metrics == ["auc", "hr@10", "ndcg@10"]
    assert tuple(results.cells.columns) == (*cell_key(), *COLUMNS.facts)


def test_numbers_come_out_as_they_went_in() -> None:
    odd = np.array([[0.1, 2.0], [np.inf, np.nan]])
    large = np.array([[1e300, 16_777_217.0], [-0.0, 0.3]])
    for values in (odd, large):
        rows = Results.of(frame_of(value_sum=values, value_count=values[::-1])).rows(
            "auc", ["device_id"]
        )
        np.testing.assert_array_equal(rows["value_sum"], values[:, 0])
        np.testing.assert_array_equal(rows["value_count"], values[::-1, 0])
        assert rows["value_sum"].dtype == np.float64
    for metric in ("auc", "hr@10", "ndcg@10"):
        assert rows_held(Results.of(long_table()), metric) == rows_of(long_table(), metric)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 9999))
def test_rows_may_stand_in_any_order(seed: int) -> None:
    frame = long_table().sample(frac=1.0, random_state=seed)
    results = Results.of(frame)
    assert len(results.cells) == 6
    for metric in ("auc", "hr@10", "ndcg@10"):
        assert rows_held(results, metric) == rows_of(frame, metric)


@pytest.mark.parametrize("rows_per_chunk", [1, 3, 1000])
def test_a_file_is_read_in_parts_of_any_size(
    rows_per_chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "_ROWS_PER_CHUNK", rows_per_chunk)
    frame = long_table()
    # The row groups end in the middle of a cell: it is one all the same.
    parts = [frame.iloc[:3], frame.iloc[3:8], frame.iloc[8:]]
    results = read_results(written(tmp_path / "r.parquet", parts))
    pd.testing.assert_frame_equal(
        results.cells, Results.of(frame).cells, check_dtype=False, check_categorical=False
    )
    for metric in ("auc", "hr@10", "ndcg@10"):
        assert rows_held(results, metric) == rows_of(frame, metric)


def test_several_results_are_joined_as_their_long_tables_would_be() -> None:
    frames = [long_table(), long_table().assign(run_id="r0", seed=300)]
    results = joined([Results.of(frame) for frame in frames])
    both = pd.concat(frames, ignore_index=True)
    assert len(results.cells) == 12 and results.cells["run_id"].unique().tolist() == ["r1", "r0"]
    for metric in ("auc", "hr@10", "ndcg@10"):
        assert rows_held(results, metric) == rows_of(both, metric)


def test_some_cells_keep_their_own_values() -> None:
    frame, results = long_table(), Results.of(long_table())
    some = results.where((results.cells["device_id"] == 11).to_numpy())
    for metric in ("auc", "hr@10", "ndcg@10"):
        assert rows_held(some, metric) == rows_of(frame[frame["device_id"] == 11], metric)
    duet = results.where((results.cells["strategy"] == "duet").to_numpy())
    assert duet.metrics == ["auc", "ndcg@10"] and len(duet.rows("hr@10", cell_key())) == 0
    assert results.where(np.ones(6, bool)) is results


def test_cells_can_be_labelled() -> None:
    results = Results.of(long_table())
    assert set(results.cells["run"]) == {""}
    labelled = results.assign(run="4g", age=np.arange(6))
    assert set(labelled.rows("auc", ["run"])["run"]) == {"4g"}
    assert labelled.rows("hr@10", ["age"])["age"].tolist() == [0, 1, 2, 3]


def test_a_run_without_rows_has_no_cells(tmp_path: Path) -> None:
    results = read_results(written(tmp_path / "r.parquet", []))
    assert results.cells.empty and results.metrics == []
    assert tuple(results.cells.columns) == (*cell_key(), *COLUMNS.facts)


def test_an_interrupted_run_is_read(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ResultsWriter(tmp_path / "r.parquet") as writer:
        writer.append(frame_of())
        raise KeyboardInterrupt
    assert len(read_results(tmp_path / "r.parquet").cells) == 2


def test_a_missing_or_foreign_file_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such results file"):
        read_results(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(UserError, match="not a readable results file"):
        read_results(tmp_path / "text.parquet")
    frame_of()[["seed", "segment"]].to_parquet(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="not a results file, it lacks the columns run_id"):
        read_results(tmp_path / "other.parquet")
