"""Interrupts runs in one way each, resumes them, and compares with a run that nothing interrupted.

A trial starts from a seed alone, so one that failed can be played again. What it must show is the
same for all: what was readable after the fault is in the final table, and the final table is byte
for byte that of the uninterrupted run.
"""

import os
import re
import shutil
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from unittest import mock

import numpy as np
import yaml
from faults.bench import (
    CONFIG,
    EACH_COMPOSED,
    Bench,
    assert_kept,
    assert_same_table,
    kept_after,
    readable_rows,
)
from faults.workers import workers_under
from rich.console import Console

from cdc_flower.study import provenance
from cdc_flower.study import run as runs
from cdc_flower.study.resume import config_in

#: Seconds between two kills of a worker, at most.
MOST_S = 4.0
#: The column that counts what was played again on Ray.
REPLAYS = ("num_replays",)


def interrupted_by(number: int, bench: Bench, seed: int) -> str:
    """Sends the run a signal at a random moment, then resumes it.

    Args:
        number: Of the signal.
        bench: See there.
        seed: Of the moment.
    """
    with bench.out(f"signal{number}-{seed}") as out:
        moment_s, code = bench.interrupt(out, seed, number)
        assert code in (0, -number, 128 + number), f"the run ended with {code}"
        segments = assert_kept(readable_rows(out), bench.reference)
        bench.finish(out)
        assert_same_table(out, bench.reference)
        return f"after {moment_s:.2f} CPU s, {segments} segments kept"


def twice_interrupted(bench: Bench, seed: int) -> str:
    """Kills a run, kills its resumption, and resumes it again."""
    draws = np.random.default_rng(seed)
    with bench.out(f"twice-{seed}") as out:
        bench.interrupt(out, seed, signal.SIGKILL)
        first = readable_rows(out)
        if (out / CONFIG).exists():
            again = bench.zygote.start("resume", str(out), with_summary=False)
            again.kill_at(draws.uniform(0, bench.reference.resumed_s), signal.SIGKILL)
        second = assert_kept(readable_rows(out), bench.reference)
        assert second >= assert_kept(first, bench.reference), "a finished segment was lost"
        bench.finish(out)
        assert_same_table(out, bench.reference)
        return f"{second} segments kept"


def full_disk(bench: Bench, seed: int) -> str:
    """Lets every file end at a random size, then resumes without that limit.

    Every other run was trained before: its largest file is that of trained parameters.
    """
    largest = int(np.exp(np.random.default_rng(seed).uniform(np.log(200), np.log(2e5))))
    with bench.out(f"disk-{seed}") as out:
        if seed % 2:
            kept_after(bench.zygote, out, bench.world, num_parts=1, num_states=0)
            command = bench.zygote.start("resume", str(out), largest_file=largest)
        else:
            composes = seed % EACH_COMPOSED == 0
            command = bench.run(out, composes=composes, largest_file=largest)
        code = command.wait()
        printed = command.printed()
        assert code in (0, 2), f"the run ended with {code}:\n{printed}"
        assert "Traceback" not in printed, printed
        segments = assert_kept(readable_rows(out), bench.reference)
        bench.finish(out)
        assert_same_table(out, bench.reference)
        return f"{largest} bytes, {segments} segments kept"


def damaged(bench: Bench, interrupted: Path, victim: Path, change: Callable[[bytes], bytes]) -> str:
    """Damages a file of an interrupted run's checkpoints, and resumes it in this process.

    Nothing is killed here, so no process of its own is needed: that would take three times as long.

    Args:
        bench: See there.
        interrupted: A run folder, which is copied.
        victim: The file, relative to it.
        change: Makes the damaged bytes.
    """
    with bench.out(f"damaged-{os.getpid()}") as out:
        shutil.copytree(interrupted, out, symlinks=True)
        path = out / victim
        content = path.read_bytes()
        path.write_bytes(change(content))
        words = resumed_here(out)
        assert_same_table(out, bench.reference)
        if is_read(victim, interrupted) and change(content) != content:
            assert re.search(r"damaged|is not used", words), f"no word of it:\n{words}"
            return "told"
        return "not needed"


def is_read(victim: Path, interrupted: Path) -> bool:
    """Tells whether a run that goes on relies on a file, relative to its folder.

    It does not on states before the newest, and ``_run.json`` only says what marks and states say.
    """
    if victim.parts[0] == "checkpoints":
        newest = max(path.name for path in (interrupted / "checkpoints").glob("[0-9]*"))
        return victim.parts[1] == newest
    return victim.name != "_run.json"


def resumed_here(out: Path) -> str:
    """Resumes a run in this process, without a summary, and gives the lines that it logged."""
    before = (out / "run.log").stat().st_size
    with ExitStack() as stack:
        for module, name in ((runs, "finish"), (provenance, "begin"), (provenance, "end")):
            stack.enter_context(mock.patch.object(module, name, lambda *args, **kwargs: None))
        stack.enter_context(mock.patch.object(yaml, "safe_load", _quick_load))
        runs.run({**config_in(out), "out": str(out), "resume": True}, console=Console(quiet=True))
    with (out / "run.log").open() as log:
        log.seek(before)
        return log.read()


def _quick_load(text: str) -> object:
    """Reads as ``yaml.safe_load`` does, by the library in C, in a tenth of the time."""
    return yaml.load(text, Loader=yaml.CSafeLoader)


def killed_workers(bench: Bench, seed: int, count: int) -> str:
    """Kills Ray's workers at random moments; the run must go on by itself.

    Args:
        bench: See there.
        seed: Of the moments and of the workers.
        count: How many, if the run takes that long.
    """
    draws = np.random.default_rng(seed)
    killed = 0
    with bench.out(f"worker-{seed}") as out:
        command = bench.run(out)
        while killed < count and command.ended_within(draws.uniform(0, MOST_S)) is None:
            workers = workers_under(command.pid)
            if workers:
                with suppress(ProcessLookupError):
                    os.kill(int(draws.choice(workers)), signal.SIGKILL)
                    killed += 1
        code = command.wait()
        # One shard was killed too often, or Ray did not start in its time: one line each.
        ended = code == 2 and re.search("cannot be played|Ray did not start", command.printed())
        if ended:
            bench.finish(out)
        assert code == 0 or ended, f"the run ended with {code}:\n{command.printed()}"
        rows = readable_rows(out)
        assert rows is not None and len(rows) == len(bench.reference.rows)
        assert assert_kept(rows, bench.reference, but=REPLAYS)
        replays = rows.groupby(["strategy", "segment"], observed=True)[REPLAYS[0]].max().sum()
        how = "resumed once" if ended else "by itself"
        return f"{killed} workers killed, {replays} shards played again, {how}"


def cut_at(share: float) -> Callable[[bytes], bytes]:
    """Makes a cut of a file at a share of its length."""
    return lambda content: content[: int(share * len(content))]


def flipped_at(share: float, bit: int) -> Callable[[bytes], bytes]:
    """Makes a flip of one bit at a share of a file's length."""

    def change(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[min(int(share * len(content)), len(content) - 1)] ^= 1 << bit
        return bytes(changed)

    return change
