"""Rows of annotation files: of a table with a header, or of a JSON list, checked by value."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cdc_flower.core.errors import UserError
from cdc_flower.core.opening.damage import DamagedFile, whole
from cdc_flower.tasks.video.problems import Problems
from cdc_flower.tasks.video.reading import find_file, read_text

KEY = "data.annotations"
#: Characters of the name of a video, and of a question.
LONGEST_NAME = 255
LONGEST_TEXT = 10_000
#: A row or entry: values by column or key.
Row = Mapping[str, object]
T = TypeVar("T")


@dataclass(frozen=True)
class Annotation:
    """One question about a video, where it was read, and of which split the file is."""

    video: str
    question: str
    answer: str
    kind: str
    split: str
    place: str


class Malformed(ValueError):
    """Says what a row has wrong; its reader adds the place."""


def made(
    rows: Iterator[tuple[str, Row]], make: Callable[[str, Row], T], problems: Problems
) -> Iterator[T]:
    """Makes something of each row (place, row); what is malformed is a problem.

    Args:
        rows: Of one file.
        make: Of the place and the row. It may raise :class:`Malformed`.
        problems: What becomes of rows that cannot be used.
    """
    for place, row in rows:
        try:
            yield make(place, row)
        except Malformed as error:
            problems.report("malformed row", f"{place}: {error}")


def table(
    folder: str,
    names: Sequence[str],
    sep: str,
    columns: Sequence[str],
    problems: Problems,
    choices: Sequence[str] = (),
) -> Iterator[tuple[str, Row]]:
    """Reads a file with a header as (place, row).

    Args:
        folder: Of the file.
        names: To look for.
        sep: Between fields.
        columns: That the header must have.
        problems: What becomes of a row with more fields than the header.
        choices: Columns of which the header must have all or none.

    Raises:
        UserError: If the file or a column is missing.
    """
    path = find_file(folder, names, KEY)
    try:
        text = read_text(path)
    except DamagedFile as error:
        problems.report("annotation file", str(error))
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=sep, strict=True)
    header: list[str] | None = None
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.report("malformed row", f"{path}:{reader.line_num}: must be CSV ({error})")
            continue
        place = f"{path}:{reader.line_num}"
        if header is None:
            header = [name.strip() for name in values]
            wanted = (*columns, *(choices if {*choices} & {*header} else ()))
            _check_header(place, header, wanted)
        elif len(values) > len(header) and any(values[len(header) :]):
            problems.report(
                "malformed row",
                f"{place}: must have {len(header)} fields as the header, got {len(values)}",
            )
        elif values:
            yield place, dict(zip(header, values, strict=False))


def _check_header(place: str, header: list[str], columns: Sequence[str]) -> None:
    """Refuses a header that lacks a column or has it twice."""
    missing = [name for name in columns if name not in header]
    if missing:
        raise UserError(
            f"{place}: must have the columns {', '.join(columns)}, got none for "
            f"{', '.join(missing)}"
        )
    twice = [name for name in columns if header.count(name) > 1]
    if twice:
        raise UserError(f"{place}: must have each column once, got {twice[0]} twice")


def objects(folder: str, names: Sequence[str], problems: Problems) -> Iterator[tuple[str, Row]]:
    """Reads the objects of a JSON list as (place, object); what is no object is a problem.

    Args:
        folder: Of the file.
        names: To look for.
        problems: What becomes of what cannot be used.

    Raises:
        UserError: If the file is missing.
    """
    path = find_file(folder, names, KEY)
    try:
        text = read_text(path)
        with whole(path, "JSON file"):
            entries = _parsed(str(path), text)
    except DamagedFile as error:
        problems.report("annotation file", str(error))
        return
    for number, entry in enumerate(entries):
        place = f"{path}: entry {number}"
        if isinstance(entry, dict):
            yield place, entry
        else:
            got = type(entry).__name__
            problems.report("malformed row", f"{place}: must be a JSON object, got {got}")


def _parsed(path: str, text: str) -> list[object]:
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise DamagedFile(f"{path}:{error.lineno}: must be JSON ({error.msg})") from error
    if not isinstance(entries, list):
        raise DamagedFile(f"{path}: must be a JSON list, got {type(entries).__name__}")
    return entries


def shown(value: object) -> str:
    """Shows a value in an error, shortened."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def text_of(row: Row, key: str, longest: int = LONGEST_TEXT) -> str:
    """Gives a text of a row that is not empty.

    Args:
        row: Of a file.
        key: Of the value.
        longest: Characters.

    Raises:
        Malformed: If it is missing, empty, no text, or too long.
    """
    value = row.get(key)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Malformed(f"{key} must not be empty")
    if not isinstance(value, str):
        raise Malformed(f"{key} must be text, got {shown(value)}")
    if len(value) > longest:
        raise Malformed(f"{key} must have at most {longest:,} characters, got {len(value):,}")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise Malformed(f"{key} must be text, got half a character")
    return value


def name_of(row: Row, key: str) -> str:
    """Gives the name or number of a video or question as text.

    Raises:
        Malformed: If it is missing, empty, too long, or neither.
    """
    value = row.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    name = text_of({**row, key: value}, key, LONGEST_NAME)
    if not name.isprintable():
        raise Malformed(f"{key} must have no control characters, got {shown(name)}")
    return name


def answer_of(row: Row, key: str = "answer") -> str:
    """Gives an answer as text; a number is one, too.

    Raises:
        Malformed: If it is missing, empty, or neither.
    """
    value = row.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise Malformed(f"{key} must be text or a finite number, got {value}")
        return str(value)
    return text_of(row, key)


def choice_of(row: Row, columns: Sequence[str]) -> str:
    """Gives the text of the right one of several answers; ``answer`` counts from 0.

    Raises:
        Malformed: If there is no such answer, or it is empty.
    """
    number = row.get("answer")
    numbers = [str(index) for index in range(len(columns))]
    if number not in numbers:
        raise Malformed(f"answer must be 0 to {numbers[-1]}, got {shown(number)}")
    return text_of(row, columns[numbers.index(str(number))])
