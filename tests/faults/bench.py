"""A run that nothing interrupted, and what is held against it: rows that are kept, the table."""

import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from zygote import Command, Zygote

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
    "references=[]",
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
