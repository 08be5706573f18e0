"""Tables below a header: columns by name, through pandas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cdc_flower.core.dates import seconds_since_1970
from cdc_flower.core.errors import UserError, nearest_name
from cdc_flower.simulations.network.formats.lines import (
    Floats,
    Rows,
    numbered_lines,
    split_lines,
    wrong_line,
)

#: Fields that say that nothing was measured.
NOTHING = ("", "-", "nan", "NaN", "NA", "null", "None")
#: Columns at most.
MOST_COLUMNS = 1000
#: Medians of times from which on they are milliseconds, microseconds and nanoseconds since 1970.
_EPOCH_UNITS = ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3))


@dataclass(frozen=True)
class Table:
    """Holds a table of text.

    Attributes:
        rows: The fields below the header.
        header: Names of the columns, in their order.
        line: Number of the header's line.
    """

    rows: Rows
    header: list[str]
    line: int

    @property
    def source(self) -> str:
        """Of the file."""
        return self.rows.source

    def place(self, name: str) -> int:
        """Finds a column.

        Raises:
            UserError: If there is none, or there are two of that name.
        """
        if self.header.count(name) != 1:
            near = nearest_name(name, set(self.header))
            hint = f"; did you mean {near!r}?" if near else ""
            rule = f"the header must have {name} once{hint}"
            raise wrong_line(self.source, self.line, rule, ",".join(self.header))
        return self.header.index(name)

    def text(self, name: str) -> list[str]:
        """Lists the fields of a column."""
        return self.rows.text(self.place(name))

    def numbers(self, name: str, scale: float = 1.0, most: float = np.inf) -> Floats:
        """Reads a column of numbers of at least 0.

        Args:
            name: Of the column.
            scale: Its unit.
            most: What a number may be at most, in units of the result.

        Raises:
            UserError: If a field is none.
        """
        return self.rows.numbers(self.place(name), f"{name} must be a number >= 0", scale, most)

    def mean(self, name: str, scale: float = 1.0, most: float = np.inf) -> float | None:
        """Averages what was measured of a column; None if nothing was.

        Args:
            name: Of the column.
            scale: Its unit.
            most: What a number may be at most, in units of the result.

        Raises:
            UserError: As :meth:`numbers`.
        """
        place = self.place(name)
        kept = np.flatnonzero(~self.rows.frame[place].isin(NOTHING).to_numpy())
        if not kept.size:
            return None
        part = self.selected(kept).rows
        return float(part.numbers(place, f"{name} must be a number >= 0", scale, most).mean())

    def times(self, name: str, unit: float | None) -> Floats:
        """Reads a column of times: numbers, or dates as of ISO 8601.

        Args:
            name: Of the column.
            unit: Seconds in its unit; None: seconds, or if they are since 1970, by their size.

        Returns:
            Seconds ``[k]``.

        Raises:
            UserError: If a field is neither.
        """
        place = self.place(name)
        first = self.rows.text(place)[0]
        if "-" in first[1:] and ":" in first and "e-" not in first.lower():
            return self.dates(name, "ISO8601", "an ISO 8601 date such as 2019-12-16T13:40:04Z")
        rule = f"{name} must be a number >= 0 or an ISO 8601 date"
        times = self.rows.numbers(place, rule, 1.0)
        if unit is None:
            median = float(np.median(times))
            unit = next((unit for least, unit in _EPOCH_UNITS if median >= least), 1.0)
        return times * unit

    def dates(self, name: str, format: str, words: str) -> Floats:
        """Reads a column of dates as seconds since 1970.

        Args:
            name: Of the column.
            format: As of pandas.
            words: What a field must be, for the message.

        Raises:
            UserError: If a field is none.
        """
        fields = self.rows.frame[self.place(name)]
        dates = pd.to_datetime(fields, format=format, errors="coerce", utc=True)
        if (wrong := np.flatnonzero(dates.isna().to_numpy())).size:
            row = int(wrong[0])
            self.rows.refuse(row, f"{name} must be {words}", str(fields.iloc[row]))
        return seconds_since_1970(dates)

    def selected(self, rows: np.ndarray) -> "Table":
        """Selects some rows."""
        frame = self.rows.frame.iloc[rows].reset_index(drop=True)
        lines = [self.rows.lines[int(row)] for row in rows]
        return Table(Rows(frame, lines, self.source), self.header, self.line)

    def groups(self, name: str) -> Mapping[str, np.ndarray]:
        """Lists the rows of each value of a column, in the order in which values come."""
        keys = self.rows.frame[self.place(name)]
        found = keys.groupby(keys, sort=False).indices
        return {str(key): np.asarray(rows) for key, rows in found.items()}


def read_table(text: str, source: str, needed: Sequence[str] = ()) -> Table:
    """Reads a table whose first line names its columns.

    Args:
        text: Of the file.
        source: Its name.
        needed: Columns that it must have.

    Raises:
        UserError: If it is empty, lacks a column, or has a line with another number of fields.
    """
    lines = numbered_lines(text, source)
    number, first = lines[0]
    separator = max(",;\t|", key=first.count)
    separator = separator if separator in first else " "
    widths = [_num_fields(line, separator) for _, line in lines]
    width = widths[0]
    if max(widths) > MOST_COLUMNS:
        number, line = lines[int(np.argmax(widths))]
        raise wrong_line(source, number, f"there must be at most {MOST_COLUMNS:,} columns", line)
    frame = split_lines(lines, separator, max(widths))
    if frame is None or len(frame) != len(lines):
        raise wrong_line(source, number, "each quote must end on its line", first)
    # A comma at the end of a row does no harm; a comma in a name moves the columns behind it.
    if (long := np.flatnonzero((frame.iloc[:, width:] != "").any(axis=1).to_numpy())).size:
        number, line = lines[int(long[0])]
        raise wrong_line(source, number, f"a row must have {width} fields", line)
    header = [str(name).strip() for name in frame.iloc[0]][:width]
    if missing := [name for name in needed if name not in header]:
        rule = f"the header must have {', '.join(missing)}"
        raise wrong_line(source, number, rule, first)
    places = [header.index(name) for name in needed]
    for row in np.flatnonzero((frame[width - 1] == "").to_numpy()):
        if widths[row] <= max(places, default=-1):
            number, line = lines[int(row)]
            raise wrong_line(source, number, f"a row must have {width} fields", line)
    if len(lines) < 2:
        raise UserError(f"{source}, line {number}: a table must have rows below its header")
    body = frame.iloc[1:, :width].reset_index(drop=True)
    if separator == ";":
        body = body.apply(lambda column: column.str.replace(",", ".", regex=False))
    rows = Rows(body, [number for number, _ in lines[1:]], source)
    return Table(rows, header, number)


def _num_fields(line: str, separator: str) -> int:
    return len(line.split()) if separator == " " else line.count(separator) + 1
