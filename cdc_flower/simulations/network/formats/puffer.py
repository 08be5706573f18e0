"""Puffer: television over the Internet (Yan et al., NSDI 2020).

Columns of ``video_sent_*.csv`` as its page of data describes them: ``time (ns GMT)``,
``session_id``, ``delivery_rate`` in bytes per second and ``rtt`` in microseconds, among others.
"""

import numpy as np

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.network.formats import Recorded, trace_formats
from cdc_flower.simulations.network.formats.lines import MOST_BPS, MOST_RTT_S, held_trace, merged
from cdc_flower.simulations.network.formats.tables import Table, read_table

SESSION, RATE, RTT = "session_id", "delivery_rate", "rtt"


@trace_formats.register("puffer")
def read_puffer(text: str, source: str) -> list[Recorded]:
    """Reads the video chunks that were sent: each session is a link.

    A row says the rate from then on that TCP estimated; the round-trip time is the mean.

    Raises:
        UserError: If a column is missing, or a value is no number >= 0.
    """
    table = read_table(text, source, (SESSION, RATE))
    stamp = next((name for name in table.header if name.split(" ")[0] == "time"), None)
    if stamp is None:
        raise UserError(f"{source}, line {table.line}: the header must have time (ns GMT)")
    unit = 1e-9 if "(ns" in stamp else None
    found = (
        _session(table.selected(rows), stamp, unit, name)
        for name, rows in table.groups(SESSION).items()
    )
    return [link for link in found if link is not None]


def _session(table: Table, stamp: str, unit: float | None, name: str) -> Recorded | None:
    """Makes the link of a session; None of one that says nothing."""
    times = table.times(stamp, unit)
    order = np.argsort(times, kind="stable")  # channels of one session overlap
    table = table.selected(order)
    rates = table.numbers(RATE, 8.0, MOST_BPS)
    times, rates, num_repeated, line = merged(table.rows, times[order], rates)
    if len(times) < 2 or not rates.any():
        return None
    trace = held_trace(times, rates, table.source, table.rows.lines[-1])
    rtt_s = table.mean(RTT, 1e-6, MOST_RTT_S) if RTT in table.header else None
    return Recorded(None, trace, name, rtt_s, num_repeated=num_repeated, line=line)
