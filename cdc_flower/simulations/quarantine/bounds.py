"""Knows of replies beforehand how many events there were and which ids there are."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.stream import Stream
from cdc_flower.tasks.protocol import Bounds, Task

Ints = NDArray[np.int64]

#: Examples, labels or events of a device in one message; more are absurd.
LARGEST_COUNT = 2**31 - 1
#: Floating-point operations of a device for one message: thirty years of a phone.
LARGEST_FLOPS = 1e18


@dataclass(frozen=True)
class Known:
    """Knows the data of a run as far as a reply can be held against them.

    Attributes:
        task: Of the devices.
        bounds: Of ids and metrics.
        stream: Counts the events of devices; None: counts have no bound but the largest.
    """

    task: Task | None = None
    bounds: Bounds = field(default_factory=Bounds)
    stream: Stream | None = None

    @staticmethod
    def of(task: Task, stream: Stream) -> "Known":
        """Asks a task what it knows of its data."""
        return Known(task, task.bounds(stream), stream)

    def can_be_read(self, key: str, runs: NDArray) -> NDArray[np.bool_]:
        """Tells which runs of bytes ``[n, L]`` in reports are what they must be.

        Args:
            key: Of the report.
            runs: Of ``n`` devices.
        """
        if self.task is None or self.stream is None:
            return np.ones(len(runs), np.bool_)
        return self.task.can_be_read(self.stream, key, runs)

    def num_events(self, device_ids: Ints, segment: int) -> Ints:
        """Counts the events ``[k]`` that devices can be scored on in a segment."""
        count = getattr(self.stream, "num_events", None)
        if count is None:
            return np.full(len(device_ids), LARGEST_COUNT)
        return np.asarray(count(device_ids, segment), np.int64)
