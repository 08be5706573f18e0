"""Measures links in virtual time: the engine against SimPy, with equal answers.

    python -m benchmarks.network

10,000 devices with 100 transfers each (50 reports of 4 kB up, 50 answers of 200 kB down) over 40
traces of 600 s, from random moments. ``private``: each device thinks, reports, waits for its
answer, and again. ``cell``: reports come at given times and share a cell that is busy 80 % of the
time. ``queue``: they queue for cloud workers who are busy as much.
``tests/simulations/test_links_oracle.py`` holds more cases to a SimPy model written with no thought
of speed. CPU seconds of one thread; for the engine also the most memory that the process held.
"""

import os
import resource
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.support import simpy_links
from benchmarks.support.link_workload import Workload
from benchmarks.support.measure import close, own_cpu_s
from cdc_flower.simulations.network.channel import Fifo
from cdc_flower.simulations.network.paths import DownPath, UpPath
from cdc_flower.simulations.network.sharing import SharedCapacity, Workers

REPEATS = 3
GIB = 2**30


def private(work: Workload) -> np.ndarray:
    """Plays all devices at once, one report and one answer after the other."""
    up, down = (Fifo(channel, 0.0) for channel in work.fleet.channels())
    rows = np.arange(work.num_devices)
    for_ever = np.full(work.num_devices, np.inf)
    up_bytes = np.full(work.num_devices, work.up_bytes)
    down_bytes = np.full(work.num_devices, work.down_bytes)
    now_s = np.zeros(work.num_devices)
    for think_s in work.think_s:
        report_arrival_s, _, _ = up.send(rows, now_s + think_s, up_bytes, for_ever)
        now_s, _, _ = down.send(rows, report_arrival_s + work.cloud_s, down_bytes, for_ever)
    return now_s


def shared(
    work: Workload, *, cell_bps: float | None = None, num_workers: int | None = None
) -> np.ndarray:
    """Plays segment by segment, as ``LinkGrid`` does: cell and queue go on from where they were.

    Args:
        work: Reports and answers.
        cell_bps: Of a cell that all devices share; None: there is none.
        num_workers: Of the cloud; None: as many as are needed.
    """
    channels = work.fleet.channels()
    cell = None if cell_bps is None else SharedCapacity(cell_bps, 0.0)
    up = UpPath(channels[0], cell, 0.0)
    down = DownPath(channels[1], None, 0.0)
    workers = Workers(num_workers, 0.0)
    n = work.num_devices
    rows = np.arange(n)
    up_bytes = np.full(n, work.up_bytes)
    for_ever = np.full(n, np.inf)
    waiting = np.empty(0, np.int64)
    answers = np.empty(0, np.int64)
    for number in range(work.num_rounds + 1):
        if number < work.num_rounds:
            tickets, _ = up.send(rows, up_bytes, work.ready_s[number], for_ever, replaces=False)
            waiting = np.append(waiting, tickets)
            answers = np.append(answers, down.tickets(rows, for_ever))
        until_s = (number + 1) * work.segment_s if number < work.num_rounds else np.inf
        up.run(until_s)
        report_arrival_s = up.arrival_s[waiting]
        here = report_arrival_s <= min(until_s, 1e300)
        order = np.flatnonzero(here)[np.argsort(report_arrival_s[here], kind="stable")]
        done_s = workers.serve(report_arrival_s[order], np.full(len(order), work.cloud_s))
        down.send(answers[order], np.full(len(order), work.down_bytes), done_s)
        waiting = waiting[~here]
        answers = answers[~here]
    return down.arrival_s[np.arange(down.arrival_s.size)].reshape(work.num_rounds, n)


def main() -> None:
    """Measures, prints, and closes."""
    work = Workload()
    arms: dict[str, tuple[Callable[[], np.ndarray], Callable[[], np.ndarray]]] = {
        "private": (lambda: private(work), lambda: simpy_links.private(work)),
        "cell": (
            lambda: shared(work, cell_bps=work.cell_bps),
            lambda: simpy_links.shared(work, cell_bps=work.cell_bps),
        ),
        "queue": (
            lambda: shared(work, num_workers=work.num_workers),
            lambda: simpy_links.shared(work, num_workers=work.num_workers),
        ),
    }
    for ours, _ in arms.values():
        ours()
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    ratios = {}
    per_device = work.num_devices * work.num_rounds * 2
    for name, (ours, theirs) in arms.items():
        seconds: list[list[float]] = [[], []]
        answers = [np.empty(0), np.empty(0)]
        for _ in range(REPEATS):  # in turns, so that a noisy moment hits both
            for which, run in enumerate((ours, theirs)):
                start_s = own_cpu_s()
                answers[which] = run()
                seconds[which].append(own_cpu_s() - start_s)
        np.testing.assert_allclose(answers[0], answers[1], rtol=1e-9)
        mine, simpy = (float(np.median(values)) for values in seconds)
        ratios[f"simpy_to_{name}"] = simpy / mine
        print(
            f"{name}: engine {1e6 * mine / per_device:.2f}, SimPy {1e6 * simpy / per_device:.2f} "
            "CPU µs a transfer"
        )
    print(f"engine: {peak_bytes / GIB:.2f} GiB")
    bars = {
        "simpy_to_private": 20.0,
        "simpy_to_cell": 2.5,
        "simpy_to_queue": 2.5,
        "memory_to_1_gib": 1.0,
    }
    close(
        "network",
        {**ratios, "memory_to_1_gib": peak_bytes / GIB},
        bars,
        at_most=["memory_to_1_gib"],
    )


if __name__ == "__main__":
    main()
