"""Mahimahi: times of packets (Netravali et al., USENIX ATC 2015)."""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from cdc_flower.simulations.network.formats import Recorded, trace_formats
from cdc_flower.simulations.network.formats.lines import MOST_S, numbered_lines, wrong_line
from cdc_flower.simulations.network.trace import Trace

#: Bytes that one line of a trace lets through.
MAHIMAHI_BYTES = 1500


@trace_formats.register("mahimahi")
def read_mahimahi(text: str, source: str) -> Recorded:
    """Reads one line a packet of 1,500 bytes: the millisecond at which the link lets it through.

    The trace lasts until its last packet and begins anew then. The packets of a millisecond are
    spread over the millisecond before their stamp. A name that ends in ``.up`` or ``.down`` says
    the direction; else it is down.

    Raises:
        UserError: If a line is no whole number >= 0, is before the one above, or there is no packet
            after 0 ms.
    """
    lines = numbered_lines(text, source)
    try:
        stamps = np.array(" ".join(line for _, line in lines).split(), np.int64)
    except (ValueError, OverflowError):
        stamps = np.empty(0, np.int64)
    descends = (np.diff(stamps) < 0).any()
    if not len(stamps) or stamps[0] < 0 or descends or not 0 < stamps[-1] <= MOST_S * 1000:
        _explain_mahimahi(lines, source)
    stops, counts = np.unique(np.maximum(stamps, 1), return_counts=True)
    edges = np.unique(np.concatenate([[0], stops - 1, stops]))
    rates = np.zeros(len(edges) - 1)
    rates[np.searchsorted(edges, stops) - 1] = counts * MAHIMAHI_BYTES * 8 * 1000.0
    return Recorded(down=Trace(edges / 1000, rates, source))


def _explain_mahimahi(lines: Sequence[tuple[int, str]], source: str) -> NoReturn:
    """Finds the line that is wrong.

    Raises:
        UserError: Always.
    """
    last = -1
    for number, line in lines:
        try:
            stamp = int(line)
        except ValueError:
            raise wrong_line(
                source, number, "a line must be a whole number of milliseconds", line
            ) from None
        if stamp < 0:
            raise wrong_line(source, number, "a time must be >= 0", line)
        if stamp < last:
            raise wrong_line(source, number, f"times must not go back, after {last} ms", line)
        if stamp > MOST_S * 1000:
            raise wrong_line(source, number, f"a time must be at most {MOST_S * 1000:g} ms", line)
        last = stamp
    raise wrong_line(source, number, "a trace must last longer than 0 ms", line)
