"""The rows of an unfinished run, a file for each strategy and segment."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from result_cases import frame_of

from cdc_flower.core.errors import UserError
from cdc_flower.tables import results
from cdc_flower.tables.parts import Parts

PLACE = ("movies", "persona")


def written(folder: Path, *segments: int, **changes: Any) -> Parts:
    parts = Parts(folder)
    for segment in segments:
        parts.append(frame_of(segment=segment, **changes))
    return parts


def test_a_part_is_written_in_place_of_the_one_before_it(tmp_path: Path) -> None:
    """Also by another process, and without a look at the folder for each part."""
    parts = written(tmp_path, 0, 1)
    parts.append(frame_of(segment=0, time_s=1.0))
    other = written(tmp_path, 1, time_s=2.0)
    assert [path.name for path in other.whole_paths()] == other.names(*PLACE)
    assert [pd.read_parquet(path)["time_s"].iloc[0] for path in other.whole_paths()] == [1.0, 2.0]


def test_a_folder_is_read_once_however_many_parts_it_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    glob = Path.glob

    def counting(path: Path, *args: Any, **kwargs: Any) -> Iterator[Path]:
        nonlocal looks
        looks += 1
        return glob(path, *args, **kwargs)

    monkeypatch.setattr(Path, "glob", counting)
    parts = written(tmp_path, 0)
    for segment in range(1, 20):
        parts.append(frame_of(segment=segment))
        assert len(parts.names(*PLACE, segment)) == segment  # for the state after it
    assert looks == 1


def test_a_part_that_somebody_took_is_told_where_the_whole_table_is_asked_for(
    tmp_path: Path,
) -> None:
    parts = written(tmp_path, 0, 1)
    assert parts.whole_names(*PLACE) == parts.names(*PLACE)
    (parts.of_strategy(*PLACE) / parts.names(*PLACE)[1]).unlink()
    with pytest.raises(UserError, match=r"000001-.*is gone; resume the run"):
        parts.whole_names(*PLACE)
    parts.clear()
    assert parts.names(*PLACE) == [] and not parts.whole_paths()


def test_many_parts_are_read_together_as_the_joined_table_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eleven thousand segments of 100 devices took five minutes, one by one."""
    parts = written(tmp_path / "parts", *range(30))
    parts.join(tmp_path / "results.parquet", [(PLACE[0], [PLACE[1]])])
    joined = results.read_results(tmp_path / "results.parquet")
    made = 0
    of_rows = results._runs_of_rows

    def counting(frame: pd.DataFrame) -> results.Results:
        nonlocal made
        made += 1
        return of_rows(frame)

    monkeypatch.setattr(results, "_runs_of_rows", counting)
    read = results.read_results(tmp_path / "parts")
    assert made == 1
    pd.testing.assert_frame_equal(read.cells, joined.cells)
    for metric in joined.metrics:
        columns = ["strategy", "segment", "device_id"]
        pd.testing.assert_frame_equal(read.rows(metric, columns), joined.rows(metric, columns))


def test_parts_without_a_column_that_others_have_are_read_beside_them(tmp_path: Path) -> None:
    parts = written(tmp_path, 0, 1, 2)
    middle = parts.of_strategy(*PLACE) / parts.names(*PLACE)[1]
    content = results.pq.read_table(middle).drop_columns(["num_told"])
    results.pq.write_table(content, middle)
    paths = [parts.of_strategy(*PLACE) / name for name in parts.names(*PLACE)]
    cells = results._read_files(paths).cells
    assert cells["segment"].unique().tolist() == [0, 1, 2]
    assert (cells.loc[cells["segment"] == 1, "num_told"] == 0).all()
