"""Outages: times at which a link carries nothing, whatever its rate.

Up times and outages alternate and are exponentially distributed. Each device follows one of
``NUM_PATTERNS`` patterns from a random moment on. A trace stands still during an outage and goes on
after it.
"""

import numpy as np

from cdc_flower.core.seeds import hashed_integers, hashed_uniform
from cdc_flower.simulations.network.rates import Floats, Ints, TraceBank
from cdc_flower.simulations.network.trace import Trace

NUM_PATTERNS, NUM_OUTAGES = 32, 200


class Outages:
    """Knows when the links of ``n`` devices are up.

    Args:
        device_ids: ``[n]``.
        every_s: Mean time from the end of an outage to the next.
        outage_s: Mean length of an outage.
        seed: Of the run.
    """

    def __init__(self, device_ids: Ints, every_s: float, outage_s: float, seed: int) -> None:
        pattern, number = np.arange(NUM_PATTERNS)[:, None], np.arange(NUM_OUTAGES)
        up, down = (
            -mean_s * np.log1p(-hashed_uniform(seed, name, pattern, number)) + 1e-6
            for name, mean_s in (("up-time", every_s), ("outage", outage_s))
        )
        edges = np.concatenate(
            [np.zeros((NUM_PATTERNS, 1)), np.stack([up, down], -1).reshape(NUM_PATTERNS, -1)], 1
        )
        rates = np.tile([8.0, 0.0], NUM_OUTAGES)  # "bytes" are seconds of up time
        self.bank = TraceBank([Trace(row, rates) for row in np.cumsum(edges, 1)])
        self.pattern = hashed_integers(seed, "outage-pattern", device_ids, high=NUM_PATTERNS)
        self.offset_s = (
            hashed_uniform(seed, "outage-offset", device_ids) * self.bank.duration_s[self.pattern]
        )

    def select(self, rows: Ints) -> "Outages":
        """Selects some devices."""
        part = object.__new__(Outages)
        part.bank, part.pattern, part.offset_s = self.bank, self.pattern[rows], self.offset_s[rows]
        return part

    def resume_s(self, rows: Ints, time_s: Floats) -> Floats:
        """Finds the first moment at or after each time at which the link is up."""
        return (
            self.bank.resume_s(self.pattern[rows], time_s + self.offset_s[rows])
            - self.offset_s[rows]
        )

    def up_time_s(self, rows: Ints, time_s: Floats) -> Floats:
        """Counts the seconds for which the link was up until each time."""
        return self.bank.position(self.pattern[rows], time_s + self.offset_s[rows])

    def time_s(self, rows: Ints, up_time_s: Floats) -> Floats:
        """Finds when the link will have been up for so long."""
        return self.bank.time_s(self.pattern[rows], up_time_s) - self.offset_s[rows]
