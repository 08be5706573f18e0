"""Items that a device did not choose, the same for anyone who asks for the same event."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.seeds import hashed_bits, hashed_integers
from cdc_flower.tasks.recommendation.catalog import Catalog
from cdc_flower.tasks.recommendation.seen import SeenItems

#: Times that columns are drawn for, before all items are put in order instead.
_NUM_ATTEMPTS = 32
#: Up to so many items a negative, all items are put in order at once.
_DENSE = 2
#: From so many items a negative on, entries of a table are cleared one by one.
_SPARSE = 32
#: Numbers held in memory at a time.
_NUMBERS_PER_CHUNK = 1_000_000
#: Events at a time where there are many items, up to so many numbers.
_LEAST_EVENTS_PER_CHUNK = 128
_MOST_NUMBERS = 32_000_000
_MOST_ORDERED = 8_000_000


@dataclass(frozen=True)
class RankedEvents:
    """Events of which each gets negatives of its own.

    Attributes:
        seed: Of the run.
        purpose: Of the draw; another one gives other items.
        device_ids: ``[T]``.
        index: ``[T]``, the event's place within its device (not in the table: that would depend on
            the other devices).
        true: ``[T]``, the item that is never drawn.
        rows: ``[T]``, the row of each event in what devices have seen; None: ``device_ids``.
    """

    seed: int
    purpose: str
    device_ids: NDArray[np.int64]
    index: NDArray[np.int64]
    true: NDArray[np.int32]
    rows: NDArray[np.int64] | None = None

    def draw(
        self, attempt: int, which: NDArray[np.int64], column: NDArray[np.integer], catalog: Catalog
    ) -> NDArray[np.int32]:
        """Draws an item for each of some events, evenly from a catalog but for the true item.

        Args:
            attempt: Another one gives another item.
            which: Events, broadcast with the columns.
            column: Of the negative.
            catalog: The items that exist.
        """
        device, place = self.device_ids[which], self.index[which]
        size = catalog.size - 1
        drawn = hashed_integers(self.seed, self.purpose, attempt, device, place, column, high=size)
        drawn += drawn >= catalog.place[self.true[which]]  # steps over the true item
        return catalog.items[drawn]


def draw_unseen(
    events: RankedEvents, num_negatives: int, catalog: Catalog, seen: SeenItems | None
) -> NDArray[np.int32]:
    """Draws items evenly among those that the device has not seen, none twice, never the true one.

    A pure function of (seed, purpose, device, event, count), and of what the device has seen. Every
    order of as many unseen items is equally likely: whatever is drawn again, or drawn from a list
    in random order, treats all unseen items alike. Where a device has seen so much that too few are
    left, seen ones follow behind the unseen; an item comes twice only where the catalog has no
    more.

    Args:
        events: ``T`` of them.
        num_negatives: ``N``, columns to draw; 0 gives an empty array.
        catalog: The items that exist; the true ones are among them.
        seen: What to avoid; None avoids only the true item.

    Returns:
        ``[T, N]``.

    Raises:
        ValueError: If there are fewer than two items.
    """
    if catalog.size < 2:
        raise ValueError(f"catalog.size must be >= 2, got {catalog.size}")
    count = len(events.device_ids)
    drawn = np.empty((count, num_negatives), np.int32)
    if not drawn.size:
        return drawn
    left = np.arange(count)
    width = len(catalog.place)
    size = max(1, _NUMBERS_PER_CHUNK // width, min(_LEAST_EVENTS_PER_CHUNK, _MOST_NUMBERS // width))
    if catalog.size > _DENSE * num_negatives:
        again = _Again(events, num_negatives, catalog, seen)
        parts = [again.draw(left[start : start + size], drawn) for start in range(0, count, size)]
        left = np.concatenate(parts)
    size = max(1, min(size, _MOST_ORDERED // width))
    for start in range(0, len(left), size):
        rows = left[start : start + size]
        drawn[rows] = _shuffled(events, rows, num_negatives, catalog, seen)
    return drawn


class _Again:
    """Draws items evenly, and those anew that are seen or there already, some times.

    Args:
        events: Of which some are drawn for at a time.
        num_negatives: ``N``, at least 1.
        catalog: The items that exist.
        seen: What to avoid.
    """

    def __init__(
        self, events: RankedEvents, num_negatives: int, catalog: Catalog, seen: SeenItems | None
    ) -> None:
        self.events, self.catalog, self.seen = events, catalog, seen
        kind = np.int16 if num_negatives < 2**15 else np.int32
        self.columns: NDArray[np.integer] = np.arange(num_negatives).astype(kind)
        self.rows = events.device_ids if events.rows is None else events.rows
        self.width = len(catalog.place)
        #: Which column of an event has an item: an entry for each event of a chunk and item.
        self.owner = np.empty(0, self.columns.dtype)

    def draw(self, which: NDArray[np.int64], drawn: NDArray[np.int32]) -> NDArray[np.int64]:
        """Fills the rows of some events ``[m]``; returns those that have not enough at the end.

        Args:
            which: ``[m]``, consecutive.
            drawn: ``[T, N]``, of all events.
        """
        self.chunk_rows = self.rows[which]
        items = drawn[which[0] : which[-1] + 1]
        if len(self.owner) < len(which) * self.width:
            self.owner = np.full(len(which) * self.width, -1, self.columns.dtype)
        items[:] = self.events.draw(0, which[:, None], self.columns, self.catalog)
        place = np.arange(0, len(which) * self.width, self.width)[:, None] + items
        self.owner[place] = self.columns  # of equal items in a row the last column has it
        missed = self.owner[place] != self.columns
        if self.seen is not None:
            missed |= self.seen.contains(self.chunk_rows[:, None], items)
        event, column = np.divmod(np.flatnonzero(missed), len(self.columns))
        for attempt in range(1, _NUM_ATTEMPTS):
            if not len(event):
                break
            new = self.events.draw(attempt, which[event], column, self.catalog)
            is_free = self._settle(event, column, new)
            items[event[is_free], column[is_free]] = new[is_free]
            event, column = event[~is_free], column[~is_free]
        if self.width > _SPARSE * len(self.columns):  # few entries were written to
            self.owner[place] = -1
            self.owner[np.arange(len(which))[:, None] * self.width + items] = -1
        else:
            self.owner.fill(-1)
        return which[np.unique(event)]

    def _settle(
        self, event: NDArray[np.int64], column: NDArray[np.int64], new: NDArray[np.int32]
    ) -> NDArray[np.bool_]:
        """Gives each new item to the last column that asks, if it has no owner and is unseen.

        Args:
            event: ``[w]``, ascending.
            column: ``[w]``, ascending within an event.
            new: ``[w]``.
        """
        place = event * self.width + new
        is_free = self.owner[place] < 0
        if self.seen is not None:
            is_free &= ~self.seen.contains(self.chunk_rows[event], new)
        asked = np.flatnonzero(is_free)
        self.owner[place[asked]] = column[asked]
        is_free[asked] = self.owner[place[asked]] == column[asked]
        return is_free


def _shuffled(
    events: RankedEvents,
    which: NDArray[np.int64],
    num_negatives: int,
    catalog: Catalog,
    seen: SeenItems | None,
) -> NDArray[np.int32]:
    """Takes the first ``[m, N]`` of all items in random order, unseen ones before seen ones.

    Args:
        events: Of which some are drawn for.
        which: ``[m]``, those.
        num_negatives: ``N``; items come again where the catalog has fewer others than that.
        catalog: The items that exist.
        seen: What comes last.
    """
    rows = events.device_ids if events.rows is None else events.rows
    items = catalog.items[: catalog.size]
    device, place = events.device_ids[which][:, None], events.index[which][:, None]
    keys = hashed_bits(events.seed, f"{events.purpose}/order", device, place, items)
    keys >>= np.uint64(2)
    if seen is not None:
        keys |= seen.contains(rows[which][:, None], items).astype(np.uint64) << np.uint64(62)
    keys[np.arange(len(which)), catalog.place[events.true[which]]] = np.uint64(2**64 - 1)
    order = np.argsort(keys, axis=1, kind="stable")[:, : catalog.size - 1]
    return items[order[:, np.arange(num_negatives) % (catalog.size - 1)]]
