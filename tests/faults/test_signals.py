"""Signals that end a run, in order and with a word of how to go on."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_cases import EACH, TWO, Ended, at_part, interrupt, play, resumed, tiny_config

from cdc_flower import cli
from cdc_flower.core.signals import Stopped, stopped_in, stopping
from cdc_flower.report import read_folder
from cdc_flower.study import command
from cdc_flower.study import run as runs

pytestmark = pytest.mark.usefixtures("without_summary")


@pytest.fixture
def ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[Callable[[], object]], Ended]:
    """The command line, in which something happens where its arguments would be parsed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["cdc-flower", "run"])

    def run(act: Callable[[], object]) -> Ended:
        monkeypatch.setattr(command, "run_command", lambda arguments: act())
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Ended(int(end.value.code or 0), capfd.readouterr().err)

    return run


@pytest.mark.parametrize(
    "signum", [pytest.param(signal.SIGHUP, marks=pytest.mark.slow), signal.SIGINT, signal.SIGTERM]
)
def test_a_signal_ends_a_run_in_order_and_says_how_to_go_on(
    signum: int, ended: Callable[..., Ended], whole: bytes, tmp_path: Path
) -> None:
    given = tiny_config(TWO, EACH, out="run")

    def play_and_end() -> None:
        with at_part(4, lambda: os.kill(os.getpid(), signum)):
            play(given)

    # Under nohup the signal would be ignored.
    usual = signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(signum, usual)
    try:
        done = ended(play_and_end)
        after = signal.getsignal(signum)
    finally:
        signal.signal(signum, before)
    assert done.code == 128 + signum
    assert done.error == (
        "interrupted; what was finished is in run, and cdc-flower resume run goes on\n"
    )
    assert len(read_folder("run").results.cells) == 4 * 4
    assert after is usual
    assert resumed(given) == whole


def test_an_interrupt_before_there_is_a_folder_does_not_speak_of_one(
    ended: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runs, "prepare", lambda config: interrupt())
    done = ended(lambda: play(tiny_config(TWO, out="run")))
    assert (done.code, done.error) == (130, "interrupted\n")
    assert not [*tmp_path.iterdir()]


def test_a_second_interrupt_ends_the_summary_too_and_leaves_the_parts(
    ended: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def slow_summary(*args: object, **kwargs: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
        raise AssertionError("not ended")

    monkeypatch.setattr(runs, "finish", slow_summary)

    def play_and_end() -> None:
        with at_part(2, lambda: os.kill(os.getpid(), signal.SIGINT)):
            play(tiny_config(TWO, EACH, out="run"))

    done = ended(play_and_end)
    assert done.code == 130 and "cdc-flower resume run goes on" in done.error
    assert len(read_folder("run").results.cells) == 2 * 4


def test_a_signal_is_told_where_code_beneath_python_made_a_ctrl_c_of_it() -> None:
    with stopping():
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stopped_in(Path("run"), KeyboardInterrupt()).exit_code == 143  # as Ray raises it
    with stopping():
        assert Stopped().exit_code == 130


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, None)
            with pytest.raises(Stopped, match=str(int(signal.SIGTERM))):
                os.kill(os.getpid(), signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # a second one ends at once
    finally:
        signal.signal(signal.SIGHUP, before)
