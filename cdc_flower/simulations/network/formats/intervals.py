"""Rates of intervals that follow one another, with times between them of which nothing is known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.network.formats.lines import MOST_BPS, MOST_S, trace_of
from cdc_flower.simulations.network.trace import Trace

#: Seconds by which clocks of a log may differ.
SLACK_S = 0.01


@dataclass(frozen=True)
class Interval:
    """Holds the rate between two times.

    Attributes:
        start_s: When it begins.
        end_s: When it ends.
        rate_bps: Bits per second.
        place: In the file, for messages.
    """

    start_s: float
    end_s: float
    rate_bps: float
    place: str


def trace_of_intervals(intervals: Sequence[Interval], source: str) -> Trace:
    """Makes a trace of intervals; times between them are left out.

    Args:
        intervals: In their order.
        source: Name of the file.

    Raises:
        UserError: If one has no length, begins before the one before ended, or has a rate that no
            link has.
    """
    last = -np.inf
    for each in intervals:
        if not each.end_s > each.start_s:
            raise UserError(
                f"{each.place}: an interval must end after {each.start_s:g} s, got {each.end_s:g}"
            )
        if each.end_s > MOST_S or each.rate_bps > MOST_BPS:
            rule = f"times must be at most {MOST_S:g} s and rates {MOST_BPS:g} bit/s"
            raise UserError(f"{each.place}: {rule}, got {each.end_s:g} and {each.rate_bps:g}")
        if each.start_s < last - SLACK_S:
            raise UserError(
                f"{each.place}: intervals must not overlap, got {each.start_s:g} s after {last:g}"
            )
        last = each.end_s
    lengths = np.array([each.end_s - each.start_s for each in intervals])
    rates = np.array([each.rate_bps for each in intervals])
    edges = np.append(0.0, np.cumsum(lengths))
    return trace_of(edges, rates, source, len(intervals))
