"""Declares the shapes of events of which streams are made."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Events(Protocol):
    """Holds events sorted by device and then by time."""

    @property
    def offsets(self) -> NDArray[np.int64]:
        """``[num_devices + 1]``, where the events of each device start."""

    @property
    def items(self) -> NDArray[np.int32]:
        """``[num_events]``, in 1..num_items."""

    @property
    def num_items(self) -> int:
        """Gives the largest item id."""


class TimedEvents(Events, Protocol):
    """Holds events that were read from a source, and may know times."""

    @property
    def times_s(self) -> NDArray[np.float64] | None:
        """``[num_events]``, or None if only the order is known."""

    @property
    def source(self) -> str:
        """Says where the events come from, for errors."""
