"""Readers of recorded rates: mahimahi's packet times, Pensieve's seconds and Mbit/s, Oboe, and 5G logs.

Each turns the text of one file into the two directions of a link, of which one may be missing.
Every mistake in a file is one error with the file and the line.
"""

import csv
import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.network.trace import Trace

#: Bytes that one line of a mahimahi trace lets through.
MAHIMAHI_BYTES = 1500
#: Columns of the logs of Raca et al. (MMSys 2020).
STAMP, STATE, DOWN, UP = "Timestamp", "State", "DL_bitrate", "UL_bitrate"

Directions = dict[str, Trace]


def read_mahimahi(text: str, source: str) -> Directions:
    """One line a packet of 1,500 bytes: the millisecond at which the link lets it through (Netravali, ATC 2015).

    The trace lasts until its last packet and begins anew then. The packets of a millisecond are
    spread over the millisecond before their stamp. A name that ends in ``.up`` or ``.down`` says
    the direction; else it is down.

    Raises:
        UserError: If a line is no whole number >= 0, is before the one above, or there is no packet
            after 0 ms.
    """
    try:
        stamps = np.array(text.split(), np.int64)
    except (ValueError, OverflowError):
        stamps = np.empty(0, np.int64)
    if not len(stamps) or stamps[0] < 0 or stamps[-1] <= 0 or (np.diff(stamps) < 0).any():
        _explain_mahimahi(text, source)
    stops, counts = np.unique(np.maximum(stamps, 1), return_counts=True)
    edges = np.unique(np.concatenate([[0], stops - 1, stops]))
    rates = np.zeros(len(edges) - 1)
    rates[np.searchsorted(edges, stops) - 1] = counts * MAHIMAHI_BYTES * 8 * 1000.0
    direction = "up" if source.removesuffix(".gz").endswith((".up", ".uplink")) else "down"
    return {direction: Trace(edges / 1000, rates, source)}


def _explain_mahimahi(text: str, source: str) -> NoReturn:
    """Find the line that is wrong.

    Raises:
        UserError: Always.
    """
    last = -1
    for number, line in _lines(text, source):
        try:
            stamp = int(line)
        except ValueError:
            raise _wrong(
                source, number, "a line must be a whole number of milliseconds", line
            ) from None
        if stamp < 0:
            raise _wrong(source, number, "a time must be >= 0", line)
        if stamp < last:
            raise _wrong(source, number, f"times must not go back, after {last} ms", line)
        last = stamp
    raise _wrong(source, number, "a trace must last longer than 0 ms", line)


def read_pensieve(text: str, source: str) -> Directions:
    """``seconds Mbit/s`` a line: the rate from the line before until this moment, as Pensieve plays it."""
    return {"down": _samples(text, source, 1.0, 1e6)}


def read_oboe(text: str, source: str) -> Directions:
    """``milliseconds kbit/s`` a line: the rate from the line before until this moment (Akhtar, SIGCOMM 2018)."""
    return {"down": _samples(text, source, 1e-3, 1e3)}


def read_5g_csv(text: str, source: str) -> Directions:
    """A log of G-NetTrack with the columns Timestamp, State, DL_bitrate and UL_bitrate, in kbit/s.

    A row says the rate from its second on. Rows of one second are averaged. While the phone is idle
    (``State`` I) its bit rate is not what the link could carry: the rate before holds.

    Raises:
        UserError: If a column is missing, a value is no number >= 0, time goes back, or the phone
            was always idle.
    """
    rows = list(csv.reader(text.splitlines()))
    if not rows:
        raise UserError(f"{source}: a trace must not be empty")
    missing = [name for name in (STAMP, STATE, DOWN, UP) if name not in rows[0]]
    if missing:
        raise _wrong(
            source, 1, f"the header must have {', '.join(missing)}", ",".join(rows[0])[:80]
        )
    place = {name: rows[0].index(name) for name in (STAMP, STATE, DOWN, UP)}
    times: list[float] = []
    values: dict[str, list[float]] = {DOWN: [], UP: []}
    for number, row in enumerate(rows[1:], 2):
        if len(row) <= max(place.values()):
            raise _wrong(
                source, number, f"a row must have {len(rows[0])} fields", ",".join(row)[:80]
            )
        time_s = _stamp_s(row[place[STAMP]], source, number)
        if times and time_s < times[-1]:
            raise _wrong(source, number, "times must not go back", row[place[STAMP]])
        both = {
            name: _number(row[place[name]], source, number, f"{name} must be a number >= 0")
            for name in values
        }
        if row[place[STATE]].strip() == "I":
            continue
        times.append(time_s)
        for name, value in both.items():
            values[name].append(value)
    if not times:
        raise UserError(f"{source}: a trace must have rows that are not idle")
    seconds, row_of = np.unique(np.array(times), return_inverse=True)
    edges = np.append(seconds, seconds[-1] + 1) - seconds[0]
    count = np.bincount(row_of)
    return {
        way: _trace(edges, np.bincount(row_of, values[name]) / count * 1e3, source, number)
        for way, name in (("up", UP), ("down", DOWN))
    }


#: Format -> reader of one file's text.
READERS: dict[str, Callable[[str, str], Directions]] = {
    "mahimahi": read_mahimahi,
    "pensieve": read_pensieve,
    "oboe": read_oboe,
    "5g_csv": read_5g_csv,
}


def _samples(text: str, source: str, second: float, bit: float) -> Trace:
    """Lines of a time and a rate, where a rate holds until its time."""
    times: list[float] = []
    rates: list[float] = []
    for number, line in _lines(text, source):
        fields = line.split()
        if len(fields) != 2:
            raise _wrong(source, number, "a line must be a time and a rate", line)
        time_s = _number(fields[0], source, number, "a time must be a number >= 0") * second
        if times and time_s <= times[-1]:
            raise _wrong(source, number, "times must ascend", line)
        times.append(time_s)
        rates.append(_number(fields[1], source, number, "a rate must be a number >= 0") * bit)
    if len(times) < 2:
        raise _wrong(source, number, "a trace must have at least two lines", line)
    return _trace(np.array(times) - times[0], np.array(rates[1:]), source, number)


def _trace(
    edges_s: NDArray[np.float64], rates_bps: NDArray[np.float64], source: str, number: int
) -> Trace:
    if not rates_bps.any():
        raise UserError(
            f"{source}, lines 1 to {number}: a trace must carry something, got a rate of 0 throughout"
        )
    return Trace(edges_s, rates_bps, source)


def _lines(text: str, source: str) -> Iterable[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1 on.

    Raises:
        UserError: If there is none.
    """
    found = [
        (number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()
    ]
    if not found:
        raise UserError(f"{source}, line 1: a trace must not be empty")
    return found


def _number(text: str, source: str, line: int, rule: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _wrong(source, line, rule, text) from None
    if not 0 <= value < math.inf:
        raise _wrong(source, line, rule, text)
    return value


def _stamp_s(text: str, source: str, line: int) -> float:
    """``2019.12.16_13.40.04`` as seconds."""
    try:
        day, clock = text.split("_")
        hour, minute, second = (int(part) for part in clock.split("."))
        days = _days(day)
    except ValueError:
        raise _wrong(source, line, "a time must look like 2019.12.16_13.40.04", text) from None
    return days * 86400.0 + hour * 3600 + minute * 60 + second


@lru_cache(maxsize=256)
def _days(day: str) -> int:
    """Days from 1970 to ``2019.12.16``."""
    return int(np.datetime64(day.replace(".", "-")).astype("datetime64[D]").astype(np.int64))


def _wrong(source: str, line: int, rule: str, value: str) -> UserError:
    return UserError(f"{source}, line {line}: {rule}, got {value[:80]!r}")
