"""Processes that end at any moment, full disks, and several processes in one folder."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from fault_cases import (
    FINE,
    NUM_SEGMENTS,
    TINY,
    Ended,
    at_part,
    in_child,
    interrupt,
    interrupted,
    kill,
    play,
    resumed,
    table_bytes,
    tiny_config,
    wait_for_parts,
    whole_table,
    with_limit,
)
from sampling import a_sample
from zygote import Zygote

from cdc_flower import cli
from cdc_flower.core.errors import UserError
from cdc_flower.core.signals import Stopped, stopped_in, stopping
from cdc_flower.report import read_folder
from cdc_flower.study import command
from cdc_flower.study import folder as folders
from cdc_flower.study import run as runs

TWO = "strategies=[fedavg,duet]"
EACH = "checkpoint.every=1"


@pytest.fixture(autouse=True)
def _without_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "finish", lambda *args, **kwargs: None)


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return whole_table(tmp_path_factory, TWO)


def config(tmp_path: Path, *overrides: str, **values: Any) -> dict[str, Any]:
    return tiny_config(TWO, *overrides, out=str(tmp_path / "run"), **values)


def killed_at(given: dict[str, Any], number: int) -> Path:
    """The folder of a run whose process was killed after a segment."""

    def play_and_die() -> None:
        with at_part(number, kill):
            play(given)

    assert in_child(play_and_die) == Ended(-signal.SIGKILL)
    return Path(given["out"])


@pytest.mark.parametrize("moment", [pytest.param(2, marks=pytest.mark.slow), 5])
def test_a_killed_process_leaves_every_finished_segment_and_goes_on(
    moment: int, whole: bytes, tmp_path: Path
) -> None:
    given = config(tmp_path, EACH)
    cells = read_folder(killed_at(given, moment)).results.cells
    assert len(cells) == 4 * moment
    assert resumed(given) == whole


def at_call(path: str, number: int, act: Callable[[], object]) -> Callable[[], None]:
    """Plays in such a way that something happens before a function is called the n-th time."""

    def changed() -> None:
        module, _, name = path.rpartition(".")
        original = getattr(sys.modules[module], name)
        count = 0

        def counting(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                act()
            return original(*args, **kwargs)

        setattr(sys.modules[module], name, counting)

    return changed


@pytest.mark.parametrize(
    ("call", "number"),
    a_sample(
        [
            *product(
                ["os.replace", "os.fsync", "os.open", "shutil.rmtree"], [1, 2, 3, 5, 8, 13, 21, 34]
            )
        ],
        8,
    ),
)
def test_a_process_may_be_killed_between_any_two_calls_of_the_system(
    call: str, number: int, whole: bytes, tmp_path: Path
) -> None:
    given = config(tmp_path, EACH)

    def play_and_die() -> None:
        at_call(call, number, kill)()
        play(given)

    assert in_child(play_and_die) in (Ended(FINE), Ended(-signal.SIGKILL))
    assert resumed(given) == whole


@pytest.mark.parametrize("call", [pytest.param(1, marks=pytest.mark.slow), 9])
def test_a_process_that_dies_before_a_file_has_its_name_goes_on(
    call: int, whole: bytes, tmp_path: Path
) -> None:
    given = config(tmp_path, EACH)

    def play_and_die() -> None:
        at_call("os.replace", call, kill)()
        play(given)

    assert in_child(play_and_die) == Ended(-signal.SIGKILL)
    assert resumed(given) == whole


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Zygote]]:
    """A folder, and a process that forks commands there with all that they import."""
    folder = tmp_path_factory.mktemp("commands")
    with Zygote(folder / "logs", current=folder) as zygote:
        yield folder, zygote


@pytest.mark.slow
def test_a_command_that_is_killed_twice_goes_on(
    whole: bytes, commands: tuple[Path, Zygote]
) -> None:
    folder, zygote = commands
    one = zygote.start("run", *TINY, TWO, EACH, "out=run")
    for number in (1, 3):  # of six, which are gone when it has ended
        wait_for_parts(folder / "run", number)
        one.kill_at(0.0, signal.SIGKILL)
        one = zygote.start("resume", "run")
    assert one.wait() == 0, one.printed()
    assert table_bytes(folder / "run") == whole
    again = zygote.start("resume", "run")
    assert again.wait() == 0 and "run: finished already" in again.printed()


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


#: Bytes that a file may have: none, less than a part, than a state, and than the table.
SIZES = [0, 12_000]


@pytest.mark.parametrize(
    "num_bytes",
    [*SIZES, *a_sample([(1500 * k,) for k in range(1, 21)], 4)],
)
def test_a_full_disk_is_one_line_and_what_was_there_stays(
    num_bytes: int, whole: bytes, tmp_path: Path
) -> None:
    given = config(tmp_path, EACH)
    folder = interrupted(given, NUM_SEGMENTS + 1)
    kept = read_folder(folder).results.cells
    done = in_child(with_limit(num_bytes, lambda: play({**given, "resume": True})))
    assert done.code == 2 and len(done.error.splitlines()) == 1, done
    assert "File too large" in done.error
    assert f"what was finished is kept, and cdc-flower resume {folder} goes on" in done.error
    assert len(read_folder(folder).results.cells) >= len(kept)
    assert resumed(given) == whole


@pytest.mark.parametrize("num_bytes", [10, 11_000])
def test_a_disk_that_is_full_at_the_beginning_is_one_line(num_bytes: int, tmp_path: Path) -> None:
    done = in_child(with_limit(num_bytes, lambda: play(config(tmp_path))))
    assert done.code == 2 and len(done.error.splitlines()) == 1, done
    assert "File too large" in done.error


def test_a_folder_that_becomes_read_only_is_one_line(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = config(tmp_path, EACH)
    replace = os.replace
    refused = False

    def refusing(source: Path, target: Path) -> None:
        if refused and "results" not in str(target):
            raise PermissionError(13, "Permission denied")
        replace(source, target)

    def refuse() -> None:
        nonlocal refused
        refused = True

    monkeypatch.setattr(os, "replace", refusing)
    with at_part(2, refuse), pytest.raises(UserError, match=r"\(Permission denied\); what was"):
        play(given)
    refused = False
    assert resumed(given) == whole


def test_a_folder_in_use_is_refused_and_a_dead_owner_holds_nothing(
    whole: bytes, tmp_path: Path
) -> None:
    given = config(tmp_path, EACH)
    codes: list[int] = []

    def beside() -> None:
        codes.append(in_child(lambda: play({**given, "resume": True})).code)

    def play_and_die() -> None:
        def both() -> None:
            beside()
            os.kill(os.getpid(), signal.SIGKILL if codes == [2] else signal.SIGABRT)

        with at_part(2, both):
            play(given)

    assert in_child(play_and_die) == Ended(-signal.SIGKILL)
    assert resumed(given) == whole


def test_the_refusal_of_a_folder_in_use_is_a_sentence(tmp_path: Path) -> None:
    given = config(tmp_path, EACH)
    interrupted(given, 1)
    with (
        folders.owned(tmp_path / "run"),
        pytest.raises(UserError, match="out must be a folder that no other run uses now, got "),
    ):
        play({**given, "resume": True})


class Noon(folders.datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return cls(2026, 1, 1, 12, 0, 0)


@pytest.mark.slow
def test_eight_runs_of_the_same_second_leave_eight_readable_tables(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folders, "datetime", Noon)
    children = []
    for _ in range(8):
        child = os.fork()
        if not child:
            play(tiny_config(TWO, EACH, out=None))
            os._exit(FINE)
        children.append(child)
    assert {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children} == {FINE}
    tables = (tmp_path / "results" / "runs").glob("2026-01-01_12-00-00*/results.parquet")
    assert [path.read_bytes() == whole for path in tables] == [True] * 8


def test_runs_that_start_in_the_same_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folders, "datetime", Noon)
    reading, writing = os.pipe()
    children = []
    for _ in range(8):
        child = os.fork()
        if not child:
            out = folders.make_default_folder()
            folders.point_latest_at(out)
            with folders.owned(out):
                os.write(writing, f"{out.name}\n".encode())
            os._exit(FINE)
        children.append(child)
    assert {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children} == {FINE}
    names = set(os.read(reading, 10_000).decode().split())
    for end in (reading, writing):
        os.close(end)
    first = "2026-01-01_12-00-00"
    assert names == {first, *(f"{first}-{k}" for k in range(2, 9))}
    made = tmp_path / "results" / "runs"
    assert {path.name for path in made.iterdir()} == {*names, "latest"}
    assert (made / "latest").resolve().name in names


@pytest.mark.slow
def test_eight_commands_that_start_together_leave_eight_tables(
    whole: bytes, commands: tuple[Path, Zygote]
) -> None:
    folder, zygote = commands
    started = [zygote.start("run", *TINY, TWO) for _ in range(8)]
    assert [one.wait(300) for one in started] == [0] * 8
    runs_made = [path for path in (folder / "results/runs").iterdir() if not path.is_symlink()]
    assert len(runs_made) == 8
    assert {table_bytes(path) for path in runs_made} == {whole}
