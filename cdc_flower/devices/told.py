"""Says which items of its log a device tells: how many, and how far apart.

Without settings they are those that the device model reads, so a stream without a log that goes
further back serves as well.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cdc_flower.wire import records


class Log(Protocol):
    """A stream, as far as it tells recent items; see :class:`~cdc_flower.core.stream.Stream`."""

    history_length: int

    @property
    def recent(self) -> Callable[..., NDArray[np.int32]]:
        """Gives the last items before a segment."""


class PastLog(Protocol):
    """Historical data, as far as they tell items that were recent once."""

    @property
    def lagged(self) -> Callable[..., NDArray[np.int32]]:
        """Gives the items before examples, some events earlier."""


@dataclass(frozen=True)
class Told:
    """The part of its log that a device tells.

    Attributes:
        length: R, items that are told; None: as many as the device model reads.
        stride: Events from one of them to the next, counted back from the newest; 1 leaves none
            out.
    """

    length: int | None = None
    stride: int = 1

    @staticmethod
    def from_settings(settings: Mapping[str, object]) -> "Told":
        """Reads what was deployed beside the model."""
        length = settings.get(records.REPORT_LENGTH)
        stride = settings.get(records.REPORT_STRIDE, 1)
        return Told(None if length is None else int(str(length)), int(str(stride)))

    def to_settings(self) -> dict[str, bool | int | float | str]:
        """Lists what is deployed; nothing for what the device model reads."""
        length = {} if self.length is None else {records.REPORT_LENGTH: self.length}
        return {**length, **({records.REPORT_STRIDE: self.stride} if self.stride > 1 else {})}

    def num_items(self, history_length: int) -> int:
        """Counts the items of a report of a device whose model reads so many."""
        return history_length if self.length is None else self.length

    def is_read(self, history_length: int) -> bool:
        """Tells whether they are the items that a device model of this length reads."""
        return self.stride == 1 and self.num_items(history_length) == history_length

    def recent(
        self, stream: Log, device_ids: NDArray[np.int64], segment: int, lag: int
    ) -> NDArray[np.int32]:
        """Takes the items ``[n, R]`` that devices tell, oldest first, padded on the right with 0.

        Args:
            stream: Of the devices.
            device_ids: ``[n]``.
            segment: Which one starts.
            lag: Events by which the report is earlier; 0 is the present.
        """
        if self.is_read(stream.history_length):
            return stream.recent(device_ids, segment, lag)
        length = self.num_items(stream.history_length)
        return stream.recent(device_ids, segment, lag, length, self.stride)

    def lagged(
        self,
        history: PastLog,
        rows: NDArray[np.int64],
        lag: NDArray[np.int64],
        history_length: int,
    ) -> NDArray[np.int32]:
        """Takes the items ``[B, R]`` that devices would have told before historical examples.

        Args:
            history: Of the examples.
            rows: ``[B]``, which examples.
            lag: ``[B]``, events by which the report is earlier.
            history_length: Items that the device model reads.
        """
        if self.is_read(history_length):
            return history.lagged(rows, lag)
        return history.lagged(rows, lag, self.num_items(history_length), self.stride)


def events_told(items: NDArray[np.int32] | None, num_devices: int = 0) -> NDArray[np.int64]:
    """Counts the events ``[n]`` that reports tell of.

    Args:
        items: ``[n, R]``, padded with 0; None for reports of something else, such as the clip of an
            event: each tells of one.
        num_devices: ``n``, where there are no items.
    """
    if items is None or items.ndim != 2:
        return np.ones(num_devices, np.int64)
    return np.count_nonzero(items, axis=1).astype(np.int64)
