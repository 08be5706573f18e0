"""Looks at the first rows of a delimited file: separator, header, and the place of each column."""

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cdc_flower.core.errors import UserError
from cdc_flower.core.words import counted
from cdc_flower.tasks.recommendation.readers.headers import (
    check_agreement,
    is_header,
    places_by_map,
    places_by_name,
    role_of,
)
from cdc_flower.tasks.recommendation.readers.options import ReaderOptions
from cdc_flower.tasks.recommendation.readers.rows import is_number, shown
from cdc_flower.tasks.recommendation.readers.times import is_iso

#: Rows that are looked at.
NUM_HEAD = 2000
_SEPARATORS = ("\t", "::", ";", ",", "|")
_COMMENTS = ("#", "%")
#: Columns of files without a header, by their number.
_USUAL = {2: ("user", "item"), 4: ("user", "item", "rating", "time")}
_QUOTED = re.compile(r'"((?:[^"]|"")*)"(?=[ \t]|$)|([^ \t]+)')
#: Ids of Amazon; its files of 2018 have items before users, and no header.
_ASIN = re.compile(r"B0[0-9A-Z]{8}|[0-9]{9}[0-9X]")
_REVIEWER = re.compile(r"A[0-9A-Z]{9,20}")
#: A separator divides so many of the lines into as many fields.
_EVEN = 0.5
#: Of steps in the time of a user, so many show which way the rows go.
_SHARE = 0.9
_LEAST_STEPS = 2
_LIKE_TIME = (1e8, 2e19)


@dataclass(frozen=True)
class Layout:
    """Layout of a delimited file as it was found.

    Attributes:
        sep: Between two fields; None is any run of spaces and tabs.
        num_fields: Of each row.
        places: Role -> place of its column, for user, item, rating, time and kind.
        first_line: Of the first event, counted from 1.
        notes: What there is to say of it.
        words: Names of the columns, for errors.
    """

    sep: str | None
    num_fields: int
    places: Mapping[str, int]
    first_line: int
    words: str
    notes: tuple[str, ...] = ()


def split_line(line: str, sep: str | None, quote: str | None) -> list[str]:
    """Splits a line into fields; quotes around one are taken away.

    Args:
        line: Without its end.
        sep: Between two fields; None is any run of spaces and tabs.
        quote: Around a field; None: they are letters.
    """
    if sep is None:
        if quote is None or quote not in line:
            return [field for field in re.split("[ \t]+", line) if field]
        found = _QUOTED.findall(line)
        return [quoted.replace('""', '"') if quoted or not bare else bare for quoted, bare in found]
    if quote is None or quote not in line or quote in sep:
        return line.split(sep)
    if len(sep) == 1:
        try:
            return next(csv.reader([line], delimiter=sep, quotechar=quote), [""])
        except csv.Error:  # a field beyond reason
            return line.split(sep)
    fields = line.split(sep)
    return [
        each[1:-1].replace(quote * 2, quote)
        if len(each) > 1 and each[0] == each[-1] == quote
        else each
        for each in fields
    ]


def is_blank(line: str, sep: str | None) -> bool:
    """Tells whether a line holds white space only, unless that is the separator."""
    if line and not line.isspace():
        return False
    return sep is None or sep not in line or not sep.isspace()


def find_layout(lines: Sequence[str], options: ReaderOptions, source: str) -> Layout:
    """Finds the layout of a file by its first lines.

    Args:
        lines: The first ones; blank ones count.
        options: As configured.
        source: Of the file, for errors.

    Raises:
        UserError: If the names of the header and the configured columns disagree, the columns are
            not known, or hold what they cannot be.
    """
    sep = options.sep
    numbered = [(number, line) for number, line in enumerate(lines, 1) if not is_blank(line, sep)]
    numbered, num_comments = _without_comments(numbered, options)
    if not numbered:
        raise UserError(f"{source}: must hold at least one event, got none")
    head = [line for _, line in numbered[:NUM_HEAD]]
    sep = _separator(head, options, source) if sep == "auto" else sep
    rows = [split_line(line, sep, options.quote) for line in head]
    columns = options.columns
    listed = None if columns is None or isinstance(columns, Mapping) else columns
    has_header = options.header
    if has_header is None:
        has_header = isinstance(columns, Mapping) or is_header(
            rows[0], listed, rows[1] if len(rows) > 1 else None
        )
    line, names = numbered[0][0], rows[0]
    places = _places(names, columns, has_header, source, line)
    first = numbered[1][0] if has_header and len(numbered) > 1 else line + has_header
    events = rows[1:] if has_header else rows
    num_fields = len(names) if listed is None else len(listed)
    whole = [row for row in events if len(row) == num_fields]
    _check_plausible(whole, places, source)
    is_guess = columns is None and not has_header
    comments = counted(num_comments, "comment line")
    notes = [f"{comments} left out"] if num_comments else []
    if is_guess:
        notes.append(f"without a header columns are taken for {', '.join(places)} (data.columns)")
    notes += _unsure(names, places) if not has_header and options.header is None else []
    if "time" not in places:
        notes += _order_notes(whole, names if has_header else (), places, options, source)
    words = ", ".join(listed if listed is not None else [name.strip() for name in names])
    return Layout(sep, num_fields, places, first, words, tuple(notes))


def _without_comments(
    numbered: list[tuple[int, str]], options: ReaderOptions
) -> tuple[list[tuple[int, str]], int]:
    """Drops the first lines that are comments, unless all lines begin like that."""
    marks = _COMMENTS if options.comment is None else (options.comment,)
    first = next((row for row, (_, line) in enumerate(numbered) if not line.startswith(marks)), 0)
    if options.header is False and options.comment is None:
        return numbered, 0
    return numbered[first:], first


def _separator(head: Sequence[str], options: ReaderOptions, source: str) -> str | None:
    """Finds what stands between fields: the same number of times in most of the first lines."""
    sample = head[:100]
    shares = {sep: _even_share(sample, sep, options.quote) for sep in (*_SEPARATORS, None)}
    best = max(_SEPARATORS, key=lambda sep: shares[sep])
    if shares["\t"] >= _EVEN or shares[best] < _EVEN:
        return "\t" if shares["\t"] >= _EVEN else None
    if shares[None] >= shares[best]:
        raise UserError(
            f"{source}: data.sep must be given, because both {best!r} and white space divide the "
            f"lines evenly, got {shown(head[0])}"
        )
    return best


def _even_share(lines: Sequence[str], sep: str | None, quote: str | None) -> float:
    """Counts which share of lines have the usual number of fields; 0 where that is one."""
    usual, count = Counter(len(split_line(line, sep, quote)) for line in lines).most_common(1)[0]
    return count / len(lines) if usual > 1 else 0.0


def _places(
    names: Sequence[str],
    columns: tuple[str, ...] | Mapping[str, str] | None,
    has_header: bool,
    source: str,
    line: int,
) -> dict[str, int]:
    """Finds the place of each role.

    Args:
        names: Fields of the first row.
        columns: As configured.
        has_header: Whether the first row names the columns.
        source: Of the file, for errors.
        line: Of the first row.
    """
    if isinstance(columns, Mapping):
        return places_by_map(names, columns, source)
    if columns is not None:
        if has_header and len(names) == len(columns):
            check_agreement(names, columns, source, line)
        elif has_header and any(map(role_of, names)):
            raise UserError(
                f"{source}:{line}: data.columns must say what each of the {len(names)} columns "
                f"{shown(', '.join(names))} is, got [{', '.join(columns)}]; write "
                "data.columns=null to read by the names"
            )
        return {role: place for place, role in enumerate(columns) if role != "_"}
    if has_header:
        return places_by_name(names, source)
    if len(names) == 1:
        raise UserError(
            f"{source}:{line}: a row must have a user and an item, got {shown(names[0])} alone; "
            "data.sep says what stands between them"
        )
    if len(names) not in _USUAL:
        raise UserError(
            f"{source}:{line}: data.columns must say what each of the {len(names)} fields is, "
            "because no header names them, as in 'data.columns=[user,item,_,time]', "
            f"got {shown(', '.join(names))}"
        )
    return {role: place for place, role in enumerate(_USUAL[len(names)])}


def _check_plausible(rows: Sequence[Sequence[str]], places: Mapping[str, int], source: str) -> None:
    """Refuses ids that are all dates, and ratings that are times while times are ratings."""
    sample = rows[:100]
    for role in ("user", "item"):
        values = [row[places[role]] for row in sample]
        if values and all(map(is_iso, values)):
            raise UserError(
                f"{source}: data.columns must not say {role} of what looks like times, "
                f"got {shown(values[0])}"
            )
    ids = [(row[places["user"]].strip(), row[places["item"]].strip()) for row in sample]
    if ids and all(_ASIN.fullmatch(user) and _REVIEWER.fullmatch(item) for user, item in ids):
        raise UserError(
            f"{source}: data.columns says user of what looks like Amazon's items and item of what "
            f"looks like its users, got {shown(ids[0][0])} and {shown(ids[0][1])}"
        )
    if "rating" in places and "time" in places:
        pairs = [(row[places["rating"]].strip(), row[places["time"]].strip()) for row in sample]
        numbers = [(float(a), float(b)) for a, b in pairs if is_number(a) and is_number(b)]
        if numbers and all(a >= _LIKE_TIME[0] and b < 1000 for a, b in numbers):
            raise UserError(
                f"{source}: data.columns says rating of what looks like a time and time of what "
                f"looks like a rating, got {shown(pairs[0][0])} and {shown(pairs[0][1])}"
            )


def _unsure(names: Sequence[str], places: Mapping[str, int]) -> list[str]:
    """Says that the first row was taken for an event where nothing but words stand in it."""
    if {"rating", "time"} & set(places):
        return []
    used = [names[place].strip() for place in places.values() if place < len(names)]
    if any(any(letter.isdigit() for letter in word) for word in used):
        return []
    return [f"the first row, {shown(' '.join(used))}, is read as an event (data.header)"]


def _order_notes(
    rows: Sequence[Sequence[str]],
    names: Sequence[str],
    places: Mapping[str, int],
    options: ReaderOptions,
    source: str,
) -> list[str]:
    """Looks for a time among the ignored columns, and which way the rows follow it.

    Args:
        rows: The first ones.
        names: Of the columns; empty without a header.
        places: Of the columns that are read.
        options: As configured.
        source: Of the file, for the error.

    Raises:
        UserError: If the rows come newest first, and nothing is said of their order.
    """
    if options.order != "auto" or not rows:
        return []
    for place in sorted(set(range(len(rows[0]))) - set(places.values())):
        values = _times([row[place] for row in rows])
        if values is None:
            continue
        share = _falling_share([row[places["user"]] for row in rows], values)
        what = f"column {place + 1}" + (f" ({names[place].strip()})" if names else "")
        if share >= _SHARE:
            raise UserError(
                f"{source}: rows come newest first by {what}, which data.columns ignores; name it "
                "time, or say data.order=reversed or data.order=rows"
            )
        if share > 1 - _SHARE:
            return [f"the order of the rows is not that of {what}, which looks like times"]
    return []


def _times(texts: Sequence[str]) -> "np.ndarray | None":
    """Reads a column as times if all of it may be ones."""
    if all(map(is_iso, texts)):
        order = {text: rank for rank, text in enumerate(sorted(set(texts)))}
        return np.array([order[text] for text in texts], np.float64)
    if not all(text.strip().isascii() and text.strip().isdecimal() for text in texts):
        return None
    values = np.array([float(text) for text in texts])
    like = (values >= _LIKE_TIME[0]) & (values < _LIKE_TIME[1])
    return values if like.all() else None


def _falling_share(users: Sequence[str], values: np.ndarray) -> float:
    """Counts which share of the steps of users goes back in time; 0 of too few."""
    steps, last = [], dict[str, float]()
    for user, value in zip(users, values, strict=True):
        if user in last and value != last[user]:
            steps.append(value < last[user])
        last[user] = value
    return float(np.mean(steps)) if len(steps) >= _LEAST_STEPS else 0.0
