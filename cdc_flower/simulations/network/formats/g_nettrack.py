"""Logs of G-NetTrack on Irish phones (Raca et al., MMSys 2018 for 4G and MMSys 2020 for 5G)."""

import numpy as np

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.network.formats import Recorded, trace_formats
from cdc_flower.simulations.network.formats.lines import MOST_BPS, MOST_RTT_S, trace_of
from cdc_flower.simulations.network.formats.tables import read_table

#: Columns of the logs.
STAMP, STATE, DOWN, UP = "Timestamp", "State", "DL_bitrate", "UL_bitrate"
#: Columns that some logs have: milliseconds and percents of pings, ``-`` where none was sent.
PING, LOSS = "PINGAVG", "PINGLOSS"


@trace_formats.register("5g_csv")
def read_5g_csv(text: str, source: str) -> Recorded:
    """Reads a log with the columns Timestamp, State, DL_bitrate and UL_bitrate, in kbit/s.

    A row says the rate from its second on. Rows of one second are averaged. While the phone is idle
    (``State`` I) its bit rate is not what the link could carry: the rate before holds.

    Raises:
        UserError: If a column is missing, a value is no number >= 0, time goes back, or the phone
            was always idle.
    """
    if not text.strip():
        raise UserError(f"{source}: a trace must not be empty")
    table = read_table(text, source, (STAMP, STATE, DOWN, UP))
    words = "a date that exists and looks like 2019.12.16_13.40.04"
    times = table.dates(STAMP, "%Y.%m.%d_%H.%M.%S", words)
    both = {name: table.numbers(name, 1e3, MOST_BPS) / 1e3 for name in (DOWN, UP)}
    kept = np.array([state.strip() != "I" for state in table.text(STATE)])
    if not kept.any():
        raise UserError(f"{source}: a trace must have rows that are not idle")
    before = np.maximum.accumulate(np.where(kept, times, -np.inf))  # idle rows set no clock
    if (back := np.flatnonzero(times < before)).size:
        row = int(back[0])
        table.rows.refuse(row, "times must not go back", table.text(STAMP)[row])
    seconds, row_of = np.unique(times[kept], return_inverse=True)
    edges = np.append(seconds, seconds[-1] + 1) - seconds[0]
    count = np.bincount(row_of)
    up, down = (
        trace_of(
            edges,
            np.bincount(row_of, both[name][kept]) / count * 1e3,
            source,
            table.rows.lines[-1],
        )
        for name in (UP, DOWN)
    )
    rtt_s = table.mean(PING, 1e-3, MOST_RTT_S) if PING in table.header else None
    loss = table.mean(LOSS, 1e-2, 1.0) if LOSS in table.header else None
    return Recorded(up, down, rtt_s=rtt_s, loss=loss)
