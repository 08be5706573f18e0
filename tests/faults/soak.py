"""Plays one long run on Ray while its workers are killed, and watches its memory.

``make soak`` takes an hour; ``python tests/faults/soak.py --minutes 4 --every-s 15`` less. Exit
code 1 if memory grew: of the driver, and of the largest worker, the median of the last quarter may
be 5 % above that of the first.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pandas as pd
from faults.workers import workers_under
from zygote import Command, Zygote

#: Growth of memory above which the soak fails.
MOST_GROWTH = 1.05
#: Seconds between two looks at memory.
LOOK_S = 2.0
#: Of the time after the first segment, in which caches and the first states are made.
WARM_UP_S = 20.0
#: Within so much time there is a first segment.
START_S = 300.0
#: Seconds between two printed lines.
TELL_S = 180.0
#: More than are played in a minute.
SEGMENTS_A_MINUTE = 480
NUM_DEVICES = 100
WORLD = (
    "strategies=[duet]",
    f"fleet.num_devices={NUM_DEVICES}",
    "num_negatives=9",
    "cloud.epochs=1",
    "data=shifting_interests",
    "references=[]",
    "data.num_items=60",
    "data.events_per_segment=4",
    "data.history_events=12",
    "strategy.duet.epochs=1",
    "network=nb_iot",
    "protocol.codecs=[delta,int8,zstd]",
    "policy=random",
    "policy.rate=0.5",
    "report=false",
    "controls=false",
    "grid=ray",
    "grid.num_workers=2",
)


@dataclass
class Memory:
    """Resident memory over time, in MiB.

    Attributes:
        driver: Of the process that plays the run.
        workers: Of its largest worker, where it has one.
    """

    driver: list[float] = field(default_factory=list)
    workers: list[float] = field(default_factory=list)

    def look(self, pid: int) -> None:
        """Takes the memory of a process and of its workers."""
        self.driver.append(resident_mib(pid))
        sizes = [size for worker in workers_under(pid) if (size := resident_mib(worker))]
        if sizes:
            self.workers.append(max(sizes))

    def growth(self) -> dict[str, float]:
        """Divides the median of the last quarter by that of the first."""
        return {
            name: statistics.median(values[-quarter:]) / statistics.median(values[:quarter])
            for name, values in (("driver", self.driver), ("workers", self.workers))
            if (quarter := len(values) // 4)
        }

    def told(self) -> dict[str, object]:
        """Makes the figures to print."""
        return {
            "driver_mib": round(statistics.median(self.driver[-50:] or [0.0])),
            "worker_mib": round(statistics.median(self.workers[-50:] or [0.0])),
            "growth": {name: round(value, 3) for name, value in self.growth().items()},
        }


def resident_mib(pid: int) -> float:
    """Reads the resident memory of a process; 0 if it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass
class Soak:
    """One run under faults.

    Attributes:
        command: The run.
        out: Its folder.
        memory: What it took so far.
        num_killed: Workers so far.
    """

    command: Command
    out: Path
    memory: Memory = field(default_factory=Memory)
    num_killed: int = 0

    def play(self, minutes: float, every_s: float, seed: int) -> None:
        """Kills a worker now and then, and looks at the memory, until the time is over.

        Args:
            minutes: After the first segment.
            every_s: Seconds between two kills.
            seed: Of the draws.
        """
        draws = np.random.default_rng(seed)
        self._await_first_segment()
        start_s = time.monotonic()
        next_kill_s, next_line_s = WARM_UP_S + every_s, TELL_S
        segments_then = 0
        while (now_s := time.monotonic() - start_s) < 60 * minutes:
            if self.command.ended_within(LOOK_S) is not None:
                return
            if now_s > WARM_UP_S:
                self.memory.look(self.command.pid)
            # A machine so busy that no segment was finished since the last kill gets its time.
            if now_s > next_kill_s and self._num_segments() > segments_then:
                next_kill_s = max(next_kill_s, now_s - every_s) + every_s
                segments_then = self._num_segments()
                self._kill(draws)
            if now_s > next_line_s:
                next_line_s += TELL_S
                print(json.dumps({"minutes": round(now_s / 60, 1), **self.told()}), flush=True)

    def told(self) -> dict[str, object]:
        """Makes the figures to print."""
        return {
            "segments": self._num_segments(),
            "workers_killed": self.num_killed,
            **self.memory.told(),
        }

    def _num_segments(self) -> int:
        return sum(1 for _ in (self.out / "parts").glob("*/*/*.parquet"))

    def _await_first_segment(self) -> None:
        until = time.monotonic() + START_S
        while not any((self.out / "parts").glob("*/*/*.parquet")):
            if self.command.ended_within(LOOK_S) is not None or time.monotonic() > until:
                raise RuntimeError(f"the run must begin:\n{self.command.printed()}")

    def _kill(self, draws: np.random.Generator) -> None:
        workers = workers_under(self.command.pid)
        if workers:
            with suppress(ProcessLookupError):
                os.kill(int(draws.choice(workers)), signal.SIGKILL)
                self.num_killed += 1


def rows_are_whole(out: Path, num_devices: int) -> tuple[int, bool]:
    """Counts finished segments, and tells whether each has one row a device and metric."""
    paths = sorted((out / "parts").glob("*/*/*.parquet"))
    frames = (pd.read_parquet(path, columns=["segment", "device_id", "metric"]) for path in paths)
    whole = True
    for frame in frames:
        per_device = frame.groupby("device_id").metric
        same = (per_device.nunique() == per_device.size()).all()
        whole &= bool(same) and frame.device_id.nunique() == num_devices
    return len(paths), whole


def main() -> int:
    """Plays the run, prints figures, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every-s", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    segments = int(arguments.minutes * SEGMENTS_A_MINUTE)
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as folder,
        Zygote(Path(folder, "logs")) as zygote,
    ):
        out = Path(folder) / "run"
        command = zygote.start(*WORLD, f"num_segments={segments}", f"out={out}")
        soak = Soak(command, out)
        soak.play(arguments.minutes, arguments.every_s, arguments.seed)
        with suppress(ProcessLookupError):
            os.kill(command.pid, signal.SIGTERM)
        code = command.wait()
        num_segments, whole = rows_are_whole(out, NUM_DEVICES)
        growth = soak.memory.growth()
        ok = code == 128 + signal.SIGTERM and whole and max(growth.values()) <= MOST_GROWTH
        told = {
            "minutes": arguments.minutes,
            **soak.told(),
            "segments": num_segments,
            "exit_code": code,
            "rows_whole": whole,
            "ok": ok,
        }
        print(json.dumps(told), flush=True)
        if not ok:
            print(command.printed()[-3000:], file=sys.stderr)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
