"""Lines of recordings, their numbers, and the errors that name them."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.network.trace import Trace


def read_samples(text: str, source: str, second: float, bit: float) -> Trace:
    """Reads lines of a time and a rate, where a rate holds until its time.

    Args:
        text: Of the file.
        source: Its name.
        second: Seconds in the unit of time.
        bit: Bits per second in the unit of rate.

    Raises:
        UserError: If a line is malformed, times do not ascend, or there are fewer than two lines.
    """
    times: list[float] = []
    rates: list[float] = []
    for number, line in numbered_lines(text, source):
        fields = line.split()
        if len(fields) != 2:
            raise wrong_line(source, number, "a line must be a time and a rate", line)
        time_s = number_of(fields[0], source, number, "a time must be a number >= 0") * second
        if times and time_s <= times[-1]:
            raise wrong_line(source, number, "times must ascend", line)
        times.append(time_s)
        rates.append(number_of(fields[1], source, number, "a rate must be a number >= 0") * bit)
    if len(times) < 2:
        raise wrong_line(source, number, "a trace must have at least two lines", line)
    return trace_of(np.array(times) - times[0], np.array(rates[1:]), source, number)


def trace_of(
    edges_s: NDArray[np.float64], rates_bps: NDArray[np.float64], source: str, number: int
) -> Trace:
    """Makes a trace that carries something.

    Args:
        edges_s: ``[k + 1]``, seconds at which rates change.
        rates_bps: ``[k]``, bits per second between them.
        source: Name of the file.
        number: Its last line.

    Raises:
        UserError: If every rate is 0.
    """
    if not rates_bps.any():
        raise UserError(
            f"{source}, lines 1 to {number}: a trace must carry something, "
            "got a rate of 0 throughout"
        )
    return Trace(edges_s, rates_bps, source)


def numbered_lines(text: str, source: str) -> Iterable[tuple[int, str]]:
    """Numbers the lines from 1 on, without those that are blank.

    Raises:
        UserError: If there is none.
    """
    found = [
        (number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()
    ]
    if not found:
        raise UserError(f"{source}, line 1: a trace must not be empty")
    return found


def number_of(text: str, source: str, line: int, rule: str) -> float:
    """Reads a finite number of at least 0.

    Args:
        text: Of the field.
        source: Name of the file.
        line: Number of the line, from 1.
        rule: What the field must be, for the message.

    Raises:
        UserError: If it is none.
    """
    try:
        value = float(text)
    except ValueError:
        raise wrong_line(source, line, rule, text) from None
    if not 0 <= value < math.inf:
        raise wrong_line(source, line, rule, text)
    return value


def wrong_line(source: str, line: int, rule: str, value: str) -> UserError:
    """Makes the error of a line.

    Args:
        source: Name of the file.
        line: Number of the line, from 1.
        rule: What must hold.
        value: The text that does not.
    """
    return UserError(f"{source}, line {line}: {rule}, got {value[:80]!r}")
