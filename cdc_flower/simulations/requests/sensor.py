"""What a device knows of its own data without a label: how its recent items look in the deployed embedding."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cdc_flower.segment import Stream

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
#: Weight of the past in the running mean that a new item is compared with.
MEMORY = 0.9


class Sensor(Protocol):
    """Statistics of devices before a segment starts."""

    def pooled(self, device_ids: Ints, segment: int) -> NDArray[np.float32]:
        """``[k, d]``, the mean of each device's recent data."""

    def surprises(self, device_ids: Ints, segment: int) -> list[list[float]]:
        """For each device what is new since the segment before: how far each thing is from those before it."""


class HistorySensor:
    """The recent items of devices.

    Args:
        stream: The devices' data.
        embedding: ``[num_items + 1, d]``, of the deployed model.
    """

    def __init__(self, stream: Stream, embedding: NDArray[np.float32]) -> None:
        self.stream, self.embedding = stream, embedding
        norms = np.linalg.norm(embedding, axis=1, keepdims=True)
        self._directions = embedding / np.where(norms > 0, norms, 1)
        self._running: dict[int, Floats] = {}

    def pooled(self, device_ids: Ints, segment: int) -> NDArray[np.float32]:
        """The mean embedding of the items in each history; padding does not count."""
        return pool(self.embedding, self.stream.recent(device_ids, segment))

    def surprises(self, device_ids: Ints, segment: int) -> list[list[float]]:
        """1 − cosine of each new item and the running mean of those before it. At most a history's length is known."""
        recent = self.stream.recent(device_ids, segment)
        num_new = self.stream.num_events(device_ids, segment - 1) if segment else (recent != 0).sum(1)
        out = []
        for device, items, new in zip(device_ids.tolist(), recent, num_new.tolist(), strict=True):
            known = items[items != 0]
            values, mean = [], self._running.get(device)
            for item in known[max(0, len(known) - new) :]:
                direction = self._directions[item]
                if mean is None:
                    mean = direction
                norm = float(np.linalg.norm(mean))
                values.append(1.0 - float(direction @ mean) / norm if norm > 0 else 0.0)
                mean = MEMORY * mean + (1 - MEMORY) * direction
            if mean is not None:
                self._running[device] = mean
            out.append(values)
        return out


def pool(embedding: NDArray[np.float32], history: NDArray[np.int32]) -> NDArray[np.float32]:
    """Histories ``[B, L]`` -> mean embeddings of their items ``[B, d]``; zeros for an empty one."""
    counts = (history != 0).sum(1)
    total = np.where((history != 0)[..., None], embedding[history], 0).sum(1)
    return np.asarray(total / np.maximum(counts, 1)[:, None], np.float32)
