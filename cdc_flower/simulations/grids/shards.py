"""Shards: fixed parts of the devices, of which a worker plays one at a time.

Products of other sizes add up in another order, so a table depends on the sizes of shards in its
last bits. It does not depend on who plays them.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

#: A shard's number, the places ``[k]`` of its messages in a batch, and their rows in the shard.
Part = tuple[int, NDArray[np.int64], NDArray[np.int64]]


class Shards:
    """Splits devices into shards of neighbors.

    Args:
        num_devices: Of the grid.
        shard_devices: How many devices a shard has; the last may have fewer. None: as many shards
            of equal size as ``num_workers``.
        num_workers: Of the grid.

    Raises:
        ValueError: If ``shard_devices < 1``.
    """

    def __init__(
        self, num_devices: int, shard_devices: int | None = None, num_workers: int = 1
    ) -> None:
        if shard_devices is not None and shard_devices < 1:
            raise ValueError(f"shard_devices must be >= 1, got {shard_devices}")
        rows = np.arange(num_devices)
        self.rows: list[NDArray[np.int64]] = (
            np.array_split(rows, min(num_devices, num_workers))  # more would cost a task each
            if shard_devices is None
            else np.split(rows, range(shard_devices, num_devices, shard_devices))
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Counts the devices of each shard."""
        return np.array([len(rows) for rows in self.rows])

    def parts(self, rows: NDArray[np.int64]) -> Iterator[Part]:
        """Finds the shards that have some of these devices ``[k]``, which may be in any order."""
        for number, shard in enumerate(self.rows):
            place = np.flatnonzero((rows >= shard[0]) & (rows <= shard[-1]))
            if len(place):
                yield number, place, rows[place] - shard[0]
