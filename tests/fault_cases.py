"""Faults of machines, for tests: stops at a moment, signals, full disks, damaged files."""

import copy
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from run_cases import config_of, quiet

from cdc_flower.core.errors import UserError
from cdc_flower.study import run as runs
from cdc_flower.study.journal import Journal

#: Two methods, of which one trains a global model and one generates layers.
TWO = "strategies=[fedavg,duet]"
#: State is saved after each segment.
EACH = "checkpoint.every=1"
NUM_SEGMENTS = 3
#: A run of a second.
TINY = (
    "fleet.num_devices=4",
    f"num_segments={NUM_SEGMENTS}",
    "num_negatives=9",
    "data=shifting_interests",
    "references=[]",
    "data.history_events=12",
    "data.num_items=40",
    "cloud.epochs=1",
    "strategy.duet.epochs=1",
    "strategy.fedavg.num_train_devices=3",
    "network.rate_up_bps=2000",  # so that links and queues hold something between two segments
    "network.rate_down_bps=2000",
    "report=false",
    "controls=false",
)
#: Exit code of a child that ended as it should.
FINE = 0
TIMEOUT_S = 120.0


@cache
def _tiny(overrides: tuple[str, ...]) -> dict[str, Any]:
    return config_of(*overrides, small=TINY)


def tiny_config(*overrides: str, **values: Any) -> dict[str, Any]:
    """The configuration of a tiny run; composing is what takes the time."""
    return {**copy.deepcopy(_tiny(overrides)), **values}


def pair_config(tmp_path: Path, *overrides: str, **values: Any) -> dict[str, Any]:
    """The configuration of a tiny run of two methods, in a folder of its own."""
    return tiny_config(TWO, *overrides, out=str(tmp_path / "run"), **values)


def play(config: dict[str, Any]) -> Path:
    """A run without a word."""
    return runs.run(config, console=quiet())


def resumed(config: dict[str, Any]) -> bytes:
    """The table after a run was gone on with."""
    return table_bytes(play({**config, "resume": True}))


def table_bytes(folder: Path) -> bytes:
    """The finished table, beside which nothing of the way to it is left."""
    left = {path.name for path in folder.iterdir()}
    assert not left & {"parts", "checkpoints", "training"}
    assert not [name for name in left if name.endswith(".part")]
    return (folder / "results.parquet").read_bytes()


@cache
def _whole(overrides: tuple[str, ...], folder: Path) -> bytes:
    return table_bytes(play(tiny_config(*overrides, out=str(folder))))


def whole_table(tmp_path_factory: pytest.TempPathFactory, *overrides: str) -> bytes:
    """The table of a run that was never interrupted, played once for all tests."""
    key = "whole" + "".join(text for text in "-".join(overrides) if text.isalnum() or text == "-")
    folder = tmp_path_factory.getbasetemp() / key[:100]
    return _whole(overrides, folder)


@contextmanager
def at_part(number: int, act: Callable[[], object], *, before: bool = False) -> Iterator[None]:
    """Acts after (or before) the rows of a segment are kept for the ``number``-th time, from 1."""
    append = Journal.append
    count = 0

    def counting(journal: Journal, frame: pd.DataFrame) -> None:
        nonlocal count
        count += 1
        if before and count == number:
            act()
        append(journal, frame)
        if not before and count == number:
            act()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "append", counting)
        yield


def interrupt() -> None:
    raise KeyboardInterrupt


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupted(config: dict[str, Any], number: int, *, before: bool = False) -> Path:
    """The folder of a run that was interrupted at a part."""
    with at_part(number, interrupt, before=before), pytest.raises(KeyboardInterrupt):
        play(config)
    return Path(config["out"])


@dataclass(frozen=True)
class Ended:
    """What a process left.

    Attributes:
        code: Its exit code, or minus the signal that ended it.
        error: What it told.
    """

    code: int
    error: str = ""


def in_child(act: Callable[[], object]) -> Ended:
    """Acts in a child process, which begins with all that is imported here, and waits for it.

    A child that raises ``UserError`` exits with 2, and with 1 for any other exception.
    """
    reading, writing = os.pipe()  # a file could be one that is too large
    child = os.fork()
    if not child:
        code = 1
        try:
            act()
            code = FINE
        except UserError as error:
            os.write(writing, str(error).encode())
            code = 2
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(code)
    os.close(writing)
    status = _waited(child)
    with os.fdopen(reading) as end:
        return Ended(os.waitstatus_to_exitcode(status), end.read())


def _waited(child: int) -> int:
    end_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end_s:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"the child did not end within {TIMEOUT_S:.0f} s")


def with_limit(num_bytes: int, act: Callable[[], object]) -> Callable[[], object]:
    """Acts with a disk on which no file can be larger; its limit is for the process's life."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
        act()

    return limited


def wait_for_parts(out: Path, number: int) -> None:
    """Waits until a run has kept so many segments, or is finished."""
    end_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end_s and not (out / "results.parquet").exists():
        if len([*out.glob("parts/*/*/*.parquet")]) >= number:
            return
        time.sleep(0.01)


def cut(path: Path, at: int) -> None:
    """Leaves the first bytes of a file."""
    path.write_bytes(path.read_bytes()[:at])


def flip(path: Path, bit: int) -> None:
    """Flips one bit of a file; bits count from its beginning and start over at its end."""
    content = bytearray(path.read_bytes())
    place, shift = divmod(bit % (8 * len(content)), 8)
    content[place] ^= 1 << shift
    path.write_bytes(content)


def kept_files(out: Path) -> list[Path]:
    """Every file from which a run goes on."""
    folders = (out / name for name in ("parts", "checkpoints"))
    return sorted(path for each in folders for path in each.rglob("*") if path.is_file())
