"""Reads the lines that iperf and iperf3 print while they run."""

import re
from dataclasses import dataclass, field

import numpy as np

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.network.formats import Recorded, trace_formats
from cdc_flower.simulations.network.formats.intervals import Interval, trace_of_intervals
from cdc_flower.simulations.network.formats.lines import numbered_lines

# [  5][TX-C]   0.00-1.00   sec  1.25 MBytes  10.5 Mbits/sec  0.012 ms  0/91 (0%)
_ROW = re.compile(
    r"\[\s*(?P<id>\d+|SUM)\]\s*(?:\[(?P<way>[TR]X)-[CS]\])?\s*"
    r"(?P<start>\d+\.\d+)\s*-\s*(?P<end>\d+\.\d+)\s+sec\s+"
    r"[\d.]+\s+[KMGT]?Bytes\s+"
    r"(?P<rate>[\d.]+(?:e[+-]?\d+)?)\s+(?P<unit>[KMGT]?)(?P<what>bits|Bytes)/sec"
    r"(?P<rest>.*)"
)
_LOST = re.compile(r"(?<![\d.])(\d+)/\s*(\d+)\s+\(")
#: What iperf means by a letter: thousands of bits, but 1,024 of bytes.
_BITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BYTES = {"": 8.0, "K": 8.0 * 2**10, "M": 8.0 * 2**20, "G": 8.0 * 2**30, "T": 8.0 * 2**40}


@dataclass
class _Way:
    """Collects the intervals of a direction: of each stream, and of their sum."""

    streams: dict[str, list[Interval]] = field(default_factory=dict)
    sums: list[Interval] = field(default_factory=list)

    def intervals(self) -> list[Interval]:
        """Lists the sums if there are any, or else adds the streams up."""
        if self.sums or len(self.streams) < 2:
            return self.sums or next(iter(self.streams.values()), [])
        total: dict[tuple[float, float], float] = {}
        places: dict[tuple[float, float], str] = {}
        for each in (each for found in self.streams.values() for each in found):
            span = (each.start_s, each.end_s)
            total[span] = total.get(span, 0.0) + each.rate_bps
            places.setdefault(span, each.place)
        return [Interval(*span, rate, places[span]) for span, rate in sorted(total.items())]


@trace_formats.register("iperf")
def read_iperf(text: str, source: str) -> Recorded:
    """Reads the intervals that iperf or iperf3 print, of the sum of streams if there are several.

    The phone is the client: its tests are up, with ``--reverse`` down, and with ``--bidir`` both.
    The summary at the end and omitted intervals are left out. The loss is that of UDP.

    Raises:
        UserError: If there is no interval, or one is malformed.
    """
    ways = {"up": _Way(), "down": _Way()}
    plain, lost, sent = "up", 0, 0
    for number, line in numbered_lines(text, source):
        if line.startswith("Reverse mode"):
            plain = "down"
        if line.startswith("- - - -"):  # a summary follows
            break
        found = _ROW.match(line)
        if found is None or "omitted" in found["rest"]:
            continue
        interval = _interval(found, source, number, line)
        way = ways[{"TX": "up", "RX": "down"}.get(found["way"] or "", plain)]
        before = way.sums if found["id"] == "SUM" else way.streams.setdefault(found["id"], [])
        if before and interval.start_s < before[-1].start_s:
            continue  # the summary of iperf 2, from 0 on
        before.append(interval)
        if counts := _LOST.search(found["rest"]):
            lost, sent = lost + int(counts[1]), sent + int(counts[2])
    traces = {
        name: trace_of_intervals(intervals, source)
        for name, way in ways.items()
        if (intervals := way.intervals())
    }
    if not traces:
        raise UserError(f"{source}, line 1: a log of iperf must have intervals, as with -i 1")
    loss = min(lost / sent, 1.0) if sent else None
    return Recorded(traces.get("up"), traces.get("down"), loss=loss)


def _interval(found: re.Match[str], source: str, number: int, line: str) -> Interval:
    """Reads the numbers of a row.

    Raises:
        UserError: If one is none.
    """
    place = f"{source}, line {number}"
    factor = (_BITS if found["what"] == "bits" else _BYTES)[found["unit"]]
    try:
        start, end, rate = (float(found[key]) for key in ("start", "end", "rate"))
    except ValueError:
        raise UserError(f"{place}: an interval must have numbers, got {line[:80]!r}") from None
    if not np.isfinite([start, end, rate * factor]).all():
        raise UserError(f"{place}: an interval must have finite numbers, got {line[:80]!r}")
    return Interval(start, end, rate * factor, place)
