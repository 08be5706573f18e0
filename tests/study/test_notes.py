"""What there is to say of trainings comes to the folder, the terminal, the report and Python."""

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from report_cases import config, results
from rich.console import Console
from run_cases import config_of
from tiny import cloud

import cdc_flower as cdc
from cdc_flower.report import Comparison, RunFolder, read_folder
from cdc_flower.report.comparison.page import render
from cdc_flower.strategies.persona.stages import Groups, remark_groups
from cdc_flower.study import run as runs
from cdc_flower.study.notes import BASE, Notes
from cdc_flower.tables.results import Results
from cdc_flower.tasks.recommendation import base_check
from cdc_flower.tasks.recommendation.base_check import base_notes, held_out_ndcg


def test_notes_are_found_again_and_a_new_training_replaces_its_own(tmp_path: Path) -> None:
    path = tmp_path / "notes.yaml"
    Notes(path).add("recommendation", "static", [])
    assert not path.exists()
    Notes(path).add("recommendation", "duet", ["one", "two"])
    Notes(path).add("video_qa", BASE, ["three"])
    Notes(path).add("recommendation", "duet", ["four"])
    expected = {"recommendation": {"duet": ["four"]}, "video_qa": {BASE: ["three"]}}
    assert Notes(path).found == expected
    Notes(path).add("recommendation", "duet", [])
    assert Notes(path).found["recommendation"] == {}


def test_a_sentence_names_what_it_takes_to_tell_it_apart() -> None:
    table = Results.of(results())
    runs_of = [
        RunFolder(name, table, notes={"recommendation": {"duet": [f"{name} fell"]}})
        for name in "ab"
    ]
    assert Comparison(runs_of[:1], table).notes == ["duet: a fell."]
    assert Comparison(runs_of, table).notes == ["a, duet: a fell.", "b, duet: b fell."]
    two = RunFolder(
        "c", table, notes={"recommendation": {"duet": ["x"]}, "video_qa": {BASE: ["y"]}}
    )
    assert Comparison([two], table).notes == [
        "recommendation, duet: x.",
        "video_qa, base model: y.",
    ]


def test_the_report_has_them_below_its_title() -> None:
    notes = {"recommendation": {"duet": ["training never beat its start"]}}
    run = RunFolder("a", Results.of(results()), config(), notes=notes)
    page = render(Comparison.of([run]))
    assert "<p class='note'>duet: training never beat its start.</p>" in page


def test_a_run_tells_of_a_base_model_that_was_cut_off_in_every_place(tmp_path: Path) -> None:
    console = Console(record=True, width=100, file=StringIO())
    given = config_of("strategies=[static]", f"out={tmp_path / 'run'}")
    folder = runs.run(given, console=console)
    found = read_folder(folder).notes["recommendation"][BASE]  # type: ignore[index]
    assert any("training was cut off by epochs" in words for words in found)
    log = (folder / "run.log").read_text()
    screen = " ".join(console.export_text().split())
    for words in cdc.load(folder).notes:
        assert words.startswith("base model: ") and " ".join(words.split()) in screen
        assert words.removesuffix(".") in log


def test_a_base_model_behind_counting_is_told_and_one_before_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    means = {"popularity": 0.2, "markov": 0.4}
    monkeypatch.setattr(base_check, "held_out_ndcg", lambda *_: (0.3, means))
    (words,) = base_notes(cloud())
    assert words.startswith(
        "it does not beat markov on held-out data "
        "(NDCG@10 0.3000; popularity 0.2000, markov 0.4000)"
    )
    monkeypatch.setattr(base_check, "held_out_ndcg", lambda *_: (0.5, means))
    assert base_notes(cloud()) == []


def test_a_base_model_that_knows_popularity_alone_is_as_good_as_it() -> None:
    """A model of the popularity of the same events ranks as the line does."""
    given = cloud()
    share = given.train.popularity() + 1.0  # type: ignore[attr-defined]

    class Popular:
        def tabulate(self, parameters: Any) -> Any:
            return parameters

        def score(self, parameters: Any, history: Any, candidates: Any) -> Any:

            return torch.from_numpy(np.log(share)[candidates.numpy()])

    given = type(given)(
        Popular(),  # type: ignore[arg-type]
        {},
        given.train,
        given.validation,
        0,
    )
    own, others = held_out_ndcg(given, given.train, given.validation)  # type: ignore[arg-type]
    assert own == pytest.approx(others["popularity"], abs=1e-12)
    assert 0.0 < others["markov"] <= 1.0


@pytest.mark.parametrize(("sizes", "is_told"), [([100, 0, 0], True), ([60, 40], False)])
def test_groups_that_became_one_are_told_with_their_sizes(sizes: list[int], is_told: bool) -> None:

    given = cloud()
    groups = Groups(
        {"cluster_on": "edits"},
        torch.zeros(len(sizes), 1),
        np.repeat(np.arange(len(sizes)), sizes),
        np.zeros(0, np.int64),
    )
    remark_groups(given, groups)
    expected = (
        "its 3 groups became one (100, 0, 0 training examples), for samples do not differ in edits"
    )
    assert given.diary.notes() == ([expected] if is_told else [])
