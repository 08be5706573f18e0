"""The results table: its rows, its file, and what is wrong with a file that is none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from result_cases import frame_of

from cdc_flower.core.errors import UserError
from cdc_flower.tables.columns import COLUMNS
from cdc_flower.tables.long_table import ResultsWriter


def test_a_segment_gives_one_row_per_device_and_metric() -> None:
    frame = frame_of()
    assert tuple(frame.columns) == COLUMNS.names
    assert frame["device_id"].tolist() == [10, 10, 11, 11]
    assert frame["metric"].tolist() == ["auc", "hr@10", "auc", "hr@10"]
    assert frame["value_sum"].tolist() == [0.5, 2.0, 0.75, 3.0]
    assert frame["value_count"].tolist() == [1.0, 4.0, 1.0, 5.0]
    assert frame["bytes_up"].tolist() == [100, 100, 200, 200]
    assert frame["bytes_down"].tolist() == [1000] * 4
    assert frame["latency_s"].isna().tolist() == [False, False, True, True]
    assert frame["strategy"].tolist() == ["persona"] * 4


def test_a_shape_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"bytes_up must have shape \(\) or \(2,\), got \(3,\)"):
        frame_of(bytes_up=np.zeros(3))
    with pytest.raises(ValueError, match=r"value_sum must have shape \(2, 2\), got \(2,\)"):
        frame_of(value_sum=np.zeros(2))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    frames = [frame_of(), frame_of(segment=5, strategy="duet", metrics=("auc", "ndcg@10"))]
    with ResultsWriter(tmp_path / "results.parquet") as writer:
        for frame in frames:
            writer.append(frame)
    read = pd.read_parquet(tmp_path / "results.parquet")
    for name in COLUMNS.names:
        assert read[name].tolist() == pytest.approx(pd.concat(frames)[name].tolist(), nan_ok=True)
    assert isinstance(read["strategy"].dtype, pd.CategoricalDtype)
    assert read["latency_s"].isna().sum() == 4


def test_several_joined_segments_can_be_appended_at_once(tmp_path: Path) -> None:
    with ResultsWriter(tmp_path / "r.parquet") as writer:
        writer.append(pd.concat([frame_of(), frame_of(strategy="duet")]))
    assert (
        pd.read_parquet(tmp_path / "r.parquet")["strategy"].tolist()
        == ["persona"] * 4 + ["duet"] * 4
    )


def test_an_interrupted_run_leaves_a_readable_file(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    with pytest.raises(KeyboardInterrupt), ResultsWriter(path) as writer:
        writer.append(frame_of())
        raise KeyboardInterrupt
    assert len(pd.read_parquet(path)) == 4


def test_a_run_without_rows_leaves_an_empty_table(tmp_path: Path) -> None:
    with ResultsWriter(tmp_path / "results.parquet"):
        pass
    read = pd.read_parquet(tmp_path / "results.parquet")
    assert len(read) == 0 and tuple(read.columns) == COLUMNS.names


def test_appending_outside_the_block_or_with_other_columns_is_refused(tmp_path: Path) -> None:
    writer = ResultsWriter(tmp_path / "results.parquet")
    with pytest.raises(ValueError, match="append must be called inside"):
        writer.append(frame_of())
    with writer, pytest.raises(ValueError, match="got \\['run_id'\\]"):
        writer.append(frame_of().drop(columns="run_id"))


def test_a_file_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="cannot be written"),
        ResultsWriter(tmp_path / "no" / "results.parquet"),
    ):
        pass
