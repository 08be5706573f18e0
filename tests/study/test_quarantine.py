"""What a quarantine left out comes to the folder, the terminal, the report and a resumed run."""

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fault_cases import EACH, at_part, interrupt, tiny_config
from hostile_cases import KINDS, Hostile, Seen
from report_cases import config as config_of_report
from report_cases import results
from rich.console import Console

from cdc_flower.core.errors import UserError
from cdc_flower.report import Comparison, RunFolder, read_folder
from cdc_flower.report.comparison import page
from cdc_flower.report.comparison.quarantined import quarantined_table
from cdc_flower.simulations.quarantine import reasons
from cdc_flower.study import run as runs
from cdc_flower.study.check import checked_config
from cdc_flower.study.notes import Notes, TaskNotes
from cdc_flower.study.setup import grid_of, prepare
from cdc_flower.tables.quarantined import Left, frame_of, read_quarantined, sentence
from cdc_flower.tables.results import Results

OPTIONS = ("strategies=[static,duet]", "quarantine.max_failures=2", "quarantine.segments_aside=1")


def played(
    given: dict[str, Any], kind: str = "a column more", segments: range = range(9)
) -> tuple[Path, str]:
    """The folder of a run with a hostile device, and what the terminal said."""
    grid = Hostile(grid_of(given, prepare(given)), KINDS[kind], segments, Seen())
    console = Console(file=StringIO(), width=200)
    return runs.run(given, grid=grid, console=console), console.file.getvalue()  # type: ignore[attr-defined]


def test_the_run_folder_lists_what_was_left_out_and_says_it_once(tmp_path: Path) -> None:
    given = tiny_config(*OPTIONS, out=str(tmp_path / "run"))
    out, said = played(given)
    listed = read_quarantined(out / "quarantine.csv")
    assert listed.to_dict("list") == {
        "task": ["recommendation"] * 2,
        "strategy": ["duet"] * 2,
        "segment": [0, 1],
        "device_id": [1, 1],
        "reason": [reasons.SHAPE] * 2,
        "count": [1, 1],
    }
    words = "2 replies of 1 device were left out (shape: 2); quarantine.csv lists them"
    assert said.count(words) == 1
    assert (out / "run.log").read_text().count(words) == 1
    assert words in (out / "notes.yaml").read_text()
    rows = pd.read_parquet(out / "results.parquet")
    assert rows[rows.strategy == "static"].num_quarantined.sum() == 0
    found = rows[rows.strategy == "duet"].drop_duplicates(["segment", "device_id"])
    assert found[found.num_quarantined > 0][["segment", "device_id"]].values.tolist() == [
        [0, 1],
        [1, 1],
    ]
    summary = pd.read_csv(out / "summary.csv").drop_duplicates("strategy").set_index("strategy")
    assert summary["num_quarantined"].to_dict()["duet"] == 2


def test_a_run_in_which_nothing_is_left_out_has_no_list(tmp_path: Path) -> None:
    out, said = played(tiny_config(*OPTIONS, out=str(tmp_path / "run")), segments=range(0))
    assert not (out / "quarantine.csv").exists() and "left out" not in said


def test_a_quarantine_that_is_off_hands_on_what_comes(tmp_path: Path) -> None:
    given = tiny_config("strategies=[duet]", "quarantine.enabled=false", out=str(tmp_path / "run"))
    with pytest.raises(ValueError, match="must be alike in all batches"):
        played(given)


def test_a_run_that_was_interrupted_lists_the_same(tmp_path: Path) -> None:
    whole, _ = played(tiny_config(*OPTIONS, EACH, out=str(tmp_path / "whole")))
    given = tiny_config(*OPTIONS, EACH, out=str(tmp_path / "run"))
    with at_part(5, interrupt), pytest.raises(KeyboardInterrupt):
        played(given)
    out, _ = played({**given, "resume": True})
    for name in ("quarantine.csv", "results.parquet", "notes.yaml"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_a_configuration_of_before_has_no_quarantine() -> None:
    given = tiny_config("strategies=[static]")
    checked = checked_config(given)
    assert checked["quarantine"] == given["quarantine"]
    del given["quarantine"]
    assert "quarantine" not in checked_config(given)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("max_norm", 0, "quarantine.max_norm must be a number > 0 and finite or null, got 0"),
        ("max_failures", 0, "quarantine.max_failures must be a whole number >= 1 or null, got 0"),
        ("segments_aside", -1, "quarantine.segments_aside must be a whole number >= 0, got -1"),
        ("enabled", "yes", "quarantine.enabled must be true or false, got"),
        ("max_failure", 1, "quarantine: unknown key 'max_failure'; did you mean 'max_failures'?"),
    ],
)
def test_a_wrong_value_is_one_sentence(key: str, value: Any, words: str) -> None:
    given = tiny_config("strategies=[static]")
    given["quarantine"][key] = value
    with pytest.raises(UserError) as error:
        checked_config(given)
    assert words in str(error.value)


def test_a_strategy_that_is_played_again_replaces_its_own_rows(tmp_path: Path) -> None:
    notes = TaskNotes(Notes(tmp_path / "notes.yaml"), "movies")
    notes.leave_out("duet", [Left(1, 2, reasons.SHAPE, 1)])
    notes.leave_out("fedavg", [Left(0, -1, reasons.UNKNOWN_NODE, 3)])
    notes.leave_out("duet", [Left(4, 2, reasons.KEY, 2)])
    found = read_quarantined(tmp_path / "quarantine.csv")
    assert found[["strategy", "segment", "device_id", "reason", "count"]].values.tolist() == [
        ["fedavg", 0, -1, reasons.UNKNOWN_NODE, 3],
        ["duet", 4, 2, reasons.KEY, 2],
    ]
    (tmp_path / "quarantine.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="must have the columns task, strategy, segment"):
        read_folder_of(tmp_path)


def read_folder_of(folder: Path) -> RunFolder:
    results().to_parquet(folder / "results.parquet")
    return read_folder(folder)


def test_the_report_has_a_row_for_each_strategy_and_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = [Left(0, 1, reasons.SHAPE, 2), Left(3, 2, reasons.SHAPE, 1), Left(3, 2, reasons.KEY, 1)]
    listed = frame_of("movies", "persona", left)
    run = RunFolder("a", Results.of(results()), config_of_report(), quarantined=listed)
    comparison = Comparison.of([run])
    colors = dict.fromkeys(comparison.strategies, "#000000")
    table = str(quarantined_table([run], comparison.summary, colors))
    assert "Replies that were left out: 4" in table
    monkeypatch.setattr(page, "all_drawings", lambda *_: [])  # which take seconds
    assert "<summary>Replies that were left out: 4</summary>" in page.render(comparison)
    assert "<td>shape<td>3<td>2<td>0–3" in table and "<td>key<td>1<td>1<td>3–3" in table
    assert not quarantined_table([replace(run, quarantined=listed[:0])], comparison.summary, colors)
    assert not quarantined_table(
        [replace(run, quarantined=listed.assign(task="video_qa"))], comparison.summary, colors
    )
    assert sentence(left) == "4 replies of 2 devices were left out (shape: 3, key: 1)"
