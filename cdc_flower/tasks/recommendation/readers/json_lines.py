"""An object a line, as JSON (Amazon, Yelp) or as a Python dictionary (Steam): one event each."""

import ast
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.recommendation.readers.blocks import read_blocks
from cdc_flower.tasks.recommendation.readers.careful import RULES
from cdc_flower.tasks.recommendation.readers.headers import places_by_map, places_by_name
from cdc_flower.tasks.recommendation.readers.options import ReaderOptions
from cdc_flower.tasks.recommendation.readers.registry import readers
from cdc_flower.tasks.recommendation.readers.rows import Rows, shown, to_numbers
from cdc_flower.tasks.recommendation.readers.times import iso_s

#: A line of more letters is no event: parsers of languages take memory beyond reason for it.
_MOST_LETTERS = 2**22
Loads = Callable[[str], object]


@readers.register("json_lines", reads="parts")
def read_json_lines(path: Path, options: ReaderOptions) -> Iterator[Rows]:
    """Reads a JSON object a line; see :class:`ReaderOptions`.

    Args:
        path: Of the file.
        options: ``columns`` maps user, item, time and rating to keys; otherwise known names count.

    Raises:
        UserError: If a line is none, lacks a key or has a wrong value, and ``options.skip_errors``
            is false.
    """
    return _read(path, options, json.loads, "a JSON object")


@readers.register("python_lines", reads="parts")
def read_python_lines(path: Path, options: ReaderOptions) -> Iterator[Rows]:
    """Reads the text of a Python dictionary a line; nothing is executed.

    Args:
        path: Of the file.
        options: As :func:`read_json_lines`.

    Raises:
        UserError: As :func:`read_json_lines`.
    """
    return _read(path, options, ast.literal_eval, "the text of a Python dictionary")


def _read(path: Path, options: ReaderOptions, loads: Loads, what: str) -> Iterator[Rows]:
    lines: _Lines | None = None
    for block in read_blocks(path, options.encoding, None, options.files):
        numbered = [
            (number, line)
            for number, line in enumerate(block.lines, block.line)
            if line and not line.isspace()
        ]
        if not numbered:
            continue
        if lines is None:
            lines = _Lines(str(path), options, loads, what)
        yield lines.rows(numbered)


@dataclass
class _Lines:
    """Reads lines of objects.

    Attributes:
        source: Of the file, for errors.
        options: As configured.
        loads: Reads the text of an object.
        what: Words for one.
        keys: Role -> key, once an object was read.
    """

    source: str
    options: ReaderOptions
    loads: Loads
    what: str
    keys: Mapping[str, str] | None = None

    def rows(self, numbered: Sequence[tuple[int, str]]) -> Rows:
        """Reads the events of numbered lines.

        Raises:
            UserError: If one is malformed and none may be skipped.
        """
        events: list[tuple[str, str, object]] = []
        numbers: list[int] = []
        num_skipped = num_unwanted = 0
        for number, line in numbered:
            try:
                event = self._event(line)
            except _Malformed as error:
                if not self.options.skip_errors:
                    raise UserError(f"{self.source}:{number}: {error}") from None
                num_skipped += 1
                continue
            if event is None:
                num_unwanted += 1
                continue
            events.append(event)
            numbers.append(number)
        return self._timed(events, numbers, num_skipped, num_unwanted)

    def _event(self, line: str) -> tuple[str, str, object] | None:
        """Reads the event of a line; None for one of a kind that is not wanted."""
        try:
            if len(line) > _MOST_LETTERS:
                raise ValueError("a line beyond reason")
            found = self.loads(line)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            raise _Malformed(f"a line must be {self.what}, got {shown(line)}") from None
        if not isinstance(found, dict):
            raise _Malformed(f"a line must be {self.what}, got {shown(line)}")
        if self.keys is None:
            self.keys = self._found_keys(found)
        keys = self.keys
        ids = []
        for role in ("user", "item"):
            value = found.get(keys[role])
            text = str(value).strip() if type(value) in (str, int) else ""
            if not text:
                raise _Malformed(
                    f"{keys[role]} must be a text or a whole number, got {shown(line)}"
                )
            ids.append(text)
        kinds = self.options.kinds
        if kinds is not None and "kind" in keys and str(found.get(keys["kind"])) not in kinds:
            return None
        return ids[0], ids[1], found.get(keys["time"]) if "time" in keys else None

    def _found_keys(self, found: dict) -> Mapping[str, str]:
        names = [str(key) for key in found]
        columns = self.options.columns
        if isinstance(columns, Mapping):
            places = places_by_map(names, columns, self.source)
        else:
            places = places_by_name(names, self.source)
        return {role: names[place] for role, place in places.items()}

    def _timed(
        self,
        events: Sequence[tuple[str, str, object]],
        numbers: Sequence[int],
        num_skipped: int,
        num_unwanted: int,
    ) -> Rows:
        """Reads the times of events.

        Args:
            events: Users, items, and times as they are written.
            numbers: Lines of them.
            num_skipped: Malformed ones before.
            num_unwanted: Those of kinds that are not wanted.
        """
        users, items = [event[0] for event in events], [event[1] for event in events]
        if self.keys is None or "time" not in self.keys:
            return Rows(users, items, None, num_skipped, num_unwanted=num_unwanted)
        texts = [_text_of(event[2]) for event in events]
        times = to_numbers(texts)
        is_dated = bool(len(texts)) and np.isfinite(times).mean() < 0.5
        times = iso_s(texts) if is_dated else times
        holds = np.isfinite(times) & (is_dated | (times >= 0))
        if not holds.all() and not self.options.skip_errors:
            row = int(np.argmin(holds))
            raise UserError(
                f"{self.source}:{numbers[row]}: {RULES['time']} or a date as 2026-01-31, "
                f"got {shown(texts[row])}"
            )
        kept = np.flatnonzero(holds)
        return Rows(
            [users[row] for row in kept],
            [items[row] for row in kept],
            times[kept],
            num_skipped + int((~holds).sum()),
            bool(is_dated),
            num_unwanted,
        )


class _Malformed(Exception):
    """Says what is wrong with a line."""


def _text_of(value: object) -> str:
    return str(value) if type(value) in (str, int, float) else ""
