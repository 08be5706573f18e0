"""Processes that are killed at any moment, and runs that go on from what they left."""

import signal
import sys
from collections.abc import Callable
from itertools import product
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
    kill,
    pair_config,
    play,
    resumed,
    table_bytes,
    wait_for_parts,
)
from sampling import a_sample
from zygote import Zygote

from cdc_flower.report import read_folder

pytestmark = pytest.mark.usefixtures("without_summary")


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
    given = pair_config(tmp_path, EACH)
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
    given = pair_config(tmp_path, EACH)

    def play_and_die() -> None:
        at_call(call, number, kill)()
        play(given)

    assert in_child(play_and_die) in (Ended(FINE), Ended(-signal.SIGKILL))
    assert resumed(given) == whole


@pytest.mark.parametrize("call", [pytest.param(1, marks=pytest.mark.slow), 9])
def test_a_process_that_dies_before_a_file_has_its_name_goes_on(
    call: int, whole: bytes, tmp_path: Path
) -> None:
    given = pair_config(tmp_path, EACH)

    def play_and_die() -> None:
        at_call("os.replace", call, kill)()
        play(given)

    assert in_child(play_and_die) == Ended(-signal.SIGKILL)
    assert resumed(given) == whole


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
