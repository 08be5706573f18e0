"""Interrupts runs in one way each, resumes them, and compares with a run that nothing interrupted.

A trial starts from a seed alone, so one that failed can be played again. What it must show is the
same for all: what was readable after the fault is in the final table, and the final table is byte
for byte that of the uninterrupted run.
"""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from zygote import Command, Zygote

RESULTS = "results.parquet"
#: A small run in which everything that has a state is in use: the global model, edits of
#: prototypes, memories of codecs, queues of slow links, and draws of a policy.
WORLD = (
    "strategies=[static,fedavg,duet]",
    "fleet.num_devices=16",
    "num_segments=4",
    "num_negatives=9",
    "cloud.epochs=1",
    "data.num_items=60",
    "data.history_events=12",
    "strategy.fedavg.num_train_devices=4",
    "strategy.duet.epochs=1",
    "network=nb_iot",
    "protocol.codecs=[delta,int8,zstd]",
    "policy=random",
    "report=false",
    "checkpoint.every=1",
)
#: Columns that make a row one of its own.
KEYS = ["strategy", "device_id", "segment", "metric"]
#: The column that counts what was played again on Ray.
REPLAYS = ("num_replays",)


@dataclass(frozen=True)
class Reference:
    """The run that nothing interrupted.

    Attributes:
        table: Bytes of its results.
        rows: The same as a frame.
        duration_s: From the start of the command to its end.
    """

    table: bytes
    rows: pd.DataFrame
    duration_s: float


@dataclass
class Bench:
    """Everything that trials share.

    Attributes:
        zygote: Starts commands.
        folder: For run folders.
        reference: See there.
        world: Overrides of the run.
        kept: Folders of trials that failed, for a look.
    """

    zygote: Zygote
    folder: Path
    reference: Reference
    world: Sequence[str] = WORLD
    kept: list[Path] = field(default_factory=list)

    @contextmanager
    def out(self, name: str) -> Iterator[Path]:
        """Gives the folder of a trial, which is removed unless it fails."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        try:
            yield path
        except Exception:
            self.kept.append(path)
            raise
        shutil.rmtree(path, ignore_errors=True)

    def run(self, out: Path, *more: str, largest_file: int | None = None) -> Command:
        """Starts the run in a folder."""
        arguments = (*self.world, *more, f"out={out}")
        return self.zygote.start(*arguments, largest_file=largest_file)

    def finish(self, out: Path, *more: str) -> str:
        """Resumes until the end; a run that had not begun begins. Returns the printed text."""
        began = (out / "config.yaml").exists()
        command = self.zygote.start("resume", str(out)) if began else self.run(out, *more)
        code = command.wait()
        printed = command.printed()
        assert code == 0, f"resume ended with {code}:\n{printed}"
        return printed


def readable_rows(out: Path) -> pd.DataFrame | None:
    """Reads the rows of a run folder, finished or not, by nothing of the package; None if none.

    Half-written files have other names, so every file that is found must be readable.
    """
    whole = out / RESULTS
    paths = [whole] if whole.exists() else sorted((out / "parts").glob("*/*/*.parquet"))
    frames = [pd.read_parquet(path) for path in paths]
    return pd.concat(frames, ignore_index=True) if frames else None


def assert_kept(before: pd.DataFrame | None, reference: Reference, but: Sequence[str] = ()) -> int:
    """Checks that all readable rows are those of the uninterrupted run, and counts segments.

    Args:
        before: The rows; None for none.
        reference: The uninterrupted run.
        but: Columns that may differ.
    """
    if before is None or before.empty:
        return 0
    whole = reference.rows.set_index(KEYS).sort_index()
    some = before.set_index(KEYS).sort_index()
    assert some.index.is_unique, "a row was counted twice"
    columns = [name for name in whole.columns if name not in but]
    pd.testing.assert_frame_equal(
        some[columns], whole.loc[some.index, columns], check_categorical=False, check_exact=True
    )
    return int(before.groupby(["strategy", "segment"], observed=True).ngroups)


def assert_same_table(out: Path, reference: Reference) -> None:
    """Checks that the final table is byte for byte that of the uninterrupted run."""
    got = (out / RESULTS).read_bytes()
    assert got == reference.table, f"the table in {out} differs from the uninterrupted one"


def reference_of(zygote: Zygote, out: Path, world: Sequence[str] = WORLD) -> Reference:
    """Plays the run once without a fault.

    Args:
        zygote: Starts commands.
        out: The run folder.
        world: Overrides of the run.
    """
    start = time.monotonic()
    command = zygote.start(*world, f"out={out}")
    code = command.wait()
    assert code == 0, command.printed()
    duration_s = time.monotonic() - start
    path = out / RESULTS
    return Reference(path.read_bytes(), pd.read_parquet(path), duration_s)


def kept_after(zygote: Zygote, out: Path, world: Sequence[str], num_parts: int) -> Path:
    """Kills a run after some segments, and gives its folder.

    Args:
        zygote: Starts commands.
        out: The run folder.
        world: Overrides of the run.
        num_parts: After so many segments of any strategy.
    """
    command = zygote.start(*world, f"out={out}")
    until = time.monotonic() + 60
    while len(list((out / "parts").glob("*/*/*.parquet"))) < num_parts:
        assert time.monotonic() < until, command.printed()
        time.sleep(0.002)
    os.kill(command.pid, signal.SIGKILL)
    command.wait()
    return out


def interrupted_by(number: int, bench: Bench, seed: int) -> str:
    """Sends the run a signal at a random moment, then resumes it.

    Args:
        number: Of the signal.
        bench: See there.
        seed: Of the moment.
    """
    moment_s = np.random.default_rng(seed).uniform(0, bench.reference.duration_s)
    with bench.out(f"signal{number}-{seed}") as out:
        code = bench.run(out).kill_after(moment_s, number)
        assert code in (0, -number, 128 + number), f"the run ended with {code}"
        segments = assert_kept(readable_rows(out), bench.reference)
        bench.finish(out)
        assert_same_table(out, bench.reference)
        return f"at {moment_s:.2f} s, {segments} segments kept"


def twice_interrupted(bench: Bench, seed: int) -> str:
    """Kills a run, kills its resumption, and resumes it again."""
    draws = np.random.default_rng(seed)
    with bench.out(f"twice-{seed}") as out:
        bench.run(out).kill_after(draws.uniform(0, bench.reference.duration_s), signal.SIGKILL)
        first = readable_rows(out)
        if (out / "config.yaml").exists():
            again = bench.zygote.start("resume", str(out))
            again.kill_after(draws.uniform(0, bench.reference.duration_s), signal.SIGKILL)
        second = assert_kept(readable_rows(out), bench.reference)
        assert second >= assert_kept(first, bench.reference), "a finished segment was lost"
        bench.finish(out)
        assert_same_table(out, bench.reference)
        return f"{second} segments kept"


def full_disk(bench: Bench, seed: int) -> str:
    """Lets every file end at a random size, then resumes without that limit."""
    largest = int(np.exp(np.random.default_rng(seed).uniform(np.log(200), np.log(2e5))))
    with bench.out(f"disk-{seed}") as out:
        command = bench.run(out, largest_file=largest)
        code = command.wait()
        printed = command.printed()
        assert code in (0, 2), f"the run ended with {code}:\n{printed}"
        assert "Traceback" not in printed, printed
        segments = assert_kept(readable_rows(out), bench.reference)
        bench.finish(out)
        assert_same_table(out, bench.reference)
        return f"{largest} bytes, {segments} segments kept"


def damaged(bench: Bench, interrupted: Path, victim: Path, change: Callable[[bytes], bytes]) -> str:
    """Damages a file of an interrupted run's checkpoints, and resumes it.

    Args:
        bench: See there.
        interrupted: A run folder, which is copied.
        victim: The file, relative to it.
        change: Makes the damaged bytes.
    """
    with bench.out(f"damaged-{os.getpid()}") as out:
        shutil.copytree(interrupted, out, symlinks=True)
        path = out / victim
        path.write_bytes(change(path.read_bytes()))
        bench.finish(out)
        assert_same_table(out, bench.reference)
        return str(victim)


def killed_worker(bench: Bench, seed: int) -> str:
    """Kills one of Ray's workers at a random moment; the run must end by itself.

    Args:
        bench: See there.
        seed: Of the moment and of the worker.
    """
    draws = np.random.default_rng(seed)
    with bench.out(f"worker-{seed}") as out:
        command = bench.run(out)
        time.sleep(draws.uniform(0, bench.reference.duration_s))
        workers = workers_under(command.pid)
        if workers:
            with suppress(ProcessLookupError):
                os.kill(int(draws.choice(workers)), signal.SIGKILL)
        code = command.wait()
        assert code == 0, f"the run ended with {code}:\n{command.printed()}"
        rows = readable_rows(out)
        assert rows is not None
        assert assert_kept(rows, bench.reference, but=REPLAYS) and len(rows) == len(
            bench.reference.rows
        )
        return f"{len(workers)} workers"


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


def workers_under(pid: int) -> list[int]:
    """Lists Ray's workers among the descendants of a process."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").glob("[0-9]*")}
    found = []
    for child in parents:
        above: int | None = child
        while above is not None and above != pid:
            above = parents.get(above)
        if above == pid and child != pid and _title(child).startswith("ray::"):
            found.append(child)
    return sorted(found)


def _parent(path: Path) -> int | None:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return None


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""
