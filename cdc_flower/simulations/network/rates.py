"""Exact times of transfers: the inverse of the cumulative bytes of a trace, for many links.

With ``C(t)`` the bytes that a link can carry from 0 to ``t``, a transfer of ``B`` bytes that begins
at ``s`` ends at the first ``t`` with ``C(t) - C(s) = B`` (as in Pensieve's simulator, SIGCOMM
2017). ``C`` is linear between the edges of a trace, so both ``C`` and its inverse are exact up to
the rounding of floating-point numbers.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cdc_flower.simulations.network.trace import Trace

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: So little, of a byte and of a lap, is not waited for across a gap of the trace: it is less than
#: rounding may add.
SLACK_BYTES, SLACK_SHARE = 1e-6, 1e-14
#: Steps from a guide table's entry before the rest is searched by halving.
STEPS = 3


class _Axis:
    """Searches ascending numbers of several traces, from a table that leads close to a number.

    Args:
        values: Of each trace, ``[k + 1]`` from 0; they ascend, but some may be equal.
    """

    def __init__(self, values: Sequence[Floats]) -> None:
        self.flat = np.concatenate(values)
        counts = np.array([len(part) for part in values])
        self.first = np.cumsum([0, *counts[:-1]])
        self.last = self.first + counts - 2  # the last piece of each trace
        self.buckets = 2 * (counts - 1)
        self.size = np.array([part[-1] for part in values])
        self.table_first = np.cumsum([0, *self.buckets[:-1]])
        self.table = np.concatenate(
            [
                np.clip(
                    np.searchsorted(part, np.arange(num) * (part[-1] / num), "right") - 1,
                    0,
                    len(part) - 2,
                )
                + first
                for part, num, first in zip(values, self.buckets, self.first, strict=True)
            ]
        )
        self._per_size = self.buckets / self.size

    def right(self, trace: Ints, value: Floats) -> Ints:
        """Finds the piece that begins at or before each value and ends after it."""
        return self._search(trace, value, np.less_equal)

    def left(self, trace: Ints, value: Floats) -> Ints:
        """Finds the piece that begins before each value and ends at or after it."""
        return self._search(trace, value, np.less)

    def _search(self, trace: Ints, value: Floats, before: np.ufunc) -> Ints:
        """Finds the last piece whose edge is ``before`` the value."""
        bucket = np.minimum(
            (value * self._per_size[trace]).astype(np.int64), self.buckets[trace] - 1
        )
        piece, last = self.table[self.table_first[trace] + bucket], self.last[trace]
        back = ~before(self.flat[piece], value)
        if back.any():  # the edge of a bucket was rounded, or many pieces begin at it
            piece[back] = self._halve(self.first[trace[back]], piece[back], value[back], before)
        for _ in range(STEPS):
            further = before(self.flat[piece + 1], value) & (piece < last)
            if not further.any():
                return piece
            piece += further
        far = np.flatnonzero(before(self.flat[piece + 1], value) & (piece < last))
        piece[far] = self._halve(piece[far], last[far], value[far], before)
        return piece

    def _halve(self, low: Ints, high: Ints, value: Floats, before: np.ufunc) -> Ints:
        """Finds the last piece of ``low`` to ``high`` beginning before the value; else ``low``."""
        low, high = low.copy(), high.copy()
        while (low < high).any():
            middle = (low + high + 1) // 2
            is_before = before(self.flat[middle], value)
            low, high = np.where(is_before, middle, low), np.where(is_before, high, middle - 1)
        return low


class TraceBank:
    """Holds traces side by side, for links that each follow one of them.

    Args:
        traces: At least one.
    """

    def __init__(self, traces: Sequence[Trace]) -> None:
        self.traces = tuple(traces)
        self.duration_s = np.array([trace.duration_s for trace in traces])
        rates = [trace.rates_bps / 8 for trace in traces]
        carried = [
            np.append(0.0, np.cumsum(rate * np.diff(trace.edges_s)))
            for rate, trace in zip(rates, traces, strict=True)
        ]
        self.total = np.array([part[-1] for part in carried])  # bytes until it begins anew
        self._times, self._bytes = _Axis([trace.edges_s for trace in traces]), _Axis(carried)
        self._slack = np.maximum(SLACK_BYTES, SLACK_SHARE * self.total)
        self._rate = np.concatenate([np.append(rate, 0.0) for rate in rates])

    def __len__(self) -> int:
        return len(self.traces)

    def position(self, trace: Ints, time_s: Floats) -> Floats:
        """Gives ``C(t)`` ``[k]``: bytes that each trace carries until a time, over all laps."""
        lap, piece, phase_s = self._find(trace, time_s)
        return lap * self.total[trace] + self._at(piece, phase_s)

    def time_s(self, trace: Ints, position: Floats) -> Floats:
        """Finds the first time at which each trace has carried ``position > 0`` bytes."""
        lap = np.ceil((position - self._slack[trace]) / self.total[trace]) - 1
        return self._time_in_lap(trace, lap, position - lap * self.total[trace])

    def finish_s(self, trace: Ints, begin_s: Floats, num_bytes: Floats) -> Floats:
        """Finds when transfers end, ``[k]``.

        Args:
            trace: ``[k]``, which each follows.
            begin_s: ``[k]``, in the time of the trace.
            num_bytes: ``[k]``, above 0.
        """
        lap, piece, phase_s = self._find(trace, begin_s)
        target, total = self._at(piece, phase_s) + num_bytes, self.total[trace]
        more = np.ceil((target - self._slack[trace]) / total) - 1
        return np.maximum(self._time_in_lap(trace, lap + more, target - more * total), begin_s)

    def resume_s(self, trace: Ints, time_s: Floats) -> Floats:
        """Finds the first moment from each time on with a rate; no trace may begin with none."""
        lap, piece, _ = self._find(trace, time_s)
        end_s = lap * self.duration_s[trace] + self._times.flat[piece + 1]
        return np.where(self._rate[piece] == 0, np.maximum(end_s, time_s), time_s)

    def _find(self, trace: Ints, time_s: Floats) -> tuple[Floats, Ints, Floats]:
        """Finds the lap, the piece, and the seconds since the lap began."""
        duration_s = self.duration_s[trace]
        lap = np.floor(time_s / duration_s)
        phase_s = np.clip(time_s - lap * duration_s, 0.0, duration_s)
        return lap, self._times.right(trace, phase_s), phase_s

    def _at(self, piece: Ints, phase_s: Floats) -> Floats:
        return self._bytes.flat[piece] + (phase_s - self._times.flat[piece]) * self._rate[piece]

    def _time_in_lap(self, trace: Ints, lap: Floats, target: Floats) -> Floats:
        target = np.clip(target, np.finfo(np.float64).tiny, self.total[trace])
        reached = np.maximum(target - self._slack[trace], np.finfo(np.float64).tiny)
        piece = self._bytes.left(trace, reached)
        phase_s = self._times.flat[piece] + (target - self._bytes.flat[piece]) / self._rate[piece]
        return lap * self.duration_s[trace] + np.minimum(phase_s, self._times.flat[piece + 1])
