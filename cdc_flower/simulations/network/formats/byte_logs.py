"""Logs of bytes that arrived since the row before, as the Universities of Oslo and Ghent wrote."""

import numpy as np

from cdc_flower.simulations.network.formats import Recorded
from cdc_flower.simulations.network.formats.lines import (
    MOST_BPS,
    MOST_S,
    merged,
    numbered_lines,
    read_rows,
    separator_of,
    trace_of,
    wrong_line,
)


def read_byte_log(text: str, source: str) -> Recorded:
    """Reads six columns: a date, milliseconds, two of a place, bytes, and milliseconds they took.

    A row says the bytes that arrived in the time before it. A row that took no time has the time of
    the row before, and both are one.

    Args:
        text: Of the file.
        source: Its name.

    Raises:
        UserError: If a line is malformed, or times go back.
    """
    lines = numbered_lines(text, source)
    rule = "a line must be a date, milliseconds, two of a place, bytes and milliseconds"
    rows = read_rows(lines, source, separator_of(lines[0][1]), 6, rule)
    times = rows.numbers(1, "milliseconds must be a number >= 0", 1e-3, MOST_S)
    num_bytes = rows.numbers(4, "bytes must be a number >= 0", 1.0, MOST_BPS)
    took = rows.numbers(5, "milliseconds that bytes took must be a number >= 0", 1e-3, MOST_S)
    times, both, num_repeated, line = merged(rows, times, np.stack([num_bytes, took], 1))
    if (still := np.flatnonzero(both[:, 1] == 0)).size:
        number, words = lines[int(still[0])]
        raise wrong_line(source, number, "milliseconds that bytes took must be > 0", words)
    edges = np.append(times[0] - both[0, 1], times)
    trace = trace_of(edges - edges[0], both[:, 0] * 8 / both[:, 1], source, lines[-1][0])
    return Recorded(down=trace, num_repeated=num_repeated, line=line)
