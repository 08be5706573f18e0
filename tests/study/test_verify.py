"""A sample of a run is played again, and every row and column is compared with its table."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from run_cases import config_of, quiet, table_of, without_summary
from tiny import table as played_table

from cdc_flower.core.errors import UserError
from cdc_flower.core.integrity import sealed_metadata
from cdc_flower.study import run as runs
from cdc_flower.study.table_differences import SUM_TOLERANCE, table_differences
from cdc_flower.study.verify import Sample, told_differences, verdicts
from cdc_flower.tables.columns import COLUMNS
from cdc_flower.training.parameter_files import read_parameters, write_parameters

pytestmark = pytest.mark.slow  # plays whole runs

TINY = ("fleet.num_devices=4", "num_segments=3", "strategies=[static,duet,fedavg]")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on narrow links, so that queues go on from segment to segment."""
    out = tmp_path_factory.mktemp("runs") / "run"
    with without_summary():
        return runs.run(config_of(*TINY, "network=nb_iot", f"out={out}"), console=quiet())


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def change(folder: Path, column: str, value: Any, strategy: str = "duet", segment: int = 1) -> None:
    """Changes a column of all devices in a segment of the table."""
    rows = table_of(folder)
    chosen = (rows["strategy"] == strategy) & (rows["segment"] == segment)
    rows.loc[chosen, column] = value(rows.loc[chosen, column])
    rows.to_parquet(folder / "results.parquet")


@pytest.mark.parametrize("segments", [1, 2, 3])
def test_what_is_played_again_is_equal_to_the_bit_up_to_any_segment(
    segments: int, finished: Path
) -> None:
    found = list(verdicts(finished, Sample(segments, ["static", "duet", "fedavg"])))

    assert [each.played.strategy for each in found] == ["static", "duet", "fedavg"]
    assert all(each.is_exact for each in found), [str(each) for each in found]
    assert {each.num_rows for each in found} == {4 * segments * 9}
    assert str(found[0]).startswith("recommendation, static: equal to the bit")
    assert told_differences(finished) == ["machine, libraries, code and data are those of the run"]


@pytest.mark.parametrize(
    "column", [name for name in COLUMNS.names if name not in ("strategy", "task")]
)
def test_a_change_of_any_column_is_seen(column: str, finished: Path) -> None:
    rows = table_of(finished)
    rows = rows[rows["strategy"] == "duet"].reset_index(drop=True)
    other = rows.copy()
    last = other.index[-1]
    if isinstance(other[column].dtype, pd.CategoricalDtype):
        other[column] = other[column].astype(str)
        other.loc[last, column] = "another"
    elif other[column].dtype.kind == "b":
        other.loc[last, column] = not other.loc[last, column]
    elif other[column].dtype.kind == "f":
        before = np.nan_to_num(other.loc[last, column])
        other.loc[last, column] = np.nextafter(before, np.inf)
    else:
        other.loc[last, column] += 1

    assert table_differences(rows, rows.sample(frac=1, random_state=0)) == []
    (found,) = table_differences(rows, other)
    assert found.column == (column if column not in ("segment", "device_id", "metric") else "rows")


def test_a_number_that_differs_by_more_than_cpus_do_is_told_with_its_place(folder: Path) -> None:
    change(folder, "value_sum", lambda values: values + (values.index == values.index[4]) * 0.5)
    rows = table_of(folder)
    changed = rows[(rows["strategy"] == "duet") & (rows["segment"] == 1)].iloc[4]

    static, duet = verdicts(folder, Sample(2, ["static", "duet"]))

    assert static.is_exact and not duet.is_within
    place = f"segment 1, device {changed['device_id']}, {changed['metric']}"
    assert "recommendation, duet: DIFFERENT (2 segments, 72 rows); " in str(duet)
    assert "value_sum differs in 1 row by up to 0.5 " in str(duet) and place in str(duet)
    (before,) = verdicts(folder, Sample(1, ["duet"]))
    assert before.is_exact  # what was changed is not in the first segment


def test_a_number_that_differs_as_between_cpus_is_within_but_not_exact(folder: Path) -> None:
    change(folder, "value_sum", lambda values: values * (1 + SUM_TOLERANCE / 2))
    (duet,) = verdicts(folder, Sample(2, ["duet"]))
    assert duet.is_within and not duet.is_exact


def test_a_whole_number_must_be_the_same_however_small_the_difference() -> None:
    rows = played_table("static").assign(bytes_down=10**9)
    (found,) = table_differences(rows, rows.assign(bytes_down=10**9 + 1))
    assert found.relative < SUM_TOLERANCE and not found.is_rounding


def test_two_candidates_that_change_places_are_rounding_and_many_that_do_alike_are_not() -> None:
    rows = played_table("static").assign(value_sum=3.0)

    def found(by: float, count: int) -> bool:
        other = rows.copy()
        other.loc[: count - 1, "value_sum"] += by
        (difference,) = table_differences(rows, other)
        return difference.is_rounding

    assert found(1e-4, 1) and not found(1e-4, len(rows))  # in the sum too
    assert not found(3.5e-3, 1)  # as when numbers of two rows are exchanged
    other = rows.copy()
    other.loc[: 2 * 9 - 1, "value_sum"] += np.repeat([3.5e-3, -3.5e-3], 9)
    (difference,) = table_differences(rows, other)
    assert difference.in_sums < 1e-9 and not difference.is_rounding


def test_one_column_that_is_within_does_not_hide_another_that_is_not(folder: Path) -> None:
    change(folder, "time_s", lambda values: values * (1 + SUM_TOLERANCE / 2))
    change(folder, "bytes_down", lambda values: values + 1)
    (duet,) = verdicts(folder, Sample(2, ["duet"]))
    assert [each.column for each in duet.differences] == ["time_s", "bytes_down"]
    assert not duet.is_within


def test_the_largest_difference_is_told_and_how_many_there_are() -> None:
    rows = played_table("static").assign(staleness_s=1.0)
    other = rows.copy()
    for row, by in ((3, 0.25), (40, 0.5), (44, 0.125)):
        other.loc[row, "staleness_s"] += by
    (found,) = table_differences(rows, other)
    place = rows.loc[40, ["segment", "device_id", "metric"]].tolist()
    assert (found.count, found.largest) == (3, 0.5)
    assert found.place == "segment {}, device {}, {}".format(*place)


def test_rows_that_are_missing_are_told(folder: Path) -> None:
    rows = table_of(folder)
    gone = (rows["strategy"] == "duet") & (rows["segment"] == 1) & (rows["device_id"] == 2)
    rows[~gone].to_parquet(folder / "results.parquet")
    (duet,) = verdicts(folder, Sample(2, ["duet"]))
    assert not duet.is_within
    assert "rows differs in 9 rows, first at segment 1, device 2, " in str(duet)


def test_two_strategies_are_drawn_with_the_seed_and_segments_are_those_of_the_table(
    folder: Path,
) -> None:
    rows = table_of(folder)
    rows[(rows["strategy"] != "static") | (rows["segment"] == 0)].to_parquet(
        folder / "results.parquet"
    )
    drawn = {
        tuple(each.played.strategy for each in verdicts(folder, Sample(1, seed=seed)))
        for seed in range(6)
    }
    assert len(drawn) > 1 and all(len(names) == 2 for names in drawn)
    (static,) = verdicts(folder, Sample(99, ["static"]))
    assert static.played.segments == 1 and static.is_exact


def test_another_machine_code_or_seed_is_told_first(folder: Path) -> None:
    path = folder / "provenance.yaml"
    found = yaml.safe_load(path.read_text())
    found["machine"]["cpu"] = "6502"
    path.write_text(yaml.safe_dump(found))
    (line,) = told_differences(folder)
    assert line.startswith("machine.cpu: 6502 then, ")
    path.unlink()
    assert told_differences(folder) == ["the folder does not say where the run was played"]


def test_parameters_are_trained_again_unless_those_of_the_cache_are_asked_for(
    tmp_path: Path,
) -> None:
    overrides = ("strategies=[static]", f"cache={tmp_path}/cache", f"out={tmp_path}/run")
    with without_summary():
        folder = runs.run(config_of(*TINY, *overrides), console=quiet())
    (path,) = (tmp_path / "cache").iterdir()
    key = sealed_metadata(path.read_bytes())["key"]
    values, curve = read_parameters(path, key) or ({}, [])
    write_parameters(path, {name: value * 2 for name, value in values.items()}, key, curve)

    (trained,) = verdicts(folder, Sample())
    (cached,) = verdicts(folder, Sample(cached=True))
    assert trained.is_exact and not cached.is_within


def test_what_cannot_be_played_again_is_refused_in_a_sentence(folder: Path) -> None:
    def refused(sample: Sample | None = None) -> str:
        with pytest.raises(UserError) as caught:
            list(verdicts(folder, sample or Sample()))
        return str(caught.value)

    assert "unknown strategy 'dute'; did you mean 'duet'?" in refused(Sample(2, ["dute"]))
    with pytest.raises(UserError, match="--segments must be >= 1, got 0"):
        Sample(0)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "strategies": ["apg"]}))
    assert "its table has no segment of a strategy that it configures" in refused()
    del config["references"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert "config.yaml must have the key references" in refused()
    (folder / "config.yaml").unlink()
    assert "it has no config.yaml" in refused()
    (folder / "results.parquet").unlink()
    assert "not a run folder, it has no results.parquet" in refused()


def test_numbers_beside_none_are_as_far_as_can_be() -> None:
    one = played_table("static")
    other = one.copy()
    other.loc[5, "value_sum"] = np.nan
    (found,) = table_differences(one, other)
    assert found.count == 1 and not found.is_rounding
    negative = other.assign(value_sum=np.copysign(other["value_sum"], -1))
    assert all(math.isfinite(each.relative) for each in table_differences(other, negative))
