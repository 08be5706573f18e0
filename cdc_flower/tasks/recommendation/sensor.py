"""Statistics that a device keeps of its recent items: how they look to the deployed model."""

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.saveable import Arrays, Saved
from cdc_flower.core.stream import Stream
from cdc_flower.tasks.sensing import Ints, Past, directions


class HistorySensor:
    """Compares the recent items of devices with those before them.

    Args:
        stream: The devices' data.
        embedding: ``[num_items + 1, d]``, of the deployed model.
    """

    def __init__(self, stream: Stream, embedding: NDArray[np.float32]) -> None:
        self.stream, self.embedding = stream, embedding
        self._directions = directions(embedding)
        self._past = Past()

    def pooled(self, device_ids: Ints, segment: int) -> NDArray[np.float32]:
        """Takes the mean embedding of the items in each history; padding does not count."""
        return pool(self.embedding, self.stream.recent(device_ids, segment))

    def surprises(self, device_ids: Ints, segment: int) -> list[list[float]]:
        """Measures 1 − cosine of each new item and the running mean of those before it.

        At most a history's length is known.
        """
        recent = self.stream.recent(device_ids, segment)
        num_new = (
            self.stream.num_events(device_ids, segment - 1) if segment else (recent != 0).sum(1)
        )
        out = []
        for device, items, new in zip(device_ids.tolist(), recent, num_new.tolist(), strict=True):
            known = items[items != 0]
            out.append(
                self._past.surprises(device, self._directions[known[max(0, len(known) - new) :]])
            )
        return out

    def to_arrays(self) -> Arrays:
        """Takes the running means."""
        return self._past.to_arrays()

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on from saved running means."""
        self._past.from_arrays(arrays)


def pool(embedding: NDArray[np.float32], history: NDArray[np.int32]) -> NDArray[np.float32]:
    """Takes the mean embedding ``[B, d]`` of histories ``[B, L]``; zeros for an empty one."""
    counts = (history != 0).sum(1)
    total = np.where((history != 0)[..., None], embedding[history], 0).sum(1)
    return np.asarray(total / np.maximum(counts, 1)[:, None], np.float32)
