"""A user's own table with a header."""

from collections.abc import Mapping

import numpy as np

from cdc_flower.simulations.network.formats import Recorded, trace_formats
from cdc_flower.simulations.network.formats.columns import Columns
from cdc_flower.simulations.network.formats.lines import held_trace, merged
from cdc_flower.simulations.network.formats.tables import read_table

ROLES = ("time", "down", "up", "rtt", "loss")


@trace_formats.register("csv", takes_columns=True)
def read_csv_table(text: str, source: str, columns: Mapping[str, str]) -> Recorded:
    """Reads columns by name: ``time``, ``down``, ``up``, and where there are any ``rtt``, ``loss``.

    A row says the rates from its time on, the last as long as the median of the others. Names say
    units, as ``down_mbps`` or ``DL (kbit/s)``; or else ``columns`` does. Round-trip time and loss
    are the means of what was measured.

    Args:
        text: Of the file.
        source: Its name.
        columns: ``{time: NAME, down: NAME, up: NAME, rtt: NAME, loss: NAME}``, each where the name
            is another, and ``time_unit``, ``rate_unit`` and ``rtt_unit``.

    Raises:
        UserError: If a column is missing or its unit unknown, a value is no number >= 0, or times
            go back.
    """
    table = read_table(text, source)
    found = Columns(table, columns, ROLES)
    times = table.times(found.name("time"), found.seconds("time"))
    ways = [way for way in ("up", "down") if way in found] or ["down"]
    rates = np.stack([found.rates(way) for way in ways], 1)
    times, rates, num_repeated, line = merged(table.rows, times, rates)
    traces = {
        way: held_trace(times, rates[:, k], source, table.rows.lines[-1])
        for k, way in enumerate(ways)
    }
    return Recorded(
        traces.get("up"),
        traces.get("down"),
        rtt_s=found.rtt_s(),
        loss=found.loss(),
        num_repeated=num_repeated,
        line=line,
    )
