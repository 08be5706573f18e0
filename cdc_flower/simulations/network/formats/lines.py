"""Lines of recordings, their fields and numbers, and the errors that name them."""

import csv
import io
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.network.trace import Trace

Floats = NDArray[np.float64]
#: Characters of a line at most.
LONGEST_LINE = 65_536
#: Seconds that a time may be at most; milliseconds since 1970 are more.
MOST_S = 1e11
#: Seconds that no round trip takes.
MOST_RTT_S = 1e5
#: Bits per second that a rate may be at most, and that the highest of a trace must be at least.
MOST_BPS = 1e15
LEAST_BPS = 1e-3
#: Seconds that a trace must last.
LEAST_S = 1e-4


@dataclass(frozen=True)
class Rows:
    """Holds the fields of delimited lines as text, and where they come from.

    Attributes:
        frame: A column for each field, in their order.
        lines: Number of the line of each row.
        source: Name of the file.
    """

    frame: pd.DataFrame
    lines: Sequence[int]
    source: str

    def __len__(self) -> int:
        return len(self.lines)

    def text(self, column: int) -> list[str]:
        """Lists the fields of a column."""
        return self.frame[column].tolist()

    def numbers(self, column: int, rule: str, scale: float = 1.0, most: float = math.inf) -> Floats:
        """Reads a column of finite numbers of at least 0.

        Args:
            column: Its place.
            rule: What a field must be, for the message.
            scale: Unit of the field.
            most: What a number may be at most, in units of the result.

        Raises:
            UserError: If a field is none.
        """
        try:
            given = self.frame[column].to_numpy(object).astype(np.float64)
        except (ValueError, TypeError):
            given = np.array([_number_or_nan(text) for text in self.text(column)])
        with np.errstate(over="ignore"):  # what is too large is refused below
            values = given * scale
        fits = (values >= 0) & (values <= most) & np.isfinite(values)
        if not fits.all():
            row = int(np.argmin(fits))
            limit = f" and at most {most / scale:g}" if most < values[row] < math.inf else ""
            self.refuse(row, rule + limit, self.text(column)[row])
        return values

    def refuse(self, row: int, rule: str, value: str) -> NoReturn:
        """Raises the error of a row.

        Args:
            row: Its place.
            rule: What must hold.
            value: The text that does not.

        Raises:
            UserError: Always.
        """
        raise wrong_line(self.source, self.lines[row], rule, value)


def read_rows(
    lines: Sequence[tuple[int, str]], source: str, separator: str, num_fields: int, rule: str
) -> Rows:
    """Splits lines into fields, through pandas.

    Args:
        lines: Their numbers and texts.
        source: Name of the file.
        separator: Between fields; " " is any white space.
        num_fields: Of each line.
        rule: What a line must be, for the message.

    Raises:
        UserError: If a line has more or less.
    """
    found = split_lines(lines, separator, num_fields + 1)
    if found is None or len(found) != len(lines) or (found[num_fields] != "").any():
        _explain_fields(lines, source, separator, num_fields, rule)
    if (short := np.flatnonzero((found[num_fields - 1] == "").to_numpy())).size:
        number, line = lines[int(short[0])]
        raise wrong_line(source, number, rule, line)
    return Rows(found, [number for number, _ in lines], source)


def split_lines(
    lines: Sequence[tuple[int, str]], separator: str, width: int
) -> pd.DataFrame | None:
    """Reads the fields of lines as text, through pandas; None if a line has too many.

    Args:
        lines: Their numbers and texts.
        separator: Between fields; " " is any white space.
        width: Fields of a line at most; a line with less ends with empty ones.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # all lines have more fields
            return pd.read_csv(
                io.StringIO("\n".join(line for _, line in lines) + "\n"),
                sep=r"\s+" if separator == " " else separator,
                header=None,
                names=list(range(width)),
                index_col=False,
                dtype=str,
                keep_default_na=False,
                skipinitialspace=True,
                skip_blank_lines=False,
                engine="c",
            ).fillna("")
    except (ValueError, pd.errors.ParserWarning):
        return None


def _explain_fields(
    lines: Sequence[tuple[int, str]], source: str, separator: str, num_fields: int, rule: str
) -> NoReturn:
    """Finds the line with more or less fields.

    Raises:
        UserError: Always.
    """
    for number, line in lines:
        fields = line.split() if separator == " " else next(csv.reader([line], delimiter=separator))
        if len(fields) != num_fields:
            raise wrong_line(source, number, rule, line)
    raise wrong_line(source, lines[0][0], "each quote must end on its line", lines[0][1])


def separator_of(line: str) -> str:
    """Finds what separates the fields of a line: a tab, a semicolon, a comma, or white space."""
    return next((sign for sign in "\t;,|" if sign in line), " ")


def read_samples(text: str, source: str, second: float, bit: float) -> tuple[Trace, int, int]:
    """Reads lines of a time and a rate, where a rate holds until its time.

    White space, a comma, a semicolon or a tab is between the two; lines that begin with ``#`` are
    comments. Rows of one time are averaged.

    Args:
        text: Of the file.
        source: Its name.
        second: Seconds in the unit of time.
        bit: Bits per second in the unit of rate.

    Returns:
        The trace, the rows with a repeated time, and the line of the first of them.

    Raises:
        UserError: If a line is malformed, times go back, or there are fewer than two lines.
    """
    lines = numbered_lines(text, source)
    rule = "a line must be a time and a rate"
    rows = read_rows(lines, source, separator_of(lines[0][1]), 2, rule)
    times = rows.numbers(0, "a time must be a number >= 0", second, MOST_S)
    rates = rows.numbers(1, "a rate must be a number >= 0", bit, MOST_BPS)
    times, rates, num_repeated, line = merged(rows, times, rates)
    if len(times) < 2:
        number, last = lines[-1]
        raise wrong_line(source, number, "a trace must have at least two lines", last)
    trace = trace_of(times - times[0], rates[1:], source, lines[-1][0])
    return trace, num_repeated, line


def merged(rows: Rows, times: Floats, rates: Floats) -> tuple[Floats, Floats, int, int]:
    """Averages the rates of rows with one time.

    Args:
        rows: Where they come from.
        times: ``[k]``, seconds.
        rates: ``[k]`` or ``[k, j]``.

    Returns:
        Times and rates without repeats, how many rows went, and the line of the first of them.

    Raises:
        UserError: If times go back.
    """
    steps = np.diff(times)
    if (back := np.flatnonzero(steps < 0)).size:
        row = int(back[0]) + 1
        rows.refuse(row, "times must ascend", "\t".join(rows.frame.iloc[row]).strip())
    again = np.flatnonzero(steps == 0) + 1
    if not again.size:
        return times, rates, 0, 0
    seconds, group = np.unique(times, return_inverse=True)
    sums = np.zeros((len(seconds), *rates.shape[1:]))
    np.add.at(sums, group, rates)
    count = np.bincount(group).reshape(-1, *(1,) * (rates.ndim - 1))
    return seconds, sums / count, len(again), rows.lines[int(again[0])]


def trace_of(edges_s: Floats, rates_bps: Floats, source: str, number: int) -> Trace:
    """Makes a trace that carries something.

    Args:
        edges_s: ``[k + 1]``, seconds at which rates change.
        rates_bps: ``[k]``, bits per second between them.
        source: Name of the file.
        number: Its last line.

    Raises:
        UserError: If every rate is 0, one is too high, or the trace is too short.
    """
    place = f"{source}, lines 1 to {number}"
    if not rates_bps.any():
        raise UserError(f"{place}: a trace must carry something, got a rate of 0 throughout")
    highest = float(rates_bps.max())
    if not LEAST_BPS <= highest <= MOST_BPS:
        rule = f"the highest rate must be in [{LEAST_BPS:g}, {MOST_BPS:g}] bit/s"
        raise UserError(f"{place}: {rule}, got {highest:g}")
    if not LEAST_S <= edges_s[-1] - edges_s[0] <= MOST_S:
        rule = f"a trace must last {LEAST_S:g} to {MOST_S:g} s"
        raise UserError(f"{place}: {rule}, got {edges_s[-1] - edges_s[0]:g}")
    try:
        return Trace(edges_s, rates_bps, source)
    except ValueError as error:
        raise UserError(f"{place}: {error}") from error


def held_trace(times_s: Floats, rates_bps: Floats, source: str, number: int) -> Trace:
    """Makes a trace of rates that hold until the next, the last as long as the median of others.

    Args:
        times_s: ``[k]``, ascending, ``k >= 2``.
        rates_bps: ``[k]``.
        source: Name of the file.
        number: Its last line.

    Raises:
        UserError: As :func:`trace_of`, and if there are fewer than two.
    """
    if len(times_s) < 2:
        rule = "a trace must have at least two rows of different times"
        raise UserError(f"{source}, line {number}: {rule}")
    edges = np.append(times_s, times_s[-1] + np.median(np.diff(times_s))) - times_s[0]
    return trace_of(edges, rates_bps, source, number)


def numbered_lines(text: str, source: str) -> list[tuple[int, str]]:
    """Numbers the lines from 1 on, without those that are blank or begin with ``#``.

    Raises:
        UserError: If there is none, or one is too long.
    """
    found = [
        (number, line.strip())
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not found:
        raise UserError(f"{source}, line 1: a trace must not be empty")
    check_lengths(found, source)
    return found


def check_lengths(lines: Iterable[tuple[int, str]], source: str) -> None:
    """Refuses lines that no recorder writes.

    Raises:
        UserError: If one is too long.
    """
    for number, line in lines:
        if len(line) > LONGEST_LINE:
            rule = f"a line must have at most {LONGEST_LINE:,} characters, has {len(line):,}"
            raise wrong_line(source, number, rule, line)


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
    value = _number_or_nan(text)
    if not 0 <= value < math.inf:
        raise wrong_line(source, line, rule, text)
    return value


def _number_or_nan(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        return math.nan


def wrong_line(source: str, line: int, rule: str, value: str) -> UserError:
    """Makes the error of a line.

    Args:
        source: Name of the file.
        line: Number of the line, from 1.
        rule: What must hold.
        value: The text that does not.
    """
    return UserError(f"{source}, line {line}: {rule}, got {value[:80]!r}")
