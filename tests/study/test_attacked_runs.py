"""Runs with hostile devices: who is marked, what summaries leave out, and what is said of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from run_cases import config_of, played_table, quiet, table_of

from cdc_flower.report import Comparison, read_folder, write_report
from cdc_flower.study import run as runs
from cdc_flower.study.check import checked_config
from cdc_flower.study.strategy_play import run_id_of
from cdc_flower.tables.results import Results
from cdc_flower.tables.summary import summarize

pytestmark = pytest.mark.slow  # plays whole runs

ATTACK = ("attack=sign_flip", "attack.scale=10", "attack.share=0.25")
WORDS = "attack: 2 of 8 devices are hostile (sign_flip); values, differences and costs are of the"


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("attacked") / "run"
    lines = ("strategies=[static,fedavg,duet]", "references=[popularity]", "controls=true")
    runs.run(config_of(*lines, *ATTACK, f"out={out}"), console=quiet())
    return out


def test_the_same_devices_are_hostile_for_every_strategy_control_and_line(attacked: Path) -> None:
    rows = table_of(attacked)
    marked = rows.groupby("strategy", observed=True).apply(
        lambda own: tuple(sorted(set(own[own.is_hostile].device_id))), include_groups=False
    )
    assert {"static", "fedavg", "duet", "duet@mean", "popularity"} <= set(marked.index)
    assert len(set(marked)) == 1 and len(marked.iloc[0]) == round(0.25 * 8)


def test_the_summary_is_that_of_a_table_without_the_hostile_devices(attacked: Path) -> None:
    rows = table_of(attacked)
    honest = summarize(Results.of(rows[~rows.is_hostile]))
    written = pd.read_csv(attacked / "summary.csv")
    assert written.num_devices.unique().tolist() == [6]
    for name in ("mean", "diff", "bytes_up_per_device", "num_labels"):
        np.testing.assert_allclose(written[name], honest[name], rtol=1e-6)
    np.testing.assert_array_equal(summarize(Results.of(rows))["mean"], honest["mean"])
    whole = summarize(Results.of(rows.assign(is_hostile=False)))
    assert not np.allclose(whole["mean"], honest["mean"])


def test_report_and_terminal_say_whom_they_leave_out(attacked: Path, tmp_path: Path) -> None:
    comparison = Comparison.of([read_folder(attacked)])
    assert any(words.startswith(WORDS) for words in comparison.notes_of_base)
    assert not comparison.played.cells.is_hostile.any()
    write_report(comparison, tmp_path / "report.html")
    assert WORDS in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_without_an_attack_nobody_is_marked_and_nothing_is_said(tmp_path: Path) -> None:
    out = tmp_path / "run"
    runs.run(config_of("strategies=[static]", f"out={out}"), console=quiet())
    assert not table_of(out).is_hostile.any()
    assert not any("hostile" in words for words in Comparison.of([read_folder(out)]).notes)


def test_runs_under_other_attacks_stand_side_by_side(attacked: Path) -> None:
    from cdc_flower.report.folders import run_labels

    one = read_folder(attacked)
    other: dict[str, Any] = {**one.config, "attack": {"name": "none"}}
    labels = run_labels([one, type(one)(one.name, one.results, other)])
    assert labels == ["sign_flip · 0.25 hostile", "none · – hostile"]


def test_a_configuration_from_before_there_were_attacks_is_one_without() -> None:
    config = config_of("strategies=[static]")
    before = {key: value for key, value in config.items() if key != "attack"}
    assert checked_config(before)["attack"] == {"name": "none"}
    assert not played_table(before).is_hostile.any()
    assert run_id_of(config_of(*ATTACK)) != run_id_of(config)
