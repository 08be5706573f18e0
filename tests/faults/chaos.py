"""Breaks runs at random and resumes them; prints what came of it.

``make chaos`` plays everything; ``python tests/faults/chaos.py --only sigkill --count 10`` some.
Exit code 1 if a trial failed.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from faults.trials import (
    WORLD,
    Bench,
    Reference,
    cut_at,
    damaged,
    flipped_at,
    full_disk,
    interrupted_by,
    kept_after,
    killed_worker,
    reference_of,
    twice_interrupted,
)
from zygote import Zygote

#: The kind of fault that needs a run on Ray.
RAY = "ray_worker"
#: Kind of fault -> how often it is tried; of files: for each file of a checkpoint.
COUNTS = {
    "sigkill": 100,
    "sigkill_twice": 20,
    "sigterm": 20,
    "sighup": 10,
    "sigint": 10,
    "full_disk": 20,
    "cut": 50,
    "flip": 50,
    RAY: 50,
}
SIGNALS = {
    "sigkill": signal.SIGKILL,
    "sigterm": signal.SIGTERM,
    "sighup": signal.SIGHUP,
    "sigint": signal.SIGINT,
}
#: The same run on Ray.
RAY_WORLD = (*WORLD, "grid=ray", "grid.num_workers=2", "grid.shard_devices=4")


@dataclass(frozen=True)
class Trial:
    """One fault in one run.

    Attributes:
        kind: Of the fault.
        name: Of the trial.
        play: Plays it; whatever it raises is a failure.
    """

    kind: str
    name: str
    play: Callable[[Bench], str]


def trials_of(kind: str, count: int, seed: int, interrupted: Path | None) -> Iterator[Trial]:
    """Makes the trials of a kind of fault.

    Args:
        kind: One of ``COUNTS``.
        count: How many; of files, for each file.
        seed: Of all draws.
        interrupted: The folder of an interrupted run, whose files are damaged.
    """
    if kind in ("cut", "flip"):
        if interrupted is None:
            raise ValueError("files must have an interrupted run")
        yield from _damages(kind, count, seed, interrupted)
        return
    for k in range(seed, seed + count):
        yield Trial(kind, f"{kind} {k}", _player(kind, k))


def _player(kind: str, seed: int) -> Callable[[Bench], str]:
    if kind == "full_disk":
        return lambda bench: full_disk(bench, seed)
    if kind == "sigkill_twice":
        return lambda bench: twice_interrupted(bench, seed)
    if kind == RAY:
        return lambda bench: killed_worker(bench, seed)
    return lambda bench: interrupted_by(SIGNALS[kind], bench, seed)


def _damages(kind: str, count: int, seed: int, interrupted: Path) -> Iterator[Trial]:
    draws = np.random.default_rng(seed)
    for victim in checkpoint_files(interrupted):
        for k in range(count):
            share = k / count if kind == "cut" else float(draws.uniform())
            change = cut_at(share) if kind == "cut" else flipped_at(share, int(draws.integers(8)))
            yield Trial(
                kind,
                f"{kind} {victim} at {share:.3f}",
                lambda bench, v=victim, c=change: damaged(bench, interrupted, v, c),
            )


def checkpoint_files(folder: Path) -> list[Path]:
    """Lists the files from which a run goes on, relative to its folder."""
    kept = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    told = {"config.yaml", "run.log", "links.yaml", "provenance.yaml", "summary.csv"}
    return [path.relative_to(folder) for path in kept if path.name not in told]


def main() -> int:
    """Plays trials, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=COUNTS, default=list(COUNTS))
    parser.add_argument("--count", type=int, help="of each kind, in place of the usual numbers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        inline = [kind for kind in arguments.only if kind != RAY]
        if inline:
            failed += _play(WORLD, inline, arguments, Path(folder) / "inline")
        if RAY in arguments.only:
            failed += _play(RAY_WORLD, [RAY], arguments, Path(folder) / "ray")
    return 1 if failed else 0


def _play(
    world: tuple[str, ...], kinds: list[str], arguments: argparse.Namespace, root: Path
) -> int:
    """Plays the trials of some kinds, and returns how many failed.

    Args:
        world: Overrides of the run.
        kinds: Of faults.
        arguments: Of the command line.
        root: For all folders.
    """
    with Zygote(root / "reference") as zygote:
        reference = reference_of(zygote, root / "whole", world)
        interrupted = None
        if {"cut", "flip"} & set(kinds):
            interrupted = kept_after(zygote, root / "interrupted", world, num_parts=6)
    print(f"uninterrupted: {reference.duration_s:.1f} s", flush=True)
    failed = 0
    for kind in kinds:
        start = time.monotonic()
        trials = list(trials_of(kind, arguments.count or COUNTS[kind], arguments.seed, interrupted))
        share = [trials[k :: arguments.processes] for k in range(arguments.processes)]
        with ThreadPoolExecutor(arguments.processes) as pool:
            jobs = [
                pool.submit(_some, part, root / f"{kind}-{k}", reference, world)
                for k, part in enumerate(share)
            ]
            failures = [failure for job in jobs for failure in job.result()]
        spent_s = time.monotonic() - start
        print(
            f"{kind:14} {len(trials):5} trials {len(failures):4} failed {spent_s:7.0f} s",
            flush=True,
        )
        for failure in failures:
            print(f"  {failure}", flush=True)
        failed += len(failures)
    return failed


def _some(
    trials: list[Trial], folder: Path, reference: Reference, world: tuple[str, ...]
) -> list[str]:
    """Plays trials one after the other, and lists the failures.

    Args:
        trials: Of one kind.
        folder: Of these trials.
        reference: The uninterrupted run.
        world: Overrides of the run.
    """
    failures = []
    with Zygote(folder / "logs") as zygote:
        bench = Bench(zygote, folder, reference, world)
        for trial in trials:
            try:
                trial.play(bench)
            except Exception as error:
                lines = str(error).strip().splitlines() or [""]
                told = lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}"
                failures.append(f"{trial.name}: {type(error).__name__}: {told}")
    return failures


if __name__ == "__main__":
    sys.exit(main())
