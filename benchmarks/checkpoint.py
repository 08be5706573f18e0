"""Measures what it costs a run of 10,000 devices to keep states from which it can go on.

    python -m benchmarks.checkpoint

The same run is played, in turns, without states, with a state after each segment, and with
``checkpoint.every=auto`` where no minute must pass: as often as its rule of a thirtieth allows,
which a long run does not do. The bar is on the latter, from what saving took within the run, on the
CPU and on the clock. Writing the rows of each segment is no part of it, and is given beside it.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.support.measure import close, own_cpu_s
from cdc_flower.api.composing import composed
from cdc_flower.study import journal
from cdc_flower.study import run as runs
from cdc_flower.study.journal import Journal
from cdc_flower.study.saved_sessions import SavedSessions
from cdc_flower.study.session import Session

NUM_DEVICES = 10_000
NUM_SEGMENTS = 5
REPEATS = int(sys.argv[1]) if len(sys.argv) > 1 else 2
#: Of a run, that saving may take.
MOST = 0.05
KEYS: Mapping[str, object] = {
    "strategies": ["duet"],  # each device has layers of its own, so its states are large
    "fleet.num_devices": NUM_DEVICES,
    "num_segments": NUM_SEGMENTS,
    "cloud.epochs": 1,
    "strategy.duet.epochs": 1,
    "data.history_events": 10,  # training is no part of what is measured
    "network": "lte",
    "report": False,
}
#: ``checkpoint.every``, and the seconds that ``auto`` waits at least.
WAYS: Mapping[str, tuple[str | int | None, float]] = {
    "auto": ("auto", 0.0),
    "none": (None, journal.AUTO_S),
    "each": (1, journal.AUTO_S),
}
P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Spent:
    """Seconds of some calls.

    Attributes:
        cpu_s: On the CPU.
        wall_s: On the clock.
        count: How many calls.
    """

    cpu_s: float = 0.0
    wall_s: float = 0.0
    count: int = 0

    def timed(self, call: Callable[P, R]) -> Callable[P, R]:
        """Makes the same call, whose time is added."""

        def calling(*args: P.args, **kwargs: P.kwargs) -> R:
            cpu_s, wall_s = own_cpu_s(), time.monotonic()
            try:
                return call(*args, **kwargs)
            finally:
                self.cpu_s += own_cpu_s() - cpu_s
                self.wall_s += time.monotonic() - wall_s
                self.count += 1

        return calling


@dataclass
class Played:
    """What a run spent, on all, on its states, and on its rows.

    Attributes:
        whole: From the end of training to the last row.
        states: On making and writing states.
        rows: On writing rows.
        state_bytes: Of the largest state.
    """

    whole: Spent = field(default_factory=Spent)
    states: Spent = field(default_factory=Spent)
    rows: Spent = field(default_factory=Spent)
    state_bytes: int = 0


def played(every: str | int | None, auto_s: float, folder: Path) -> Played:
    """Plays the run, and measures it from within.

    Args:
        every: Of ``checkpoint.every``.
        auto_s: Seconds between two states with ``auto``, at least.
        folder: For the run; trained parameters of earlier ones are beside it.
    """
    spent = Played()
    save = SavedSessions.save

    def saving(sessions: SavedSessions, arrays: object, facts: Mapping[str, object]) -> None:
        save(sessions, arrays, facts)  # type: ignore[arg-type]
        size = max(path.stat().st_size for path in sessions.folder.rglob("*.safetensors"))
        spent.state_bytes = max(spent.state_bytes, size)

    out, cache = folder / "run", folder.parent / "cache"
    config, _ = composed({**KEYS, "checkpoint.every": every, "out": str(out), "cache": str(cache)})
    patches = (
        mock.patch.object(journal, "AUTO_S", auto_s),
        mock.patch.object(SavedSessions, "save", spent.states.timed(saving)),
        mock.patch.object(Session, "to_arrays", spent.states.timed(Session.to_arrays)),
        mock.patch.object(Journal, "append", spent.rows.timed(Journal.append)),
        mock.patch.object(Session, "run", spent.whole.timed(Session.run)),
        mock.patch.object(runs, "finish", lambda *_, **__: None),
    )
    for patch in patches:
        patch.start()
    try:
        runs.run(config)
    finally:
        for patch in patches:
            patch.stop()
    return spent


def main() -> None:
    """Plays the runs in turns, prints, and closes."""
    found: dict[str, list[Played]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as place:
        for turn in range(REPEATS):
            for name, (every, auto_s) in WAYS.items():
                folder = Path(place, f"{name}-{turn}")
                folder.mkdir()
                found[name].append(played(every, auto_s, folder))
                print(f"{name}: {found[name][-1]}", file=sys.stderr, flush=True)
    whole = {
        name: statistics.median(each.whole.cpu_s for each in runs) for name, runs in found.items()
    }
    ratios = {}
    for name, runs_played in found.items():
        states = [each.states for each in runs_played]
        shares = [
            statistics.median(
                kept / (whole_s - kept) for kept, whole_s in _pairs(runs_played, clock)
            )
            for clock in ("cpu_s", "wall_s")
        ]
        rows = statistics.median(each.rows.cpu_s / each.whole.cpu_s for each in runs_played)
        print(
            f"{name}: {whole[name]:.1f} CPU s, {whole[name] / whole['none']:.3f} times none; "
            f"{states[0].count // 2} states of {runs_played[0].state_bytes / 1e6:.1f} MB, "
            f"{shares[0]:.1%} of the CPU, {shares[1]:.1%} of the time; rows {rows:.1%}"
        )
        if name != "none":
            ratios |= {f"{name}_cpu": shares[0], f"{name}_wall": shares[1]}
    close("checkpoint", ratios, {"auto_cpu": MOST, "auto_wall": MOST}, at_most=ratios)


def _pairs(runs_played: list[Played], clock: str) -> list[tuple[float, float]]:
    return [(getattr(each.states, clock), getattr(each.whole, clock)) for each in runs_played]


if __name__ == "__main__":
    main()
