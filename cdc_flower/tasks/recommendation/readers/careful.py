"""Reads rows of a delimited file one by one, and says the first mistake with its line.

The fast way takes whole blocks that keep every rule. This one takes the others: it is slower, and
knows what is wrong with which row.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cdc_flower.tasks.recommendation.readers.blocks import Block
from cdc_flower.tasks.recommendation.readers.layout import Layout, is_blank, split_line
from cdc_flower.tasks.recommendation.readers.options import ReaderOptions
from cdc_flower.tasks.recommendation.readers.rows import (
    Check,
    Rows,
    good_rows,
    not_empty,
    shown,
    spread,
    to_numbers,
)
from cdc_flower.tasks.recommendation.readers.times import iso_s

RULES = {
    "user": "user must not be empty",
    "item": "item must not be empty",
    "rating": "rating must be a finite number",
    "time": "time must be a finite number of seconds >= 0",
}
_QUOTE_RULE = (
    "a field that opens with a quote must close with one before the next separator "
    "(data.quote=null reads quotes as letters)"
)
#: A row as fields, or as the text of one whose quotes are not closed.
Record = list[str] | str


def careful_rows(block: Block, layout: Layout, options: ReaderOptions, source: str) -> Rows:
    """Reads a block row by row.

    Args:
        block: Of whole rows, without the header.
        layout: Of the file.
        options: As configured.
        source: Of the file, for errors.

    Raises:
        UserError: If a row has a wrong number of fields, an empty id, a rating or time that is not
            a finite number, or a negative time, and ``options.skip_errors`` is false.
    """
    records, line_numbers, raw = _records(block, layout, options)
    whole = np.fromiter(
        (isinstance(each, list) and len(each) == layout.num_fields for each in records),
        np.bool_,
        len(records),
    )
    closed = np.fromiter((isinstance(each, list) for each in records), np.bool_, len(records))
    fields = [records[row] for row in np.flatnonzero(whole)]
    separated = "white space" if layout.sep is None else repr(layout.sep)
    rule = f"row must have {layout.num_fields} fields ({layout.words}) separated by {separated}"
    checks = [
        Check(closed, _QUOTE_RULE, lambda row: shown(raw[row])),
        Check(whole, rule, lambda row: shown(raw[row])),
    ]
    columns: dict[str, list[str]] = {}
    numbers: dict[str, NDArray[np.float64]] = {}
    is_dated = False
    for name, place in sorted(layout.places.items(), key=lambda each: each[1]):
        values = columns[name] = [str(each[place]).strip() for each in fields]
        if name == "kind":
            continue
        if name in ("user", "item"):
            holds = not_empty(values)
        else:
            plain = (
                values if options.decimal == "." else [each.replace(",", ".") for each in values]
            )
            numbers[name] = to_numbers(plain)
            holds = np.isfinite(numbers[name])
            if name == "time":
                numbers[name], is_dated = _times(values, numbers[name])
                holds = np.isfinite(numbers[name]) & (is_dated | (numbers[name] >= 0))
        shown_at: Callable[[int], str] = partial(_shown_at, values)
        checks.append(
            Check(spread(holds, whole), RULES[name] + _hint(name, values, holds), shown_at)
        )
    good = good_rows(source, lambda row: line_numbers[row], checks, options.skip_errors)
    kept = good[whole]
    users, items = (np.array(columns[name], dtype=object)[kept] for name in ("user", "item"))
    times_s = numbers["time"][kept] if "time" in numbers else None
    num_skipped = int((~good).sum())
    if options.kinds is None or "kind" not in columns:
        return Rows(users, items, times_s, num_skipped, is_dated)
    wanted = np.isin(np.array(columns["kind"], dtype=object)[kept].astype(str), options.kinds)
    times_s = None if times_s is None else times_s[wanted]
    num_unwanted = int((~wanted).sum())
    return Rows(users[wanted], items[wanted], times_s, num_skipped, is_dated, num_unwanted)


def _times(values: list[str], numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Reads dates where more of the times are dates than numbers."""
    if not values or np.isfinite(numbers).mean() > 0.5:
        return numbers, False
    dates = iso_s(values)
    is_dated = bool(np.isfinite(dates).sum() > np.isfinite(numbers).sum())
    return (dates, True) if is_dated else (numbers, False)


def _hint(name: str, values: Sequence[str], holds: NDArray[np.bool_]) -> str:
    """Says what would read a number with a decimal comma."""
    if name not in ("rating", "time") or holds.all():
        return ""
    value = values[int(np.argmin(holds))]
    number = value.replace(",", ".", 1)
    return " (data.decimal=',')" if "," in value and np.isfinite(to_numbers([number])[0]) else ""


def _shown_at(values: list[str], row: int) -> str:
    """Shows the value of the first malformed row: all before it are whole."""
    return shown(values[row])


def _records(
    block: Block, layout: Layout, options: ReaderOptions
) -> tuple[list[Record], list[int], list[str]]:
    """Splits rows that are not blank, each with its line in the file and its text."""
    quote = options.quote
    lines = block.lines
    if layout.sep is not None and len(layout.sep) == 1 and quote and quote in block.data.decode():
        found = list(_quoted(lines, layout.sep, quote))
        found = [each for each in found if not is_blank(each[2], layout.sep)]
        return (
            [record for record, _, _ in found],
            [block.line + index for _, index, _ in found],
            [text for _, _, text in found],
        )
    kept = [index for index, line in enumerate(lines) if not is_blank(line, layout.sep)]
    records: list[Record] = [split_line(lines[index], layout.sep, quote) for index in kept]
    return records, [block.line + index for index in kept], [lines[index] for index in kept]


def _quoted(lines: list[str], sep: str, quote: str) -> Iterator[tuple[Record, int, str]]:
    """Splits rows with quotes as RFC 4180 has them: fields, place of the first line, and text."""
    start = 0
    while start < len(lines):
        reader = csv.reader(
            (f"{line}\n" for line in lines[start:]), delimiter=sep, quotechar=quote, strict=True
        )
        begin = start
        try:
            for row in reader:
                yield row, begin, lines[begin]
                begin = start + reader.line_num
            return
        except csv.Error:
            yield lines[begin], begin, lines[begin]
            start = begin + 1
