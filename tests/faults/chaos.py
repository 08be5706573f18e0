"""Breaks runs at random and resumes them; prints what came of it.

``make chaos`` plays everything; ``python tests/faults/chaos.py --only sigkill --count 10`` some.
Exit code 1 if a trial failed.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from faults.bench import WORLD, Bench, kept_after, reference_of
from faults.trials import (
    cut_at,
    damaged,
    flipped_at,
    full_disk,
    interrupted_by,
    killed_workers,
    twice_interrupted,
)
from zygote import Zygote, import_all

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
#: Kinds that are played in this process.
IN_THIS = ("cut", "flip")
#: The same run on Ray.
RAY_WORLD = (
    *WORLD,
    "fleet.num_devices=120",
    "num_segments=24",
    "grid=ray",
    "grid.num_workers=2",
    "grid.shard_devices=30",
)
#: So many workers are killed in one run, which goes on.
KILLS_AT_ONCE = 5


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
    if kind in IN_THIS:
        if interrupted is None:
            raise ValueError("files must have an interrupted run")
        yield from _damages(kind, count, seed, interrupted)
        return
    if kind == RAY:
        count = max(1, count // KILLS_AT_ONCE)
    for k in range(seed, seed + count):
        yield Trial(kind, f"{kind} {k}", _player(kind, k))


def _player(kind: str, seed: int) -> Callable[[Bench], str]:
    if kind == "full_disk":
        return lambda bench: full_disk(bench, seed)
    if kind == "sigkill_twice":
        return lambda bench: twice_interrupted(bench, seed)
    if kind == RAY:
        return lambda bench: killed_workers(bench, seed, KILLS_AT_ONCE)
    return lambda bench: interrupted_by(SIGNALS[kind], bench, seed)


def _damages(kind: str, count: int, seed: int, interrupted: Path) -> Iterator[Trial]:
    draws = np.random.default_rng(seed)
    victims = checkpoint_files(interrupted)
    for k, victim in product(range(count), victims):
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
    parser.add_argument("--count", type=int, help="of each kind, or of each kind and file")
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
    failed = 0
    with Zygote(root / "logs-0") as zygote:
        reference = reference_of(zygote, root / "whole", world)
        interrupted = None
        if set(IN_THIS) & set(kinds):
            interrupted = kept_after(zygote, root / "interrupted", world, num_parts=5)
        print(
            f"uninterrupted: {reference.composed_s:.1f} and {reference.resumed_s:.1f} CPU s",
            flush=True,
        )
        with ExitStack() as stack:
            zygotes = [zygote] + [
                stack.enter_context(Zygote(root / f"logs-{k}"))
                for k in range(1, arguments.processes)
            ]
            benches = [
                Bench(each, root / f"bench-{k}", reference, world) for k, each in enumerate(zygotes)
            ]
            for kind in kinds:
                count = arguments.count or COUNTS[kind]
                trials = list(trials_of(kind, count, arguments.seed, interrupted))
                failed += _play_kind(kind, trials, benches)
    return failed


def _play_kind(kind: str, trials: list[Trial], benches: list[Bench]) -> int:
    """Plays the trials of one kind, prints what came of them, and counts those that failed.

    Args:
        kind: Of fault.
        trials: All of them.
        benches: They are played on so many at the same time.
    """
    start = time.monotonic()
    shares = [(trials[k :: len(benches)], bench) for k, bench in enumerate(benches)]
    if kind in IN_THIS:
        failures = _in_children(shares)
    else:
        with ThreadPoolExecutor(len(benches)) as pool:
            jobs = [pool.submit(_some, *share) for share in shares]
            failures = [failure for job in jobs for failure in job.result()]
    spent_s = time.monotonic() - start
    print(f"{kind:14} {len(trials):5} trials {len(failures):4} failed {spent_s:7.0f} s", flush=True)
    for failure in failures:
        print(f"  {failure}", flush=True)
    return len(failures)


def _in_children(shares: Sequence[tuple[list[Trial], Bench]]) -> list[str]:
    """Plays each share in a forked child of this process, and lists the failures."""
    import_all()
    context = get_context("fork")
    told = context.SimpleQueue()
    children = [
        context.Process(target=lambda share=share: told.put(_some(*share))) for share in shares
    ]
    for child in children:
        child.start()
    failures = [failure for _ in children for failure in told.get()]
    for child in children:
        child.join()
    return failures


def _some(trials: list[Trial], bench: Bench) -> list[str]:
    """Plays trials one after the other, and lists the failures."""
    failures = []
    for trial in trials:
        try:
            print(f"  {trial.name}: {trial.play(bench)}", file=sys.stderr, flush=True)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            told = lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}"
            failures.append(f"{trial.name}: {type(error).__name__}: {told}")
            print(f"  {failures[-1]}", file=sys.stderr, flush=True)
    return failures


if __name__ == "__main__":
    sys.exit(main())
