"""Tells which items exist at a moment: those that some device has chosen by then.

An item that first appears in the future is no negative of the past. If it were, a model would learn
from a thousand draws that nobody ever wants it, and a scored event would come with candidates that
no system could have shown.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Catalog:
    """Holds items in the order of their first appearance.

    Attributes:
        items: ``[num_items]``, those that appear first first; items that never appear come last.
        place: ``[num_items + 1]``, where each item stands among them; of no meaning for the
            padding.
        size: How many of them exist.
    """

    items: NDArray[np.int32]
    place: NDArray[np.int64]
    size: int

    @staticmethod
    def whole(num_items: int) -> "Catalog":
        """Makes the catalog of every item 1..num_items."""
        return Catalog(
            np.arange(1, num_items + 1, dtype=np.int32), np.arange(-1, num_items), num_items
        )


def catalogs(
    offsets: NDArray[np.int64], items: NDArray[np.int32], bounds: NDArray[np.int64], num_items: int
) -> list[Catalog]:
    """Finds the items that exist at each decision point: the cut, then the end of each segment.

    Args:
        offsets: ``[num_devices + 1]``.
        items: ``[num_events]``.
        bounds: ``[num_devices, num_segments + 1]``; see :mod:`cdc_flower.tasks.cut`.
        num_items: The largest item id.

    Returns:
        ``num_segments + 1`` catalogs, each holding the one before it. Each has at least two items.
    """
    num_points = bounds.shape[1]
    ends = np.concatenate([offsets[:-1, None], bounds, offsets[1:, None]], axis=1)
    point = np.repeat(
        np.tile(np.arange(num_points + 1), len(bounds)), np.diff(ends, axis=1).reshape(-1)
    )
    first = np.full(num_items + 1, num_points + 1)
    np.minimum.at(first, items, point)
    order = np.argsort(first[1:], kind="stable")
    place = np.full(num_items + 1, -1)
    place[order + 1] = np.arange(num_items)
    sizes = np.searchsorted(first[1:][order], np.arange(num_points), side="right")
    return [Catalog((order + 1).astype(np.int32), place, max(2, int(size))) for size in sizes]
