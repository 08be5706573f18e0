"""Collects the events of parts into one table, with ids as numbers from the first part on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.words import counted
from cdc_flower.tasks.recommendation.events import EventTable
from cdc_flower.tasks.recommendation.readers.book import Book
from cdc_flower.tasks.recommendation.readers.rows import Rows
from cdc_flower.tasks.recommendation.readers.times import WORDS, seconds_of, span_words, unit_of

#: Texts that programs write where a value is missing.
_MISSING = frozenset(
    {"nan", "null", "none", "inf", "-inf", "na", "n/a", "nat", "<na>", "undefined"}
)


class TooFewKept(Exception):
    """Tells that events were dropped which the order of ids, as it is now known, would keep."""


@dataclass
class Collector:
    """Collects rows part by part.

    Attributes:
        source: Of the file or folder, for errors.
        num_devices: Events of other than the first so many devices are dropped as they come; None
            keeps all.
        is_reversed: Whether the last row is the first event, where times do not tell.
        num_rows: Events so far, dropped ones too.
        num_skipped: Malformed rows so far.
        num_unwanted: Rows of other kinds so far.
        damaged: Words for files that were left out as damaged.
        notes: What there is to say.
    """

    source: str
    num_devices: int | None = None
    is_reversed: bool = False
    num_rows: int = 0
    num_skipped: int = 0
    num_unwanted: int = 0
    damaged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.users, self.items = Book("user"), Book("item")
        self._user: list[NDArray[np.int32]] = []
        self._item: list[NDArray[np.int32]] = []
        self._time: list[NDArray] = []
        self._are_dated: set[bool] = set()
        self._have_times: set[bool] = set()
        self._missing: Counter[str] = Counter()
        self._kept = np.empty(0, np.bool_)
        self._was_numeric = True

    def add(self, rows: Rows) -> None:
        """Adds the rows of a part.

        Raises:
            UserError: If an id is none, or times are numbers here and dates there.
            TooFewKept: If they must be read again without dropping devices.
        """
        self.num_skipped += rows.num_skipped
        self.num_unwanted += rows.num_unwanted
        self.notes += [note for note in rows.notes if note not in self.notes]
        if not len(rows.users):
            return
        user = self.users.codes_of(rows.users, self.source)
        item = self.items.codes_of(rows.items, self.source)
        if len(user) != len(item):
            raise ValueError(f"items must be as many as users ({len(user)}), got {len(item)}")
        self.num_rows += len(user)
        self._have_times.add(rows.times_s is not None)
        times = None if rows.times_s is None else np.asarray(rows.times_s)
        if times is not None:
            self._are_dated.add(rows.is_dated)
            if times.dtype != np.int64:
                times = times.astype(np.float64)
        if self.num_devices is not None:
            kept = self._of_first_devices(user)
            user, item = user[kept], item[kept]
            times = None if times is None else times[kept]
        self._user.append(user)
        self._item.append(item)
        if times is not None:
            self._time.append(times)
        self._check_times()

    def _check_times(self) -> None:
        if len(self._are_dated) > 1 or len(self._have_times) > 1:
            raise UserError(
                f"{self.source}: times must be all numbers or all dates (data.time_unit), got both"
            )

    def _of_first_devices(self, user: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Marks events of devices that may be among the first."""
        assert self.num_devices is not None
        is_numeric = not self.users.texts
        if self._was_numeric and not is_numeric and not self._kept.all():
            raise TooFewKept
        self._was_numeric = is_numeric
        if len(self._kept) < len(self.users):
            self._kept = np.zeros(len(self.users), np.bool_)
            self._kept[list(self.users.first(self.num_devices))] = True
        return self._kept[user]

    def table(self, time_unit: str) -> tuple[EventTable, str]:
        """Makes the table of all that was added, and says its size and the span of its times.

        Args:
            time_unit: As configured.

        Raises:
            UserError: If a time cannot be of the unit of the others.
        """
        user = _joined(self._user)
        item = _joined(self._item)
        self._user, self._item = [], []
        times_s, span = self._seconds(time_unit)
        if self.is_reversed:
            user, item = user[::-1], item[::-1]
            times_s = None if times_s is None else times_s[::-1]
        books = []
        for book, codes in ((self.users, user), (self.items, item)):
            new, notes = book.merge_point_zero()
            self.notes += notes
            books.append((codes if new is None else new[codes], book.names()))
        self._tell_missing()
        table = EventTable.of_codes(books[0], books[1], times_s, self.source, self.num_skipped)
        num_users, num_items = (sum(map(bool, names)) for _, names in books)
        counts = ((self.num_rows, "event"), (num_users, "user"), (num_items, "item"))
        return table, ", ".join([*(counted(*each) for each in counts), span])

    def _seconds(self, time_unit: str) -> tuple[NDArray[np.float64] | None, str]:
        """Turns times into seconds, and says their span."""
        if True not in self._have_times:
            return None, "no times: the order of the rows"
        values = np.concatenate(self._time) if self._time else np.empty(0)
        self._time = []
        if True in self._are_dated:
            return values, span_words(values, "", True) if len(values) else "no times"
        unit = unit_of(values, time_unit)
        times_s = seconds_of(values, unit, self.source)
        if time_unit == "auto" and unit != "s":
            self.notes.append(f"times are taken for {WORDS[unit]} by their size (data.time_unit)")
        return times_s, span_words(times_s, unit, time_unit != "auto") if len(values) else ""

    def _tell_missing(self) -> None:
        for book in (self.users, self.items):
            found = [name for name in book.texts if name.lower() in _MISSING]
            if found:
                self.notes.append(f"{book.kind} {found[0]!r} is read as an id like any other")


def _joined(parts: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate(parts) if parts else np.empty(0, np.int32)
