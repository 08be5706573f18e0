"""Several processes in one folder, and runs that start in the same second."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from fault_cases import (
    EACH,
    FINE,
    TINY,
    TWO,
    Ended,
    at_part,
    in_child,
    interrupted,
    pair_config,
    play,
    resumed,
    table_bytes,
    tiny_config,
)
from zygote import Zygote

from cdc_flower.core.errors import UserError
from cdc_flower.study import folder as folders

pytestmark = pytest.mark.usefixtures("without_summary")


def test_a_folder_in_use_is_refused_and_a_dead_owner_holds_nothing(
    whole: bytes, tmp_path: Path
) -> None:
    given = pair_config(tmp_path, EACH)
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
    given = pair_config(tmp_path, EACH)
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


@pytest.mark.long  # test_eight_runs_of_the_same_second is the same without the command around it
def test_eight_commands_that_start_together_leave_eight_tables(
    whole: bytes, commands: tuple[Path, Zygote]
) -> None:
    folder, zygote = commands
    started = [zygote.start("run", *TINY, TWO) for _ in range(8)]
    assert [one.wait(300) for one in started] == [0] * 8
    runs_made = [path for path in (folder / "results/runs").iterdir() if not path.is_symlink()]
    assert len(runs_made) == 8
    assert {table_bytes(path) for path in runs_made} == {whole}
