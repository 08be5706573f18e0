"""Words and marks of a comparison: controls by name, footnotes, headlines, tables beside it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_cases import config, results

from cdc_flower.core.errors import UserError
from cdc_flower.report.comparison.files import span_of, write_tables
from cdc_flower.report.comparison.footnotes import footnotes
from cdc_flower.report.comparison.markdown import markdown_tables
from cdc_flower.report.comparison.page import render
from cdc_flower.report.drawing.style import main_metrics
from cdc_flower.report.folders import Comparison, RunFolder
from cdc_flower.tables.results import Results

STUCK = "training never beat its start"


def run_of(seed: int = 0, notes: object = None, **changes: object) -> RunFolder:
    table = Results.of(results(seed=seed, run_id=f"run-{seed}", **changes))  # type: ignore[arg-type]
    run = RunFolder(f"run-{seed}", table, config(seed=seed))
    return replace(run, notes={"movies": notes}) if notes else run


def test_headlines_are_ndcg_and_auc_of_each_user() -> None:
    assert main_metrics(["auc", "hr@10", "user_auc", "ndcg@10"]) == ["ndcg@10", "user_auc"]


def test_a_note_on_a_training_is_a_footnote_at_its_strategy() -> None:
    run = run_of(notes={"persona": [STUCK], "base model": ["it is a popularity model"]})
    page, text = render(Comparison.of([run])), markdown_tables(Comparison.of([run]))
    assert "persona<sup>1</sup>" in page and f"<sup>1</sup> persona: {STUCK}." in page
    assert "<header>" in page and "base model: it is a popularity model." in page
    assert "| persona<sup>1</sup> |" in text and f"\n1. persona: {STUCK}.\n" in text


def test_a_note_of_one_seed_says_which() -> None:
    whole = Comparison.of([run_of(0), run_of(1, notes={"persona": [STUCK]})])
    found = footnotes(whole.runs, whole.summary, ["ndcg@10"])
    assert found == {"persona": [f"seed 1: {STUCK}"]}


def test_zeros_that_no_note_explains_have_a_footnote_too() -> None:
    whole = Comparison.of([run_of(value_sum=np.ones((6, 2)))])
    found = footnotes(whole.runs, whole.summary, ["ndcg@10"])
    assert list(found) == ["persona", "fedavg"]
    assert "the values are those of static" in found["persona"][0]


def test_the_words_say_over_what_intervals_are() -> None:
    one, three = Comparison.of([run_of()]), Comparison.of([run_of(seed) for seed in range(3)])
    assert "Intervals are over devices, given these models." in markdown_tables(one)
    assert "Intervals are over 3 trainings × devices." in markdown_tables(three)


def test_a_gain_without_a_control_says_so_and_one_with_a_control_is_against_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "(no control of persona was played)" in markdown_tables(Comparison.of([run_of()]))
    gains = {"static": 0.0, "persona": 0.06, "persona@mean": 0.02, "persona@other": 0.0}
    monkeypatch.setattr("report_cases.GAINS", gains)
    text = markdown_tables(Comparison.of([run_of(strategies=tuple(gains))]))
    assert "against the mean of all layers for each" in text and "no control" not in text


def test_the_primary_strategy_is_one_that_was_played() -> None:
    with pytest.raises(UserError, match="--primary"):
        Comparison.of([run_of()], primary="duett")
    whole = Comparison.of([run_of()], primary="persona").summary.set_index(["strategy", "metric"])
    row = whole.loc[("persona", "ndcg@10")]
    assert row["diff_p_holm"] == row["diff_p"]


def test_tables_of_each_seed_and_against_other_baselines_are_written(tmp_path: Path) -> None:
    write_tables(Comparison.of([run_of(seed) for seed in range(3)]), tmp_path, ["fedavg"])
    seeds = pd.read_csv(tmp_path / "per_seed.csv")
    pooled = pd.read_csv(tmp_path / "summary.csv")
    assert seeds["seed"].unique().tolist() == [0, 1, 2]
    is_row = (seeds["strategy"] == "persona") & (seeds["metric"] == "ndcg@10")
    mine = pooled[(pooled["strategy"] == "persona") & (pooled["metric"] == "ndcg@10")].iloc[0]
    assert seeds.loc[is_row, "diff"].mean() == pytest.approx(mine["diff"])
    assert (seeds.loc[is_row, "diff_low"] > 0).all()
    against = pd.read_csv(tmp_path / "against_fedavg.csv")
    assert against["baseline"].unique().tolist() == ["fedavg"]
    with pytest.raises(UserError, match="--baseline"):
        write_tables(Comparison.of([run_of()]), tmp_path, ["nobody"])


def test_a_table_of_some_segments_counts_them_alone(tmp_path: Path) -> None:
    whole = Comparison.of([run_of()])
    write_tables(whole, tmp_path, spans=[(1, 3), (0, 99)])
    some = pd.read_csv(tmp_path / "segments_1_3.csv").set_index(["strategy", "metric"])
    rows = whole.played.rows("ndcg@10", ["strategy", "segment"])
    mine = rows[(rows["strategy"] == "persona") & rows["segment"].isin([1, 2])]
    by_hand = mine["value_sum"].sum() / mine["value_count"].sum()
    assert some.loc[("persona", "ndcg@10"), "mean"] == pytest.approx(by_hand)
    assert set(some.index.get_level_values(0)) == set(whole.summary["strategy"])
    everything = pd.read_csv(tmp_path / "segments_0_99.csv")
    pd.testing.assert_frame_equal(everything, pd.read_csv(tmp_path / "summary.csv"))


@pytest.mark.parametrize("text", ["5", "a:b", "1:", "-1:3", "3:3", "2:1", "90:99"])
def test_segments_that_are_none_are_refused_in_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--segments must be START:STOP"):
        write_tables(Comparison.of([run_of()]), tmp_path, spans=[span_of(text)])
