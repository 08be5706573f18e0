"""A second process trains for later tasks; the rows of the run are the same with and without it."""

import json
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from run_cases import config_of, quiet, table_of, without_summary

from cdc_flower.study import ahead
from cdc_flower.study import run as runs
from cdc_flower.study.run import run

VIDEO = (
    "task=video_qa",
    "data=moving_digits",
    "model=video_tiny",
    "fleet.num_devices=4",
    "num_segments=2",
    "data.history_segments=2",
    "references=[]",
    "report=false",
    "strategy.cdc_mmpg.epochs=1",
)


def two_tasks(out: Path, **changes: Any) -> dict[str, Any]:
    first = config_of("strategies=[static]")
    return {
        **first,
        "also": [config_of(*VIDEO, "strategies=[static]", small=())],
        "out": str(out),
        **changes,
    }


def ends(process: "subprocess.Popen[bytes]", within_s: float = 60) -> bool:
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return False
    return True


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_num_cores", lambda: 2)


@pytest.mark.slow
@pytest.mark.usefixtures("two_cores")
def test_what_the_second_process_trains_is_what_the_run_itself_would_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def popen(*args: Any, **kwargs: Any) -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen(*args, **kwargs))
        return started[0]

    recorded = SimpleNamespace(PIPE=subprocess.PIPE, DEVNULL=subprocess.DEVNULL, Popen=popen)
    monkeypatch.setattr(ahead, "subprocess", recorded)
    config = config_of("strategies=[static,duet]", f"cache={tmp_path / 'ahead'}")

    def trained() -> set[str]:
        return {path.name for path in (tmp_path / "ahead").glob("*.safetensors")}

    with ahead.trained_ahead([config]):
        limit_s = time.monotonic() + 120
        while len(trained()) < 2 and time.monotonic() < limit_s:
            time.sleep(0.1)
    assert started[0].returncode is not None
    monkeypatch.setattr(ahead, "_started", None)
    with without_summary():
        for cache in ("ahead", "own"):
            own = {"cache": str(tmp_path / cache), "out": str(tmp_path / f"run_{cache}")}
            run({**config, **own}, console=quiet())
    # A name is made of the content, so nothing was trained a second time.
    assert trained() == {path.name for path in (tmp_path / "own").iterdir()}
    assert table_of(tmp_path / "run_ahead").equals(table_of(tmp_path / "run_own"))


@pytest.mark.slow
def test_the_second_process_ends_with_the_one_that_started_it() -> None:
    wait = (
        "import threading, cdc_flower.study.ahead as ahead;"
        "ahead.train = lambda configs: threading.Event().wait(); ahead.main()"
    )
    process = subprocess.Popen([sys.executable, "-c", wait], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(json.dumps([]).encode() + b"\n")
    process.stdin.flush()
    assert process.poll() is None
    process.stdin.close()  # as when the other process is killed
    assert ends(process)


@pytest.mark.parametrize("why", ["one core", "no folder", "an object of the caller's own"])
def test_nothing_is_started_where_it_cannot_help(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(line: bytes) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(ahead, "_started", started)
    monkeypatch.setattr(ahead, "_num_cores", lambda: 1 if why == "one core" else 2)
    config = {
        "cache": None if why == "no folder" else "folder",
        "model": object() if why == "an object of the caller's own" else {},
    }
    with ahead.trained_ahead([config]):
        pass


@pytest.mark.usefixtures("two_cores")
def test_a_second_process_that_cannot_start_or_fails_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"cache": str(tmp_path)}
    for command in (("/no/such/program",), (sys.executable, "-c", "raise SystemExit(1)")):
        monkeypatch.setattr(ahead, "COMMAND", command)
        with ahead.trained_ahead([config]):
            pass


def test_a_run_trains_ahead_for_the_tasks_that_are_left_and_only_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def noted(configs: list[dict[str, Any]]) -> Any:
        assert all(config["cache"] for config in configs)
        asked.append([config["task"] for config in configs])
        return nullcontext()

    monkeypatch.setattr(runs, "trained_ahead", noted)
    monkeypatch.setattr(runs, "play_all", lambda *args: None)
    with without_summary():
        for number, is_ahead in enumerate((True, False)):
            run(two_tasks(tmp_path / str(number)), console=quiet(), ahead=is_ahead)
    assert asked == [["video_qa"], [], [], []]
