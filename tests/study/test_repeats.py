"""The table of a run is the same to the bit whatever else is played, in whatever order, and whether
what was trained comes from the cache.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from run_cases import config_of, played_table

from cdc_flower.strategies.registry import strategies
from cdc_flower.study.plays import strategies_that_play
from cdc_flower.study.table_differences import table_differences

NAMES = strategies_that_play("recommendation")
VIDEO = strategies_that_play("video_qa")
CLIPS = (
    "task=video_qa",
    "fleet.num_devices=4",
    "num_segments=2",
    "cloud.epochs=1",
    "data.clips_per_segment=3",
    "data.history_segments=2",
    "data.num_places=4",
    "model.width=16",
    "model.heads=2",
    "model.stem=16",
    "report=false",
    "controls=false",
    "references=[]",
)


def tiny(config: dict[str, Any], names: list[str], **changes: Any) -> dict[str, Any]:
    """The configuration with these strategies, each with settings of little work."""
    own = {name: {**config["strategy"][name], **strategies[name].facts.tiny} for name in names}
    return {**config, "strategies": names, "strategy": {**config["strategy"], **own}, **changes}


def played(names: list[str], out: Path, *, small: Any = None, **changes: Any) -> pd.DataFrame:
    config = config_of() if small is None else config_of(small=small)
    return played_table(tiny(config, names, out=str(out), **changes))


def are_the_same(one: pd.DataFrame, other: pd.DataFrame, name: str) -> bool:
    """Whether rows of a strategy are equal but for the run id, which hashes all that is played."""
    mine = [table[table["strategy"] == name].drop(columns="run_id") for table in (one, other)]
    return len(mine[0]) > 0 and table_differences(*mine) == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return played(NAMES, tmp_path_factory.mktemp("runs") / "whole")


@pytest.mark.parametrize("chosen", [NAMES[::-2], NAMES[-2::-2]], ids=["even", "odd"])
def test_neither_the_order_nor_the_other_strategies_change_a_bit(
    chosen: list[str], whole: pd.DataFrame, tmp_path: Path
) -> None:
    other = played(chosen, tmp_path / "run")
    assert other["strategy"].drop_duplicates().tolist() == chosen
    assert [name for name in chosen if not are_the_same(whole, other, name)] == []


def test_parameters_from_the_cache_change_no_byte_of_the_file(
    whole: pd.DataFrame, tmp_path: Path
) -> None:
    for name in ("trains", "reads"):
        again = played(NAMES, tmp_path / name, cache=str(tmp_path / "cache"))
        assert [each for each in NAMES if not are_the_same(whole, again, each)] == []
    one, two = ((tmp_path / name / "results.parquet").read_bytes() for name in ("trains", "reads"))
    assert one == two
    assert "parameters from" in (tmp_path / "reads" / "run.log").read_text()
    assert "parameters from" not in (tmp_path / "trains" / "run.log").read_text()


@pytest.mark.slow
def test_on_video_neither_order_nor_subset_nor_cache_change_a_bit(tmp_path: Path) -> None:
    one = played(VIDEO, tmp_path / "one", small=CLIPS)
    cache = str(tmp_path / "cache")
    others = {
        "order": played(VIDEO[::-1], tmp_path / "two", small=CLIPS, cache=cache),
        "subset": played(VIDEO[::2], tmp_path / "three", small=CLIPS),
        "cache": played(VIDEO, tmp_path / "four", small=CLIPS, cache=cache),
    }
    for what, other in others.items():
        names = VIDEO[::2] if what == "subset" else VIDEO
        assert [name for name in names if not are_the_same(one, other, name)] == [], what


@pytest.mark.ray
def test_the_number_of_workers_changes_numbers_by_rounding_alone(
    whole: pd.DataFrame, tmp_path: Path
) -> None:
    """Shards of devices are products of other sizes, which may add up in another order."""
    grid = config_of("grid=ray")["grid"]
    other = played(["static", "duet", "fedavg"], tmp_path / "run", grid=grid)
    for name in ("static", "duet", "fedavg"):
        mine = [table[table["strategy"] == name].drop(columns="run_id") for table in (whole, other)]
        assert all(each.is_rounding for each in table_differences(*mine)), name
