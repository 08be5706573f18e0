"""Remembers the items that each device has chosen, in memory that follows the events."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: A bit for each device and item, if that is at most so many bytes an event.
_BYTES_PER_EVENT = 8
_SMALL_BYTES = 2**20
#: Bits of the sieve for each event: of pairs that are not there one in so many passes.
_BITS_PER_EVENT = 16
#: Odd, and without pattern: the highest bits of a product with it are spread evenly.
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class SeenItems:
    """Tells which items each device has interacted with.

    Small tables have a bit for each pair of device and item. Large ones have a sieve, which lets
    all pairs that are there pass and one of sixteen others, and the sorted pairs themselves.

    Attributes:
        bits: ``[num_rows, ceil((num_items + 1) / 8)]``, uint8; item ``i`` is bit ``i % 8`` of byte
            ``i // 8``. With pairs: the sieve, flat.
        pairs: ``[P]``, row x width + item, ascending; None where bits are exact.
        width: Of a row of pairs.
    """

    bits: NDArray[np.uint8]
    pairs: NDArray[np.int64] | None = None
    width: int = 0

    @classmethod
    def of(
        cls, rows: NDArray[np.int64], items: NDArray[np.int32], num_rows: int, num_items: int
    ) -> "SeenItems":
        """Takes the items of each row.

        Args:
            rows: ``[M]``, the device's row of each event.
            items: ``[M]``, in 1..num_items.
            num_rows: How many rows.
            num_items: The largest item id.
        """
        width = num_items // 8 + 1
        if num_rows * width <= max(_SMALL_BYTES, _BYTES_PER_EVENT * len(items)):
            bits = np.zeros(num_rows * width, dtype=np.uint8)
            masks = np.left_shift(np.uint8(1), (items & 7).astype(np.uint8))
            np.bitwise_or.at(bits, np.asarray(rows, dtype=np.int64) * width + (items >> 3), masks)
            return cls(bits.reshape(num_rows, width))
        pairs = np.unique(np.asarray(rows, np.int64) * (num_items + 1) + items)
        size = 2 ** int(np.ceil(np.log2(max(_BITS_PER_EVENT * len(pairs), 8))))
        places = _hashed(pairs, size)
        bits = np.zeros(size // 8, np.uint8)
        masks = np.left_shift(np.uint8(1), (places & 7).astype(np.uint8))
        np.bitwise_or.at(bits, places >> 3, masks)
        return cls(bits, pairs, num_items + 1)

    def contains(self, rows: NDArray[np.int64], items: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Tells whether the row has seen the item; both broadcast together."""
        if self.pairs is None:
            return _bit(self.bits, rows * self.bits.shape[1] + (items >> 3), items)
        pairs = np.asarray(rows * np.int64(self.width) + items)
        places = _hashed(pairs, len(self.bits) * 8)
        found = np.asarray(_bit(self.bits, places >> 3, places))
        maybe = np.flatnonzero(found)
        asked = pairs.reshape(-1)[maybe]
        at = np.minimum(np.searchsorted(self.pairs, asked), len(self.pairs) - 1)
        found.reshape(-1)[maybe] = self.pairs[at] == asked
        return found


def _bit(
    bits: NDArray[np.uint8], places: NDArray[np.int64], numbers: NDArray[np.integer]
) -> NDArray[np.bool_]:
    """Reads bits: of the bytes at these places those of the last three digits of the numbers."""
    found = np.take(bits.reshape(-1), places)
    return ((found >> (numbers & 7).astype(np.uint8)) & np.uint8(1)).astype(np.bool_)


def _hashed(pairs: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Spreads pairs over places 0..size - 1, where size is a power of two."""
    shift = np.uint64(64 - (size.bit_length() - 1))
    return ((pairs.astype(np.uint64) * _FACTOR) >> shift).astype(np.int64)


def short_of_unseen(
    rows: NDArray[np.int64], place: NDArray[np.int64], sizes: NDArray[np.int64], wanted: int
) -> NDArray[np.bool_]:
    """Marks rows that at some moment have fewer unseen items than are wanted, ``[num_rows]``.

    Args:
        rows: ``[M]``, the row of each event.
        place: ``[M]``, where the item of each event stands in the catalog, which grows.
        sizes: ``[num_rows, S]``, of the catalog at the moments of each row; 0 where it has none.
        wanted: Unseen items.
    """
    num_rows = len(sizes)
    short = np.zeros(num_rows, np.bool_)
    might = np.bincount(rows, minlength=num_rows) > np.max(sizes, axis=1, initial=0) - wanted
    might |= (np.where(sizes > 0, sizes, np.iinfo(np.int64).max) - wanted).min(
        axis=1
    ) < np.bincount(rows, minlength=num_rows)
    chosen = might[rows]
    width = int(place.max(initial=0)) + 1
    pairs = np.unique(rows[chosen] * width + place[chosen])
    row, at = np.divmod(pairs, width)
    for size in sizes.T:
        num_seen = np.bincount(row[at < size[row]], minlength=num_rows)
        short |= (size > 0) & (size - num_seen < wanted) & might
    return short
