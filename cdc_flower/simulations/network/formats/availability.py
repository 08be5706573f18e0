"""Reads a table of the times at which devices could be reached: device, start, end, rate."""

from collections.abc import Mapping

import numpy as np

from cdc_flower.simulations.network.formats import Recorded, trace_formats
from cdc_flower.simulations.network.formats.columns import Columns
from cdc_flower.simulations.network.formats.lines import Floats, trace_of
from cdc_flower.simulations.network.formats.tables import Table, read_table
from cdc_flower.simulations.network.trace import Trace

ROLES = ("device", "start", "end", "down", "up", "rtt", "loss")


@trace_formats.register("availability", takes_columns=True)
def read_availability(text: str, source: str, columns: Mapping[str, str]) -> list[Recorded]:
    """Reads when each device had a link and how fast it was; between, it has none.

    Each device is a link. All last from the first start in the file to the last end, so that what
    they have in common stays.

    Args:
        text: Of the file.
        source: Its name.
        columns: As for ``csv``, of ``device``, ``start``, ``end``, ``down`` and ``up``.

    Raises:
        UserError: If a column is missing, an end is not after its start, or intervals of a device
            overlap.
    """
    table = read_table(text, source)
    found = Columns(table, columns, ROLES)
    starts, ends = (table.times(found.name(role), found.seconds(role)) for role in ("start", "end"))
    if (wrong := np.flatnonzero(ends <= starts)).size:
        row = int(wrong[0])
        table.rows.refuse(row, "an end must be after its start", table.text(found.name("end"))[row])
    ways = [way for way in ("up", "down") if way in found] or ["down"]
    rates = {way: found.rates(way) for way in ways}
    span = (float(starts.min()), float(ends.max()))
    links = []
    for name, rows in table.groups(found.name("device")).items():
        order = rows[np.argsort(starts[rows], kind="stable")]
        part = table.selected(order)
        if (late := np.flatnonzero(starts[order][1:] < ends[order][:-1])).size:
            row = int(late[0]) + 1
            rule = "intervals of a device must not overlap"
            part.rows.refuse(row, rule, part.text(found.name("start"))[row])
        traces = {
            way: _trace(starts[order], ends[order], rates[way][order], span, part) for way in ways
        }
        own = Columns(part, columns, ROLES)
        links.append(Recorded(traces.get("up"), traces.get("down"), name, own.rtt_s(), own.loss()))
    return links


def _trace(
    starts: Floats, ends: Floats, rates: Floats, span: tuple[float, float], part: Table
) -> Trace:
    """Makes the rates of a device, 0 outside of its intervals.

    Args:
        starts: ``[k]``, seconds, ascending.
        ends: ``[k]``.
        rates: ``[k]``, bits per second.
        span: First start and last end of all devices.
        part: Its rows.

    Raises:
        UserError: If it carries nothing.
    """
    edges = np.concatenate([span[:1], np.stack([starts, ends], 1).ravel(), span[1:]])
    values = np.zeros(len(edges) - 1)
    values[1::2] = rates
    kept = np.diff(edges) > 0
    edges = np.append(edges[:-1][kept], span[1]) - span[0]
    return trace_of(edges, values[kept], part.source, part.rows.lines[-1])
