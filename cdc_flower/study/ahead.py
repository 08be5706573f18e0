"""Trains for the later tasks of a run in a second process, while an earlier one is played.

Both processes keep what they train in the same folder, by content, so the run finds it there when
its turn comes. What is still under way by then goes on in the run itself, from its last validated
epoch: the second process only ever saves time.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import torch

import cdc_flower.configs
from cdc_flower.core.options import is_plain
from cdc_flower.study.cloud import train_cloud, with_own_code
from cdc_flower.study.plugins import load_plugins
from cdc_flower.study.provenance import THREADS
from cdc_flower.study.setup import prepare
from cdc_flower.study.trees import Config
from cdc_flower.training.diary import Diary

#: Starts the second process; ``-P`` keeps modules of the current folder from hiding others.
COMMAND = (sys.executable, "-P", "-c", "from cdc_flower.study.ahead import main; main()")


@contextmanager
def trained_ahead(configs: Sequence[Config]) -> Iterator[None]:
    """Trains in a second process for as long as the block lasts.

    It does nothing where there is no second core, nothing to train or no folder to keep it in, or
    where a configuration holds objects of the caller's own.

    Args:
        configs: Resolved and checked, in the order in which they will be played.
    """
    kept = [dict(config) for config in configs if config["cache"]]
    if not kept or not is_plain(kept) or _num_cores() < 2:
        yield
        return
    process = _started(json.dumps(kept).encode())
    try:
        yield
    finally:
        if process:
            process.kill()  # files are whole at any moment
            with suppress(BrokenPipeError):
                process.communicate()


def train(configs: Sequence[Config]) -> None:
    """Trains base models and strategies, one after the other, into the caches of configurations."""
    torch.set_num_threads(THREADS)
    cdc_flower.configs.find_methods()
    for config in configs:
        load_plugins(config["plugins"])
        setup = prepare(config)
        cloud = train_cloud(config, setup.stream, setup.model, lambda _, __: lambda: None)
        for strategy in setup.strategies.values():
            strategy.prepare(replace(with_own_code(cloud, strategy), diary=Diary()))


def main() -> None:
    """Trains what a line of the standard input says, and ends with whoever wrote it."""
    configs = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_writer, daemon=True).start()
    train(configs)


def _end_with_the_writer() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _started(line: bytes) -> "subprocess.Popen[bytes] | None":
    """Starts the second process; None if the system refuses."""
    paths = os.pathsep.join(path for path in sys.path if path)
    with suppress(OSError):
        process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C is for the run, which ends it
        )
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(line + b"\n")
            process.stdin.flush()
        return process
    return None


def _num_cores() -> int:
    """Counts the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
