"""Units in the names of columns: ``DL (kbit/s)``, ``time_ms``, ``Throughput [MB/s]``."""

import re

_FACTORS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
# A small b and the word bit are bits, a capital B and the word byte are bytes. MBPS may be either.
_RATE = re.compile(
    r"(?<![A-Za-z])([kKmMgG]?)(bits?|Bits?|bytes?|Bytes?|b|B)"
    r"(?:ps|/s|/sec|_?per_?s|_?per_?sec|_?per_?second)(?![A-Za-z])"
)
_TIMES = {
    "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0,
    "ms": 1e-3, "msec": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3, "millis": 1e-3,
    "us": 1e-6, "µs": 1e-6, "usec": 1e-6, "microsecond": 1e-6, "microseconds": 1e-6,
    "ns": 1e-9, "nanosecond": 1e-9, "nanoseconds": 1e-9,
    "min": 60.0, "minute": 60.0, "minutes": 60.0,
}  # fmt: skip
_TIME = re.compile(r"(?<![A-Za-zµ/])(" + "|".join(_TIMES) + r")(?![A-Za-z])", re.IGNORECASE)


def rate_unit(name: str) -> float | None:
    """Finds the bits per second in the unit that a name has; None if it has none."""
    found = _RATE.search(name)
    if found is None:
        return None
    is_bytes = found[2] == "B" or found[2].lower().startswith("byte")
    return _FACTORS[found[1].lower()] * (8.0 if is_bytes else 1.0)


def time_unit(name: str) -> float | None:
    """Finds the seconds in the unit that a name has; None if it has none."""
    found = _TIME.search(_RATE.sub(" ", name))
    return None if found is None else _TIMES[found[1].lower()]


def without_units(name: str) -> str:
    """Writes a name in small letters with ``_`` between words, without its units."""
    bare = _TIME.sub(" ", _RATE.sub(" ", name))
    bare = re.sub(r"%|\bpercent\b|(?<=_)percent\b|(?<=_)pct\b", " ", bare)
    return re.sub(r"[^a-z0-9]+", "_", bare.lower()).strip("_")


def is_percent(name: str) -> bool:
    """Tells whether a name says that its numbers are percents."""
    return (
        "%" in name
        or re.search(r"(?:^|[^a-z])(?:percent|pct)(?:[^a-z]|$)", name.lower()) is not None
    )
