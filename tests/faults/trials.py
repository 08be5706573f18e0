"""Interrupts runs in one way each, resumes them, and compares with a run that nothing interrupted.

A trial starts from a seed alone, so one that failed can be played again. What it must show is the
same for all: what was readable after the fault is in the final table, and the final table is byte
for byte that of the uninterrupted run.
"""

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import yaml
from rich.console import Console
from zygote import Command, Zygote

from cdc_flower.study import provenance
from cdc_flower.study import run as runs
from cdc_flower.study.resume import config_in

RESULTS = "results.parquet"
CONFIG = "config.yaml"
#: A small run in which everything that has a state is in use: the global model, edits of
#: prototypes, memories of codecs, queues of slow links, and draws of a policy.
WORLD = (
    "strategies=[fedavg,duet]",
    "fleet.num_devices=12",
    "num_segments=3",
    "num_negatives=9",
    "cloud.epochs=1",
    "data=shifting_interests",
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
#: One of so many trials is the whole command. All others begin in a folder in which another process
#: was killed when it had written the configuration, and make no summary: composing and summary take
#: four fifths of so small a run, and moments in them are all alike.
EACH_COMPOSED = 5
#: Columns that make a row one of its own.
KEYS = ["strategy", "device_id", "segment", "metric"]
#: Seconds between two kills of a worker, at most.
MOST_S = 4.0
#: The column that counts what was played again on Ray.
REPLAYS = ("num_replays",)


@dataclass(frozen=True)
class Reference:
    """The run that nothing interrupted.

    Attributes:
        table: Bytes of its results.
        rows: The same as a frame.
        config: Bytes of its configuration.
        composed_s: CPU seconds of the command.
        resumed_s: The same where the configuration was there, without a summary.
    """

    table: bytes
    rows: pd.DataFrame
    config: bytes
    composed_s: float
    resumed_s: float


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

    def run(self, out: Path, *, composes: bool = False, largest_file: int | None = None) -> Command:
        """Starts the run in a new folder.

        Args:
            out: The folder.
            composes: Whether the configuration is composed, and a summary made at the end; else
                it is there already, and none is made.
            largest_file: Bytes above which writing to a file fails; None: any.
        """
        if composes:
            return self.zygote.start(*self.world, f"out={out}", largest_file=largest_file)
        out.mkdir(parents=True)
        (out / CONFIG).write_bytes(self.reference.config)
        return self.zygote.start("resume", str(out), largest_file=largest_file, with_summary=False)

    def interrupt(self, out: Path, seed: int, number: int) -> tuple[float, int]:
        """Starts the run and sends it a signal; returns the CPU seconds and the exit code.

        Args:
            out: A new folder.
            seed: Of the moment, which is anywhere in the run.
            number: Of the signal.
        """
        composes = seed % EACH_COMPOSED == 0
        whole_s = self.reference.composed_s if composes else self.reference.resumed_s
        moment_s = np.random.default_rng(seed).uniform(0, whole_s)
        return moment_s, self.run(out, composes=composes).kill_at(moment_s, number)

    def finish(self, out: Path) -> str:
        """Resumes until the end; a run that had not begun begins. Returns the printed text."""
        began = (out / CONFIG).exists()
        arguments = ["resume", str(out)] if began else [*self.world, f"out={out}"]
        command = self.zygote.start(*arguments, with_summary=False)
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
    return plain(pd.concat(frames, ignore_index=True)) if frames else None


def plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Makes texts of categories, which files of several strategies hold in several ways."""
    held = rows.select_dtypes("category").columns
    return rows.astype(dict.fromkeys(held, str))


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
    """Plays the run twice without a fault.

    Args:
        zygote: Starts commands.
        out: The run folder.
        world: Overrides of the run.
    """
    composed_s = _cpu_s(zygote.start(*world, f"out={out}"))
    again = out.with_name(f"{out.name}-again")
    again.mkdir()
    shutil.copy(out / CONFIG, again)
    resumed_s = _cpu_s(zygote.start("resume", str(again), with_summary=False))
    table, config = (out / RESULTS).read_bytes(), (out / CONFIG).read_bytes()
    assert (again / RESULTS).read_bytes() == table, "two runs without a fault differ"
    rows = plain(pd.read_parquet(out / RESULTS))
    return Reference(table, rows, config, composed_s, resumed_s)


def _cpu_s(command: Command) -> float:
    cpu_s = command.whole_cpu_s()
    assert command.wait() == 0, command.printed()
    return cpu_s


def kept_after(
    zygote: Zygote, out: Path, world: Sequence[str], num_parts: int, num_states: int = 2
) -> Path:
    """Kills a run after some segments, when it has saved some states, and gives its folder.

    Args:
        zygote: Starts commands.
        out: The run folder.
        world: Overrides of the run.
        num_parts: After so many segments of any strategy.
        num_states: And so many states.
    """
    command = zygote.start(*world, f"out={out}")
    until = time.monotonic() + 120
    while (
        _count(out, "parts/*/*/*.parquet") < num_parts
        or _count(out, "checkpoints/[0-9]*") < num_states
    ):
        assert time.monotonic() < until, command.printed()
        time.sleep(0.002)
    os.kill(command.pid, signal.SIGKILL)
    command.wait()
    return out


def _count(out: Path, pattern: str) -> int:
    return sum(1 for _ in out.glob(pattern))


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


def workers_under(pid: int) -> list[int]:
    """Lists Ray's workers among the descendants of a process."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").glob("[0-9]*")}
    found = []
    for child in parents:
        above: int | None = child
        while above is not None and above != pid:
            above = parents.get(above)
        if above == pid and child != pid and _is_worker(_title(child)):
            found.append(child)
    return sorted(found)


def _is_worker(title: str) -> bool:
    """Tells a worker from Ray's agents, whose end is that of Ray and who have such titles too.

    On a busy machine a worker may keep the title that it began with.
    """
    if "default_worker.py" in title:
        return True
    return title.startswith("ray::") and not title.endswith("Agent")


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
