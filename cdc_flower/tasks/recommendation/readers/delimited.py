"""One event a line, fields between separators: MovieLens, Amazon ratings, plain tables.

There is no quoting: a separator inside quotes still separates.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from cdc_flower.tasks.recommendation.readers.headers import is_header
from cdc_flower.tasks.recommendation.readers.options import ReaderOptions
from cdc_flower.tasks.recommendation.readers.registry import readers
from cdc_flower.tasks.recommendation.readers.rows import (
    Check,
    Rows,
    good_rows,
    not_empty,
    shown,
    spread,
    text_rows,
    to_numbers,
)

RULES = {
    "user": "user must not be empty",
    "item": "item must not be empty",
    "rating": "rating must be a finite number",
    "time": "time must be a finite number of seconds >= 0",
}


def _num_fields(lines: list[str], sep: str | None) -> NDArray[np.int64]:
    if sep is None:
        return np.fromiter((len(line.split()) for line in lines), np.int64, len(lines))
    return np.fromiter((line.count(sep) for line in lines), np.int64, len(lines)) + 1


def _fields(lines: list[str], sep: str | None) -> list[str]:
    """Splits all lines into a row of fields. No separator spans two lines."""
    if not lines:
        return []
    joined = "\n".join(lines)
    return joined.split() if sep is None else joined.replace(sep, "\n").split("\n")


def _shown_at(values: list[str], row: int) -> str:
    """Shows the value of the first malformed row: all before it are whole."""
    return shown(values[row])


def _has_header(lines: list[str], options: ReaderOptions) -> bool:
    if options.header is not None or not lines:
        return bool(options.header)
    second = lines[1].split(options.sep) if len(lines) > 1 else None
    return is_header(lines[0].split(options.sep), options.columns, second)


@readers.register("delimited", has_columns=True)
def read_delimited(text: str, source: str, options: ReaderOptions) -> Rows:
    """Reads a delimited file; see :class:`ReaderOptions`.

    Args:
        text: Of the file.
        source: Its name for errors.
        options: Its layout.

    Raises:
        UserError: If a row has a wrong number of fields, an empty id, a rating or time that is not
            a finite number, or a negative time, and ``options.skip_errors`` is false.
    """
    columns, sep = options.columns, options.sep
    lines, line_numbers = text_rows(text, sep)
    if _has_header(lines, options):
        lines, line_numbers = lines[1:], line_numbers[1:]
    whole = _num_fields(lines, sep) == len(columns)
    fields = _fields(lines if whole.all() else [lines[row] for row in np.flatnonzero(whole)], sep)
    separated = "white space" if sep is None else repr(sep)
    rule = f"row must have {len(columns)} fields ({', '.join(columns)}) separated by {separated}"
    checks = [Check(whole, rule, lambda row: shown(lines[row]))]
    ids: dict[str, list[str]] = {}
    numbers: dict[str, NDArray[np.float64]] = {}
    for index, name in enumerate(columns):
        if name == "_":
            continue
        values = list(map(str.strip, fields[index :: len(columns)]))
        if name in ("user", "item"):
            ids[name], holds = values, not_empty(values)
        else:
            numbers[name] = to_numbers(values)
            holds = np.isfinite(numbers[name])
            if name == "time":
                holds &= numbers[name] >= 0
        checks.append(Check(spread(holds, whole), RULES[name], partial(_shown_at, values)))
    good = good_rows(source, lambda row: int(line_numbers[row]), checks, options.skip_errors)
    kept = good[whole]
    users, items = (np.array(ids[name], dtype=object)[kept] for name in ("user", "item"))
    times_s = numbers["time"][kept] if "time" in numbers else None
    return Rows(users, items, times_s, num_skipped=int((~good).sum()))
