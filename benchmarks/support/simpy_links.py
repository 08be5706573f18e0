"""Plays the links of the benchmark in SimPy, as lean as the same answers allow.

A transfer is one event at its end, which a bisection in the cumulative bytes of the trace finds; a
shared cell is one timer and a heap of the levels at which transfers leave, and not a walk over all
that are under way.
"""

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator

import numpy as np
import simpy

from benchmarks.support.link_workload import Workload

#: Of a device in SimPy: it waits for events and is given nothing.
Process = Generator[simpy.Event, object, None]
Finish = Callable[[int, float, float], float]


def finisher(work: Workload, way: str) -> Finish:
    """Makes a function (device, begin, bytes) -> end, on the trace of that device."""
    bank = [getattr(pair, way) for pair in work.traces]
    edges = [trace.edges_s.tolist() for trace in bank]
    rates = [(trace.rates_bps / 8).tolist() for trace in bank]
    carried = [[0.0, *np.cumsum(np.diff(t.edges_s) * t.rates_bps / 8).tolist()] for t in bank]
    channel = work.fleet.channels()[0 if way == "up" else 1]
    which = channel.trace.tolist()
    offset = channel.offset_s.tolist()

    def finish(device: int, begin_s: float, num_bytes: float) -> float:
        k = which[device]
        edge, rate, cum = edges[k], rates[k], carried[k]
        lap, phase = divmod(begin_s + offset[device], edge[-1])
        piece = min(bisect_right(edge, phase) - 1, len(rate) - 1)
        target = cum[piece] + (phase - edge[piece]) * rate[piece] + num_bytes
        more, rest = divmod(target, cum[-1])
        piece = max(bisect_left(cum, rest) - 1, 0)
        return (
            (lap + more) * edge[-1]
            + edge[piece]
            + (rest - cum[piece]) / rate[piece]
            - offset[device]
        )

    return finish


def private(work: Workload) -> np.ndarray:
    """Plays each device alone: it thinks, reports, waits for the answer, and again."""
    env = simpy.Environment()
    timeout = env.timeout
    up = finisher(work, "up")
    down = finisher(work, "down")
    half_s = work.rtt_s / 2
    end = [0.0] * work.num_devices
    think = work.think_s.T.tolist()

    def device(d: int) -> Process:
        for wait_s in think[d]:
            yield timeout(wait_s)
            yield timeout(up(d, env.now, work.up_bytes) + half_s - env.now)
            yield timeout(work.cloud_s)
            yield timeout(down(d, env.now, work.down_bytes) + half_s - env.now)
        end[d] = env.now

    for d in range(work.num_devices):
        env.process(device(d))
    env.run()
    return np.array(end)


class Cell:
    """Processor sharing with one timer."""

    def __init__(self, env: simpy.Environment, rate_bps: float) -> None:
        self.env = env
        self.rate = rate_bps / 8
        self.level = 0.0
        self.since_s = 0.0
        self.count = 0
        self.heap: list[tuple[float, int, simpy.Event]] = []
        self.version = 0

    def enter(self, num_bytes: float) -> simpy.Event:
        """Makes an event that happens when the transfer has left."""
        self._pass()
        done = self.env.event()
        self.count += 1
        heapq.heappush(self.heap, (self.level + num_bytes, self.count, done))
        self._plan()
        return done

    def _pass(self) -> None:
        now = self.env.now
        if self.heap:
            self.level += (now - self.since_s) * self.rate / len(self.heap)
        self.since_s = now

    def _plan(self) -> None:
        self.version += 1
        if self.heap:
            wait_s = max(0.0, (self.heap[0][0] - self.level) * len(self.heap) / self.rate)
            version = self.version
            timer = self.env.timeout(wait_s)
            timer.callbacks.append(lambda _: self._leave(version))

    def _leave(self, version: int) -> None:
        if version == self.version:
            self._pass()
            self.level, _, done = heapq.heappop(self.heap)
            done.succeed()
            self._plan()


def shared(
    work: Workload, *, cell_bps: float | None = None, num_workers: int | None = None
) -> np.ndarray:
    """Plays reports at given times, through a cell or to a queue at the cloud.

    Args:
        work: Reports and answers.
        cell_bps: Of a cell that all devices share; None: there is none.
        num_workers: Of the cloud; None: as many as are needed.

    Returns:
        When each answer is there, ``[rounds, n]``.
    """
    env = simpy.Environment()
    timeout = env.timeout
    up = finisher(work, "up")
    down = finisher(work, "down")
    half_s = work.rtt_s / 2
    n = work.num_devices
    arrival = np.empty(work.ready_s.shape)
    up_free = [0.0] * n
    down_free = [0.0] * n
    ready = work.ready_s.T.tolist()
    cell = None if cell_bps is None else Cell(env, cell_bps)
    workers = None if num_workers is None else simpy.Resource(env, num_workers)

    def device(d: int) -> Process:
        for number, ready_s in enumerate(ready[d]):
            yield timeout(ready_s - env.now)
            env.process(trip(d, number))

    def trip(d: int, number: int) -> Process:
        up_free[d] = up(d, max(env.now, up_free[d]), work.up_bytes)
        yield timeout(up_free[d] + half_s - env.now)
        if cell is not None:
            yield cell.enter(work.up_bytes)
        if workers is not None:
            with workers.request() as mine:
                yield mine
                yield timeout(work.cloud_s)
        else:
            yield timeout(work.cloud_s)
        down_free[d] = down(d, max(env.now, down_free[d]), work.down_bytes)
        arrival[number, d] = down_free[d] + half_s

    for d in range(n):
        env.process(device(d))
    env.run()
    return arrival
