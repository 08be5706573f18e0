"""Items that a device did not choose, the same for anyone who asks for the same event."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.seeds import hashed_integers
from cdc_flower.tasks.recommendation.catalog import Catalog

_NUM_ATTEMPTS = 32


@dataclass(frozen=True)
class SeenItems:
    """Which items each device has interacted with, one bit for each.

    Attributes:
        bits: ``[num_rows, ceil((num_items + 1) / 8)]``, uint8; item ``i`` is bit ``i % 8`` of byte
            ``i // 8``.
    """

    bits: NDArray[np.uint8]

    @classmethod
    def of(
        cls, rows: NDArray[np.int64], items: NDArray[np.int32], num_rows: int, num_items: int
    ) -> "SeenItems":
        """Set one bit for each (row, item).

        Args:
            rows: ``[M]``, the device's row of each event.
            items: ``[M]``, in 1..num_items.
            num_rows: How many rows.
            num_items: The largest item id.
        """
        width = num_items // 8 + 1
        bits = np.zeros(num_rows * width, dtype=np.uint8)
        masks = np.left_shift(np.uint8(1), (items & 7).astype(np.uint8))
        np.bitwise_or.at(bits, np.asarray(rows, dtype=np.int64) * width + (items >> 3), masks)
        return cls(bits.reshape(num_rows, width))

    def contains(self, rows: NDArray[np.int64], items: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether the row has seen the item; both broadcast together."""
        places = rows * self.bits.shape[1] + (items >> 3)
        found = np.take(self.bits.reshape(-1), places)
        return ((found >> (items & 7).astype(np.uint8)) & np.uint8(1)).astype(np.bool_)


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
        self, attempt: int, which: NDArray[np.int64], column: NDArray[np.int64], catalog: Catalog
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
    """Draws items evenly among those that the device has not seen, and never the true one.

    A pure function of (seed, purpose, device, event, column), and of what the device has seen. The
    items of one event are drawn independently, so one may come twice. A draw that meets a seen item
    is drawn again, up to 32 times; then it stays, so a device that has seen everything still gets
    negatives.

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
    rows = events.device_ids if events.rows is None else events.rows
    every = np.arange(len(events.device_ids))[:, None]
    drawn = events.draw(0, every, np.arange(num_negatives), catalog)
    if seen is None or drawn.size == 0:
        return drawn
    flat = drawn.reshape(-1)
    bad = np.flatnonzero(seen.contains(rows[:, None], drawn))
    for attempt in range(1, _NUM_ATTEMPTS):
        if len(bad) == 0:
            break
        event = bad // num_negatives
        redrawn = events.draw(attempt, event, bad % num_negatives, catalog)
        flat[bad] = redrawn
        bad = bad[seen.contains(rows[event], redrawn)]
    return drawn
