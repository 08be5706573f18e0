"""A run that was interrupted anywhere goes on to the table of one that was not, byte for byte."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from fault_cases import (
    NUM_SEGMENTS,
    at_part,
    cut,
    interrupt,
    interrupted,
    play,
    resumed,
    table_bytes,
    tiny_config,
    whole_table,
)
from resume_cases import EACH, TWO, config
from run_cases import config_of, quiet
from sampling import a_sample

from cdc_flower.core.errors import UserError
from cdc_flower.core.progress import Bars
from cdc_flower.report import read_folder
from cdc_flower.simulations.grids.flower import FlowerGrid
from cdc_flower.strategies.fedavg.strategy import FedAvg
from cdc_flower.study import facts, journal
from cdc_flower.study import run as runs
from cdc_flower.study.plays import strategies_that_play
from cdc_flower.study.setup import grid_of, prepare
from cdc_flower.tables.parts import PARTS, Parts

MOMENTS = range(1, 2 * NUM_SEGMENTS + 1)


FINISH = runs.finish


pytestmark = [pytest.mark.usefixtures("without_summary"), pytest.mark.slow]


@pytest.mark.parametrize("moment", [2, 6])
def test_a_run_goes_on_after_an_interrupt_in_any_segment(
    moment: int, whole: bytes, tmp_path: Path
) -> None:
    given = config(tmp_path, EACH)
    interrupted(given, moment)
    assert resumed(given) == whole


@pytest.mark.parametrize(
    ("moment", "before", "every"),
    a_sample([*product(MOMENTS, (False, True), ("1", "2", "auto", "null"))], 8),
)
def test_it_does_so_at_every_moment_and_with_every_interval(
    moment: int, before: bool, every: str, whole: bytes, tmp_path: Path
) -> None:
    given = config(tmp_path, f"checkpoint.every={every}")
    interrupted(given, moment, before=before)
    assert resumed(given) == whole


@pytest.mark.slow
@pytest.mark.parametrize("name", strategies_that_play("recommendation"))
def test_every_strategy_goes_on(
    name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = (f"strategies=[{name}]", "protocol.codecs=[delta,int8,zstd]", "policy=random")
    if name == "persona":
        own += ("strategy.persona.num_prototypes=2", "strategy.persona.epochs=1")
    whole = whole_table(tmp_path_factory, *own)
    given = tiny_config(*own, EACH, out=str(tmp_path / "run"))
    interrupted(given, 2)
    interrupted({**given, "resume": True}, 1)
    assert resumed(given) == whole


def test_a_finished_strategy_is_never_played_twice_and_another_goes_on_in_its_segment(
    whole: bytes, tmp_path: Path, played: list[tuple[str, int]]
) -> None:
    given = config(tmp_path, EACH)
    interrupted(given, 2 * NUM_SEGMENTS)  # before the state after this segment is saved
    played.clear()
    assert resumed(given) == whole
    assert played == [("Duet", NUM_SEGMENTS)]


def test_without_states_an_interrupted_strategy_begins_again(
    whole: bytes, tmp_path: Path, played: list[tuple[str, int]]
) -> None:
    given = config(tmp_path, "checkpoint.every=0")
    interrupted(given, NUM_SEGMENTS + 2)
    assert not (tmp_path / "run" / "checkpoints").exists()
    played.clear()
    assert resumed(given) == whole
    assert played == [("Duet", 1)]


def test_training_is_not_done_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = config(tmp_path, EACH)
    interrupted(given, NUM_SEGMENTS + 1)

    def trained_again(*args: object, **kwargs: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("cdc_flower.training.cloud.fit", trained_again)
    resumed(given)


def test_states_are_saved_after_a_minute_and_not_more_often_than_they_are_cheap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    saved: list[int] = []

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now_s

    def costly(sessions: object, arrays: Any, kept: dict[str, int]) -> None:
        nonlocal now_s
        saved.append(kept["segment"])
        now_s += 10.0  # so 300 s pass until the next

    def passing(kept: journal.Journal, frame: pd.DataFrame) -> None:
        nonlocal now_s
        now_s += 31.0

    monkeypatch.setattr(journal, "time", Clock)
    monkeypatch.setattr("cdc_flower.study.saved_sessions.SavedSessions.save", costly)
    monkeypatch.setattr(journal.Journal, "append", passing)
    play(tiny_config("strategies=[static]", "num_segments=13", out=str(tmp_path / "run")))
    assert saved == [2, 12]


def test_reference_lines_go_on_too(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, played: list[tuple[str, int]]
) -> None:
    own = ("strategies=[static]", "references=[popularity,markov]")
    whole = whole_table(tmp_path_factory, *own)
    given = tiny_config(*own, out=str(tmp_path / "run"))
    interrupted(given, 2 * NUM_SEGMENTS + 1)
    played.clear()
    assert resumed(given) == whole
    assert played == []


@pytest.mark.slow
def test_tasks_of_one_folder_keep_their_states_apart(tmp_path: Path) -> None:
    persona = (
        "strategies=[persona]",
        "strategy.persona.num_prototypes=2",
        "strategy.persona.epochs=1",
        "strategy.persona.refinement=bytes",
        "strategy.persona.bytes_rate=0.5",
    )
    clips = ("task=video_qa", "num_segments=2", "fleet.num_devices=4", "cloud.epochs=1")
    video = config_of(*clips, *persona, "report=false", small=())
    own = tiny_config(*persona, EACH, out=str(tmp_path / "run"))
    own["also"] = [{**video, "checkpoint": {"every": 1}}]
    whole = play({**own, "out": str(tmp_path / "whole")})
    names = sorted(str(path.relative_to(whole / "state")) for path in whole.rglob("*.safetensors"))
    assert names == ["recommendation/persona.safetensors", "video_qa/persona.safetensors"]
    interrupted(own, NUM_SEGMENTS + 1)
    assert resumed(own) == table_bytes(whole)
    for name in names:
        kept = [(folder / "state" / name).read_bytes() for folder in (whole, tmp_path / "run")]
        assert kept[0] == kept[1]


def test_a_task_is_played_once_in_a_folder(tmp_path: Path) -> None:
    given = config(tmp_path)
    with pytest.raises(UserError, match="tasks of their own, got recommendation twice"):
        play({**given, "also": [given]})


def test_an_unfinished_run_is_read_as_far_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(runs, "finish", FINISH)
        folder = interrupted(config(tmp_path, EACH), NUM_SEGMENTS + 1)
    run = read_folder(folder)
    cells = run.results.cells
    assert cells["strategy"].unique().tolist() == ["fedavg", "duet"]  # as configured
    assert len(cells) == 4 * (NUM_SEGMENTS + 1)
    assert (folder / "summary.csv").exists() and not (folder / "results.parquet").exists()
    whole = read_folder(play({**config(tmp_path), "resume": True})).results
    first = whole.where((whole.cells.index < len(cells)).astype(bool))
    pd.testing.assert_frame_equal(first.cells, cells, check_categorical=False, check_dtype=False)
    assert len(pd.read_parquet(folder / "results.parquet")) == 2 * 4 * NUM_SEGMENTS * 9


def test_only_the_two_newest_states_are_kept_and_none_of_a_finished_strategy(
    tmp_path: Path,
) -> None:
    given = config(tmp_path, EACH, num_segments=5)
    folder = interrupted(given, 5)
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == ["000003", "000004"]
    manifest = json.loads((folder / "checkpoints" / "000004" / "manifest.json").read_text())
    assert manifest["strategy"] == "fedavg" and manifest["segment"] == 4
    assert manifest["format"] == 1 and len(manifest["rows"]) == 4
    interrupted({**given, "resume": True}, 2)
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("seed=1", r"seed is 1, was 0"),
        ("network.rtt_s=0.5", r"network\.rtt_s is 0\.5, was"),
        ("strategies=[fedavg]", r"strategies is \['fedavg'\], was \['fedavg', 'duet'\]"),
    ],
)
def test_another_configuration_is_refused_by_its_key(key: str, text: str, tmp_path: Path) -> None:
    interrupted(config(tmp_path, EACH), 2)
    with pytest.raises(UserError, match=f"must go on as it was begun, but {text}") as caught:
        play(config(tmp_path, key, resume=True))
    assert "\n" not in str(caught.value)


def test_what_changes_no_row_may_be_another(whole: bytes, tmp_path: Path) -> None:
    interrupted(config(tmp_path, EACH), 2)
    cache = str(tmp_path / "cache")
    assert resumed({**config(tmp_path, "checkpoint.every=2"), "cache": cache}) == whole


@pytest.mark.parametrize("fact", ["version", "code"])
def test_other_versions_and_other_code_are_refused(
    fact: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = config(tmp_path, EACH)
    interrupted(given, 2)
    if fact == "version":
        monkeypatch.setattr(facts, "version", lambda name: "0.1" if name == "torch" else name)
        monkeypatch.setattr(facts, "PACKAGES", ("torch",))
        text = f"version torch is 0.1, was {torch.__version__.partition('+')[0]}"
    else:
        monkeypatch.setattr(facts, "code_hash", lambda: "new")
        text = "code cdc_flower is new, was "
    with pytest.raises(UserError) as caught:
        resumed(given)
    assert text in str(caught.value)


def test_other_data_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "u.data"
    rows = [f"{user}\t{item}\t5\t{item}" for user in (1, 2, 3) for item in range(1, 13)]
    path.write_text("\n".join(rows))
    small = ("data=ml_100k", f"data.path={path}", "num_segments=2", "num_negatives=3")
    given = config_of(*small, "cloud.epochs=1", "strategies=[static]", "report=false", small=()) | {
        "out": str(tmp_path / "run")
    }
    interrupted(given, 1)
    path.write_text("\n".join([*rows[:-1], "3\t12\t5\t13"]))
    with pytest.raises(UserError, match=rf"but data {path} is \w+, \d+ bytes, was \w+"):
        resumed(given)


def test_a_run_of_ones_own_code_is_refused_when_it_changed() -> None:
    assert facts.difference({"code": {"mine": "a"}}, {"code": {"mine": "b"}}) == (
        "code mine is b, was a"
    )
    assert facts.difference({"data": {"x": "a"}}, {"data": {}}) == "data x is absent, was a"
    assert not facts.difference({"data": {"x": "a"}}, {"data": {"x": "a"}})


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, played: list[tuple[str, int]]) -> None:
    given = config(tmp_path)
    folder = play(given)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != "run.log"}
    played.clear()
    console = quiet()
    assert runs.run({**given, "resume": True}, console=console) == folder
    assert runs.run(given, console=console, skip_finished=True) == folder
    assert console.file.getvalue().count("run: finished already") == 2  # type: ignore[attr-defined]
    assert played == []
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(UserError, match="seed is 7, was 0"):
        play({**given, "seed": 7, "resume": True})
    with pytest.raises(UserError, match="out must not hold a run already"):
        play(given)


def test_resuming_where_there_is_no_run_yet_begins_one(whole: bytes, tmp_path: Path) -> None:
    assert resumed(config(tmp_path)) == whole


def test_resuming_needs_a_folder() -> None:
    with pytest.raises(UserError, match="resume=true must have the folder of a run"):
        play(tiny_config(TWO, resume=True))


def test_an_interrupted_run_is_not_written_over(tmp_path: Path) -> None:
    given = config(tmp_path)
    interrupted(given, 1)
    refused = r"an interrupted one; cdc-flower resume .*/run goes on"
    with pytest.raises(UserError, match=refused):
        play(given)
    (tmp_path / "run" / PARTS / "_run.json").unlink()
    with pytest.raises(UserError, match=refused):
        play(given)


def test_the_configuration_of_a_folder_comes_back_as_it_was(tmp_path: Path) -> None:
    given = config(tmp_path, EACH)
    folder = interrupted(given, 1)
    kept = yaml.safe_load((folder / "config.yaml").read_text())
    assert runs.run_id_of(kept) == runs.run_id_of(given)


class Forgetful(FedAvg):
    """Has a state of its own and does not say how to go on from it."""

    def state(self) -> Any:
        return {"rounds": np.zeros(1)}


def test_a_strategy_that_cannot_go_on_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, played: list[tuple[str, int]]
) -> None:
    monkeypatch.setattr(FedAvg, "state", Forgetful.state)
    given = tiny_config("strategies=[fedavg]", EACH, out=str(tmp_path / "run"))
    folder = interrupted(given, 2)
    assert not (folder / "checkpoints").exists()
    played.clear()
    resumed(given)
    assert played == [("FedAvg", 1)]


def test_a_run_on_a_grid_that_cannot_be_saved_skips_what_is_finished(
    tmp_path: Path, whole: bytes, played: list[tuple[str, int]]
) -> None:
    given = config(tmp_path, EACH)

    def grid() -> FlowerGrid:
        return FlowerGrid(grid_of(given, prepare(given)))

    with at_part(NUM_SEGMENTS + 2, interrupt), pytest.raises(KeyboardInterrupt):
        runs.run(given, grid=grid(), console=quiet())
    played.clear()
    folder = runs.run({**given, "resume": True}, grid=grid(), console=quiet())
    assert played == [("Duet", 1)]
    assert table_bytes(folder) == whole
    assert "begins again: a run can be saved if" in (folder / "run.log").read_text()


def test_a_run_in_memory_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = tiny_config(TWO)
    frames: list[pd.DataFrame] = []
    runs.play_all(given, prepare(given), None, frames)
    assert len(frames) == 2 * NUM_SEGMENTS and not [*tmp_path.iterdir()]


def test_bars_begin_where_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = config(tmp_path, EACH)
    interrupted(given, 3)
    bars: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Bars, "bar", lambda self, *args: bars.append(args) or (lambda: None))
    resumed(given)
    assert ("fedavg: playing", NUM_SEGMENTS, 2) in bars
    assert ("duet: playing", NUM_SEGMENTS, 0) in bars


def test_parts_of_an_unknown_order_are_read_by_name(tmp_path: Path) -> None:
    folder = interrupted(config(tmp_path), NUM_SEGMENTS + 1)
    cut(folder / "parts" / "_run.json", 5)
    names = [path.parent.name for path in Parts(folder / PARTS).whole_paths()]
    assert names == ["duet", *["fedavg"] * NUM_SEGMENTS]


def test_the_log_says_where_a_strategy_goes_on(tmp_path: Path) -> None:
    given = config(tmp_path, EACH)
    folder = interrupted(given, 3)
    resumed(given)
    assert "fedavg: goes on after segment 1" in (folder / "run.log").read_text()
