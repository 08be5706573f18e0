"""iperf3 with ``--json``: intervals of a test between a phone and a server."""

import json
from collections.abc import Mapping
from typing import TypeGuard

import numpy as np

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.network.formats import Recorded, trace_formats
from cdc_flower.simulations.network.formats.intervals import Interval, trace_of_intervals
from cdc_flower.simulations.network.formats.lines import MOST_RTT_S

Node = Mapping[str, object]


@trace_formats.register("iperf3_json")
def read_iperf3_json(text: str, source: str) -> Recorded:
    """Reads the sums of ``intervals``; the phone is the client, so ``--reverse`` is down.

    With ``--bidir`` both ways are there. Omitted intervals are left out. The round-trip time is the
    mean of the senders', the loss that of UDP.

    Raises:
        UserError: If it is no JSON of iperf3, or an interval is malformed.
    """
    try:
        log = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise UserError(f"{source}, line {line}: must be JSON of iperf3 -J ({error})") from None
    if not _is_node(log):
        raise UserError(f"{source}, line 1: must be JSON of iperf3 -J, got {type(log).__name__}")
    if log.get("error"):
        raise UserError(f"{source}, error: iperf3 must have ended well, got {log['error']!r:.80}")
    intervals = log.get("intervals")
    if not isinstance(intervals, list) or not intervals:
        raise UserError(f"{source}: JSON of iperf3 must have intervals, a list that is not empty")
    start = log.get("start")
    test = start.get("test_start") if _is_node(start) else None
    is_reverse = bool(test.get("reverse")) if _is_node(test) else False
    first, second = ("down", "up") if is_reverse else ("up", "down")
    ways: dict[str, list[Interval]] = {"up": [], "down": []}
    rtts: list[float] = []
    losses: list[float] = []
    for number, interval in enumerate(intervals):
        place = f"{source}, intervals[{number}]"
        if not _is_node(interval):
            raise UserError(f"{place}: must be an object, got {interval!r:.80}")
        for key, way in (("sum", first), ("sum_bidir_reverse", second)):
            total = interval.get(key)
            if _is_node(total) and not total.get("omitted"):
                ways[way].append(_interval(total, f"{place}.{key}"))
                losses += _some(total, "lost_percent", f"{place}.{key}", 1e-2, 1.0)
        streams = interval.get("streams")
        for stream in streams if isinstance(streams, list) else ():
            if _is_node(stream):
                rtts += _some(stream, "rtt", f"{place}.streams", 1e-6, MOST_RTT_S)
    traces = {way: trace_of_intervals(found, source) for way, found in ways.items() if found}
    if not traces:
        raise UserError(f"{source}: JSON of iperf3 must have intervals with a sum")
    measured = [rtt for rtt in rtts if rtt > 0]
    return Recorded(
        traces.get("up"),
        traces.get("down"),
        rtt_s=float(np.mean(measured)) if measured else None,
        loss=float(np.mean(losses)) if losses else None,
    )


def _is_node(value: object) -> TypeGuard[Node]:
    return isinstance(value, Mapping)


def _interval(total: Node, place: str) -> Interval:
    start, end, rate = (_number(total, key, place) for key in ("start", "end", "bits_per_second"))
    return Interval(start, end, rate, place)


def _some(node: Node, key: str, place: str, scale: float, most: float) -> list[float]:
    """Reads a number that may be missing."""
    if key not in node:
        return []
    value = _number(node, key, place) * scale
    if value > most:
        raise UserError(f"{place}.{key}: must be at most {most / scale:g}, got {node[key]!r:.80}")
    return [value]


def _number(node: Node, key: str, place: str) -> float:
    value = node.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e300:
        return float(value)
    raise UserError(f"{place}.{key}: must be a number >= 0, got {value!r:.80}")
