"""Makes and fills run folders."""

import itertools
import logging
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.files import HALF, cannot_write, remove_halves
from cdc_flower.core.saveable import save_arrays
from cdc_flower.tables.parts import PARTS, RUN, has_parts

RUNS = Path("results") / "runs"
RESULTS = "results.parquet"
SUMMARY = "summary.csv"
REPORT = "report.html"
CONFIG = "config.yaml"
LOG = "run.log"
LINKS = "links.yaml"
#: A folder: a file for each strategy, with the arrays that its cloud side learned in the stream.
STATE = "state"


def check_writable(out: Path) -> None:
    """Checks, without making anything, that a run folder can be made.

    Raises:
        UserError: If it cannot, or if it already holds a run.
    """
    if (out / RESULTS).exists():
        raise UserError(f"out must not hold a run already, got {out} with a {RESULTS}")
    if (out / PARTS / RUN).exists() or has_parts(out):
        raise UserError(
            f"out must not hold a run already, got {out} with an interrupted one; "
            f"{resume_command(out)} goes on with it"
        )
    parent = out
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"out must be a folder that can be written, got {out} ({parent} cannot be)")


def resume_command(out: Path) -> str:
    """Writes the command that goes on with a run."""
    return f"cdc-flower resume {shlex.quote(str(out))}"


def make_default_folder(suffix: str = "") -> Path:
    """Makes ``results/runs/<time>``, with a number behind it where another run has that already.

    Args:
        suffix: Of the name, after the time.

    Raises:
        UserError: If the folder cannot be made.
    """
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S") + (f"_{suffix}" if suffix else "")
    for count in itertools.count(1):
        out = RUNS / (f"{name}-{count}" if count > 1 else name)
        with suppress(FileExistsError):
            _make(out, may_exist=False)
            return out
    raise AssertionError("numbers have no end")


def make_folder(out: Path) -> None:
    """Makes the run folder where there is none.

    Raises:
        UserError: If the folder cannot be made.
    """
    _make(out, may_exist=True)


def _make(out: Path, *, may_exist: bool) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.mkdir(exist_ok=may_exist)
    except OSError as error:
        if isinstance(error, FileExistsError) and not may_exist:
            raise
        raise UserError(
            f"out must be a folder that can be written, got {out} ({error.strerror})"
        ) from error


def point_latest_at(out: Path) -> None:
    """Points ``latest`` at a run folder that is under ``results/runs``."""
    if out.parent.resolve() != RUNS.resolve():
        return
    link = RUNS / "latest"
    new = RUNS / f".latest.{os.getpid()}{HALF}"
    with suppress(OSError):  # such as a folder of that name: no run depends on the link
        if link.is_symlink() or not link.exists():
            new.symlink_to(out.name)
            new.replace(link)


@contextmanager
def owned(out: Path) -> Iterator[None]:
    """Owns a run folder until the end of the block, or of the process if that comes before.

    Its log is locked. A file system that knows no locks, as some in networks, lets several in.

    Raises:
        UserError: If another process owns it.
    """
    try:
        file = (out / LOG).open("a", encoding="utf-8")
    except OSError as error:
        raise cannot_write(out / LOG, error) from error
    with file:
        if not _locked(file):
            raise UserError(f"out must be a folder that no other run uses now, got {out}")
        remove_halves(out)
        yield


def _locked(file: TextIO) -> bool:
    """Locks a file; False if another process has it."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def save_state(state: Mapping[str, NDArray[np.generic]], path: Path) -> None:
    """Writes the arrays that a strategy learned during the stream; without any there is no file.

    Args:
        state: Arrays by name.
        path: Of a safetensors file.
    """
    if state:
        save_arrays(path, {name: np.ascontiguousarray(value) for name, value in state.items()})


LOGGERS = ("flwr", "cdc_flower")


class _LogFile(logging.FileHandler):
    """A log that a full disk does not make print anything: who writes results tells of that."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Leaves the line out."""


def log_to(path: Path) -> logging.Handler:
    """Sends the logs of Flower and this package to a file, and nothing of them to the terminal."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        for other in list(logger.handlers):
            logger.removeHandler(other)
        logger.addHandler(handler)
    return handler


def end_log(handler: logging.Handler) -> None:
    """Closes the file of :func:`log_to`; later lines are not written to it."""
    for name in LOGGERS:
        logging.getLogger(name).removeHandler(handler)
    with suppress(OSError):  # a full disk takes no last lines
        handler.close()
