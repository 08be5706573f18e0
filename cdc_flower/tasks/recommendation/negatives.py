"""Items that a device did not choose, drawn so that anyone who asks for the same event gets the same ones."""

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


def draw_unseen(
    seed: int,
    name: str,
    device_ids: NDArray[np.int64],
    event_index: NDArray[np.int64],
    num_negatives: int,
    catalog: Catalog,
    seen: SeenItems | None,
    exclude: NDArray[np.int32],
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.int32]:
    """Items drawn uniformly among those that the device has not seen, and never the excluded one.

    A pure function of (seed, name, device, event, column), and of what the device has seen. The
    items of one event are drawn independently, so one may come twice. A draw that meets a seen item
    is drawn again, up to 32 times; then it stays, so a device that has seen everything still gets
    negatives.

    Args:
        seed: Of the run.
        name: What the draw is for; another name gives other items.
        device_ids: ``[T]``.
        event_index: ``[T]``, the event's place within its device (not in the table: that would
            depend on the other devices).
        num_negatives: ``N``, columns to draw; 0 gives an empty array.
        catalog: The items that exist; the excluded ones are among them.
        seen: What to avoid; None avoids only the excluded item.
        exclude: ``[T]``, the true item of the event.
        rows: ``[T]``, the row of ``seen`` for each event; ``device_ids`` if None.

    Returns:
        ``[T, N]``.

    Raises:
        ValueError: If there are fewer than two items.
    """
    if catalog.size < 2:
        raise ValueError(f"catalog.size must be >= 2, got {catalog.size}")
    rows = device_ids if rows is None else rows
    columns = np.arange(num_negatives)

    def draw(
        attempt: int,
        device: NDArray[np.int64],
        event: NDArray[np.int64],
        column: NDArray[np.int64],
        true: NDArray,
    ) -> NDArray[np.int32]:
        places = hashed_integers(seed, name, attempt, device, event, column, high=catalog.size - 1)
        places += places >= catalog.place[true]  # steps over the excluded item
        return catalog.items[places]

    drawn = draw(0, device_ids[:, None], event_index[:, None], columns, exclude[:, None])
    if seen is None or drawn.size == 0:
        return drawn
    flat = drawn.reshape(-1)
    bad = np.flatnonzero(seen.contains(rows[:, None], drawn))
    for attempt in range(1, _NUM_ATTEMPTS):
        if len(bad) == 0:
            break
        event = bad // num_negatives
        redrawn = draw(
            attempt, device_ids[event], event_index[event], bad % num_negatives, exclude[event]
        )
        flat[bad] = redrawn
        bad = bad[seen.contains(rows[event], redrawn)]
    return drawn
