"""Controls in whole runs: in the table beside their strategy, resumed, verified, and summarized."""

from pathlib import Path

import pandas as pd
import pytest
from api_cases import keep_compositions, small
from fault_cases import interrupted, resumed, tiny_config, whole_table
from run_cases import config_of, played_table, quiet, table_of
from video_tiny import video_table

from cdc_flower.core.errors import UserError
from cdc_flower.study import run as runs
from cdc_flower.study.check import checked_config
from cdc_flower.study.strategy_play import run_id_of
from cdc_flower.study.verify import Sample, verdicts

pytestmark = pytest.mark.slow  # plays whole runs

EACH = "checkpoint.every=1"
ARMS = ["duet", "duet@mean", "duet@other"]
TWO = ("strategies=[static,duet]", "controls=true")


def test_controls_stand_beside_their_strategy_in_the_table(tmp_path: Path) -> None:
    rows = played_table(config_of(*TWO, f"out={tmp_path / 'with'}"))
    bare = played_table(config_of(TWO[0], f"out={tmp_path / 'without'}"))
    assert list(dict.fromkeys(rows.strategy)) == ["static", *ARMS]
    assert set(bare.strategy) == {"static", "duet"}
    mine = rows[rows.strategy.isin(["static", "duet"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        mine.drop(columns="run_id"), bare.drop(columns="run_id"), check_categorical=False
    )


def test_controls_are_a_key_that_is_checked_and_changes_the_run() -> None:
    on, off = config_of("controls=true"), config_of("controls=false")
    assert run_id_of(on) != run_id_of(off)
    with pytest.raises(UserError, match="controls"):
        checked_config(config_of("controls=3"))


@pytest.mark.parametrize("name", ["mine@mean", "@", "a@b"])
def test_no_strategy_has_the_sign_of_controls_in_its_name(name: str) -> None:
    config = config_of("strategies=[static]")
    config["strategies"] = ["static", name]
    with pytest.raises(UserError, match="must have no '@', which is for controls, got"):
        runs.run(config, console=quiet())


@pytest.mark.parametrize("moment", [1, 2, 4, 5])
def test_a_run_with_controls_that_was_interrupted_goes_on_to_the_same_table(
    moment: int, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    two = ("strategies=[persona,duet]", "strategy.persona.downlink=edit", "controls=true")
    config = tiny_config(*two, EACH, out=str(tmp_path / "run"))
    interrupted(config, moment)
    assert resumed(config) == whole_table(tmp_path_factory, *two)


def test_what_is_verified_has_its_controls(tmp_path: Path) -> None:
    out = tmp_path / "run"
    runs.run(config_of(*TWO, f"out={out}"), console=quiet())
    found = list(verdicts(out, Sample(2, ["duet"])))
    assert [each.played.strategy for each in found] == ARMS
    assert all(each.is_exact for each in found)
    rows = table_of(out)
    chosen = (rows.strategy == "duet@mean") & (rows.metric == "auc")
    rows.loc[chosen, "value_sum"] += 0.1
    rows.to_parquet(out / "results.parquet")
    broken = {each.played.strategy: each.is_exact for each in verdicts(out, Sample(2, ["duet"]))}
    assert broken == {"duet": True, "duet@mean": False, "duet@other": True}


def test_a_comparison_from_python_has_controls_unless_it_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep_compositions(monkeypatch)
    found = small(["static", "duet"], controls=True)
    assert found.strategies == ["static", "duet"]
    assert set(found.results.strategy) == {"static", *ARMS}
    assert set(found.summary.strategy) == {"static", "duet"}
    mine = found.summary[found.summary.strategy == "duet"]
    assert mine[["minus_mean", "minus_other", "mean_diff", "other_diff"]].notna().all(axis=None)
    assert found.summary[found.summary.strategy == "static"].minus_mean.isna().all()
    assert "@" not in repr(found)
    none = small(["static", "duet"], controls=False)
    assert set(none.results.strategy) == {"static", "duet"}
    assert none.summary.minus_mean.isna().all()


def test_controls_of_video_have_the_costs_of_their_method() -> None:
    rows = video_table("cdc_mmpg", controls=True).astype({"strategy": str})
    assert list(dict.fromkeys(rows.strategy)) == ["cdc_mmpg", "cdc_mmpg@mean", "cdc_mmpg@other"]
    costs = ["bytes_up", "bytes_down", "num_labels", "latency_s", "staleness_s"]
    parts = [mine[costs].reset_index(drop=True) for _, mine in rows.groupby("strategy")]
    for other in parts[1:]:
        pd.testing.assert_frame_equal(parts[0], other)
