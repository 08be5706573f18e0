"""Makes and fills run folders."""

import logging
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from cdc_flower.core.errors import UserError

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
    parent = out
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"out must be a folder that can be written, got {out} ({parent} cannot be)")


def default_folder(suffix: str = "") -> Path:
    """Names ``results/runs/<time>``, with a number behind it where two runs share a second."""
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S") + (f"_{suffix}" if suffix else "")
    out = RUNS / name
    count = 1
    while out.exists():
        count += 1
        out = RUNS / f"{name}-{count}"
    return out


def make_folder(out: Path) -> None:
    """Makes the run folder, and points ``latest`` at it where it is under ``results/runs``.

    Raises:
        UserError: If the folder cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if out.parent.resolve() == RUNS.resolve():
            link = RUNS / "latest"
            if link.is_symlink():
                link.unlink()
            if not link.exists():
                link.symlink_to(out.name)
    except OSError as error:
        raise UserError(
            f"out must be a folder that can be written, got {out} ({error.strerror})"
        ) from error


def save_state(state: Mapping[str, NDArray[np.generic]], path: Path) -> None:
    """Writes the arrays that a strategy learned during the stream; without any there is no file.

    Args:
        state: Arrays by name.
        path: Of a safetensors file.
    """
    if state:
        path.parent.mkdir(exist_ok=True)
        save_file({name: np.ascontiguousarray(value) for name, value in state.items()}, path)


LOGGERS = ("flwr", "cdc_flower")


def log_to(path: Path) -> logging.Handler:
    """Sends the logs of Flower and this package to a file, and nothing of them to the terminal."""
    handler = logging.FileHandler(path, encoding="utf-8")
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
    handler.close()
