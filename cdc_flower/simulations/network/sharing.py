"""Shares a capacity among transfers, and cloud workers among reports, one after the other.

Processor sharing: while ``m`` transfers are under way each gets an ``m``-th of the capacity
(Kleinrock 1967). With ``v`` the bytes that every transfer under way has got since the beginning,
one that arrives at ``v`` with ``B`` bytes leaves at ``v + B``, so a heap of these values is all
that there is to keep.
"""

import heapq
from dataclasses import dataclass, field

import numpy as np

from cdc_flower.core.saveable import (
    ANY,
    Arrays,
    Saved,
    restore_fields,
    saved_fields,
    taken,
)
from cdc_flower.simulations.network.rates import Floats, Ints, TraceBank
from cdc_flower.simulations.network.trace import Trace


@dataclass
class Departures:
    """Tells who left, and when: ``ids`` ``[k]`` and ``times_s`` ``[k]`` in the order of leaving."""

    ids: Ints
    times_s: Floats


class SharedCapacity:
    """Shares one cell, or the line behind it, among all transfers.

    Args:
        rate_bps: Of the whole, for a constant one.
        start_s: When it begins to count.
        trace: The rate in time instead, from ``start_s`` on.
    """

    def __init__(self, rate_bps: float, start_s: float, trace: Trace | None = None) -> None:
        self._rate, self._start_s = rate_bps / 8, start_s
        self._bank = None if trace is None else TraceBank([trace])
        self._arrivals: list[tuple[float, int, float]] = []  # (capacity used up, id, bytes), a heap
        self._under_way: list[tuple[float, int]] = []  # (v at which it leaves, id), a heap
        self._used, self._level = 0.0, 0.0

    def to_arrays(self) -> Arrays:
        """Takes both heaps, in the order in which they are held, and how far it has come."""
        arrivals = np.array([(at, size) for at, _, size in self._arrivals], np.float64)
        return {
            "arrival": arrivals.reshape(-1, 2),
            "arrival_id": np.array([number for _, number, _ in self._arrivals], np.int64),
            "leaves": np.array([level for level, _ in self._under_way], np.float64),
            "leaves_id": np.array([number for _, number in self._under_way], np.int64),
            **saved_fields(self, ("_used", "_level")),
        }

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with saved transfers."""
        arrival = taken(arrays, "arrival", np.float64, (ANY, 2))
        ids = taken(arrays, "arrival_id", np.int64, (len(arrival),)).tolist()
        leaves = taken(arrays, "leaves", np.float64, (ANY,)).tolist()
        leaves_id = taken(arrays, "leaves_id", np.int64, (len(leaves),)).tolist()
        at, sizes = arrival.T.tolist() if len(arrival) else ([], [])
        self._arrivals = list(zip(at, ids, sizes, strict=True))
        self._under_way = list(zip(leaves, leaves_id, strict=True))
        restore_fields(self, ("_used", "_level"), arrays)

    def add(self, ids: Ints, times_s: Floats, num_bytes: Ints) -> None:
        """Adds transfers; one from before the time reached arrives now.

        Args:
            ids: ``[k]``, under which they leave.
            times_s: ``[k]``, when they arrive.
            num_bytes: ``[k]``.
        """
        at = np.maximum(self._position(times_s), self._used).tolist()
        for arrival in zip(at, ids.tolist(), num_bytes.tolist(), strict=True):
            heapq.heappush(self._arrivals, arrival)

    def run(self, until_s: float, targets: Ints | None = None) -> Departures:
        """Goes on until a time, or until the last of the targets has left if that is earlier."""
        end = float(self._position(np.array([until_s]))[0]) if until_s < np.inf else np.inf
        waited = None if targets is None else set(targets.tolist())
        arrivals, under_way = self._arrivals, self._under_way
        used, level, left_ids, left_at = self._used, self._level, [], []
        push, pop = heapq.heappush, heapq.heappop
        while under_way or arrivals:
            if waited is not None and not waited:
                break
            arrival = arrivals[0][0] if arrivals else np.inf
            if under_way:
                count = len(under_way)
                leave = used + (under_way[0][0] - level) * count
                if leave <= arrival:
                    if leave > end:
                        break
                    level, number = pop(under_way)
                    used = leave if leave > used else used
                    left_ids.append(number)
                    left_at.append(used)
                    if waited is not None:
                        waited.discard(number)
                    continue
                if arrival > end:
                    break
                level += (arrival - used) / count
            elif arrival > end:
                break
            used = arrival
            _, number, size = pop(arrivals)
            push(under_way, (level + size, number))
            if not under_way[1:]:  # nobody was there: v may begin anew, which keeps it precise
                under_way[0], level = (float(size), number), 0.0
        if end < np.inf and waited is None and end > used:
            if under_way:
                level += (end - used) / len(under_way)
            used = end
        self._used, self._level = used, level
        return Departures(np.array(left_ids, np.int64), self._times(np.array(left_at)))

    def _position(self, times_s: Floats) -> Floats:
        since_s = np.maximum(times_s - self._start_s, 0.0)
        if self._bank is None:
            return since_s * self._rate
        return self._bank.position(np.zeros(len(times_s), np.int64), since_s)

    def _times(self, positions: Floats) -> Floats:
        if self._bank is None:
            return self._start_s + positions / self._rate
        return self._start_s + self._bank.time_s(np.zeros(len(positions), np.int64), positions)


@dataclass
class Workers:
    """Gives each cloud worker one report at a time, first come first served.

    Args:
        num_workers: How many; None: one for each report, so that nobody waits.
        start_s: From when on they are free.
    """

    num_workers: int | None
    start_s: float
    _free_s: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self._free_s = [self.start_s] * (self.num_workers or 0)

    def to_arrays(self) -> Arrays:
        """Takes from when on each worker is free."""
        return {"free_s": np.array(self._free_s, np.float64)}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with as many saved workers."""
        self._free_s = taken(arrays, "free_s", np.float64, (len(self._free_s),)).tolist()

    def serve(self, arrival_s: Floats, work_s: Floats) -> Floats:
        """Tells when work ``[k]`` is done that arrives in this order, after all before it."""
        if self.num_workers is None:
            return arrival_s + work_s
        free, done = self._free_s, []
        for arrival, work in zip(arrival_s.tolist(), work_s.tolist(), strict=True):
            end = max(arrival, free[0]) + work
            heapq.heapreplace(free, end)
            done.append(end)
        return np.array(done)
