"""Lumos5G: 5G on foot and in cars in Minneapolis (Narayanan et al., IMC 2020).

Columns as in the README of version 1.0 of the data: ``run_num``, ``seq_num``, a second of the run,
and ``Throughput`` in Mbit/s, among others.
"""

import numpy as np

from cdc_flower.simulations.network.formats import Recorded, trace_formats
from cdc_flower.simulations.network.formats.lines import MOST_BPS, MOST_S, held_trace, merged
from cdc_flower.simulations.network.formats.tables import read_table

RUN, SECOND, RATE = "run_num", "seq_num", "Throughput"


@trace_formats.register("lumos5g")
def read_lumos5g(text: str, source: str) -> list[Recorded]:
    """Reads a table of seconds of runs: each run is a link, and a row its rate from then on.

    A run ends where another number stands, or where seconds go back. A run of one row says
    nothing.

    Raises:
        UserError: If a column is missing, or a value is no number >= 0.
    """
    table = read_table(text, source, (RUN, SECOND, RATE))
    seconds = table.numbers(SECOND, 1.0, MOST_S)
    rates = table.numbers(RATE, 1e6, MOST_BPS)
    numbers = np.array(table.text(RUN))
    begins = np.flatnonzero((numbers[1:] != numbers[:-1]) | (np.diff(seconds) < 0)) + 1
    found: list[Recorded] = []
    for rows in np.split(np.arange(len(seconds)), begins):
        if len(np.unique(seconds[rows])) < 2 or not rates[rows].any():
            continue
        part = table.selected(rows).rows
        times, means, num_repeated, line = merged(part, seconds[rows], rates[rows])
        trace = held_trace(times, means, source, part.lines[-1])
        name = f"{numbers[rows[0]]}-{len(found)}"
        found.append(Recorded(None, trace, name, num_repeated=num_repeated, line=line))
    return found
