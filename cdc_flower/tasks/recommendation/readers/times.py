"""Times of events in the unit or writing that a file has them in, as seconds."""

import math
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdc_flower.core.dates import seconds_since_1970
from cdc_flower.core.errors import UserError

#: Unit -> how many of them a second has.
PER_S = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
#: A median below this is of that unit: 1e11 s is the year 5138, 1e11 ms is 1973.
_BELOW = (("s", 1e11), ("ms", 1e14), ("us", 1e17))
#: Seconds that no event has.
MOST_S = 1e11
#: Seconds from which on they are taken to be since 1970 and shown as dates: 1973.
_DATED_S = 1e8
_ISO = re.compile(
    r"\s*\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?\s?(Z|UTC|[+-]\d\d(:?\d\d)?)?)?\s*"
)


def is_iso(text: str) -> bool:
    """Tells whether a text is a date or a time as ISO 8601 writes it, such as 2010-10-19T23:55Z."""
    return _ISO.fullmatch(text) is not None


def iso_s(texts: Sequence[str] | NDArray[np.object_]) -> NDArray[np.float64]:
    """Reads seconds since 1970 ``[R]`` of ISO 8601; a time without a zone is in UTC.

    Returns:
        NaN where a text is no such time.
    """
    codes, found = pd.factorize(np.asarray(texts, object))
    plain = [
        text.strip().replace(",", ".").replace("UTC", "Z") if is_iso(text) else None
        for text in map(str, found)
    ]
    dates = pd.to_datetime(
        pd.Series(plain, dtype=object), format="ISO8601", utc=True, errors="coerce"
    )
    return seconds_since_1970(dates)[codes]


def unit_of(values: NDArray, told: str) -> str:
    """Finds the unit of times: as told, or for ``auto`` by their median."""
    if told != "auto":
        return told
    middle = float(np.median(values)) if len(values) else 0.0
    return next((unit for unit, below in _BELOW if middle < below), "ns")


def seconds_of(values: NDArray, unit: str, source: str) -> NDArray[np.float64]:
    """Turns times of a unit into seconds.

    Args:
        values: ``[M]``, finite.
        unit: Of them all.
        source: Of the file, for the error.

    Raises:
        UserError: If one of them cannot be of that unit.
    """
    times_s = np.asarray(values, np.float64)
    if unit != "s":
        times_s = times_s / PER_S[unit]
    if len(times_s) and times_s.max() >= MOST_S:
        row = int(np.argmax(times_s >= MOST_S))
        got = values[row].item()
        raise UserError(
            f"{source}: times must be of one unit (data.time_unit), got {got} for event "
            f"{row + 1:,} among {WORDS[unit]}"
        )
    return times_s


def span_words(times_s: NDArray[np.float64], unit: str, was_told: bool) -> str:
    """Says the first and last time, and the unit that was assumed.

    Args:
        times_s: ``[M]``, at least one.
        unit: As :data:`PER_S`, or "" for dates.
        was_told: Whether the configuration says it.
    """
    first, last = float(times_s.min()), float(times_s.max())
    how = "dates" if not unit else WORDS[unit] if was_told else f"{WORDS[unit]} by their size"
    if unit and first < _DATED_S:
        return f"times from {first:.15g} to {last:.15g} s ({how})"
    # NumPy's seconds reach further than the nanoseconds of pandas: 1005 and 3005 are years, too.
    dates = [str(np.datetime64(math.floor(each), "s")).replace("T", " ") for each in (first, last)]
    return f"times from {dates[0]} to {dates[1]} UTC ({how})"
