"""Logs of G-NetTrack on 5G phones (Raca et al., MMSys 2020)."""

import csv
from functools import lru_cache

import numpy as np

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.network.formats import Directions, trace_formats
from cdc_flower.simulations.network.formats.lines import number_of, trace_of, wrong_line

#: Columns of the logs.
STAMP, STATE, DOWN, UP = "Timestamp", "State", "DL_bitrate", "UL_bitrate"


@trace_formats.register("5g_csv")
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
        raise wrong_line(
            source, 1, f"the header must have {', '.join(missing)}", ",".join(rows[0])[:80]
        )
    place = {name: rows[0].index(name) for name in (STAMP, STATE, DOWN, UP)}
    times: list[float] = []
    values: dict[str, list[float]] = {DOWN: [], UP: []}
    for number, row in enumerate(rows[1:], 2):
        if len(row) <= max(place.values()):
            raise wrong_line(
                source, number, f"a row must have {len(rows[0])} fields", ",".join(row)[:80]
            )
        time_s = _stamp_s(row[place[STAMP]], source, number)
        if times and time_s < times[-1]:
            raise wrong_line(source, number, "times must not go back", row[place[STAMP]])
        both = {
            name: number_of(row[place[name]], source, number, f"{name} must be a number >= 0")
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
        way: trace_of(edges, np.bincount(row_of, values[name]) / count * 1e3, source, number)
        for way, name in (("up", UP), ("down", DOWN))
    }


def _stamp_s(text: str, source: str, line: int) -> float:
    """``2019.12.16_13.40.04`` as seconds."""
    try:
        day, clock = text.split("_")
        hour, minute, second = (int(part) for part in clock.split("."))
        days = _days(day)
    except ValueError:
        raise wrong_line(source, line, "a time must look like 2019.12.16_13.40.04", text) from None
    return days * 86400.0 + hour * 3600 + minute * 60 + second


@lru_cache(maxsize=256)
def _days(day: str) -> int:
    """Days from 1970 to ``2019.12.16``."""
    return int(np.datetime64(day.replace(".", "-")).astype("datetime64[D]").astype(np.int64))
