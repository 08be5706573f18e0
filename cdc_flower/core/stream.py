"""Holds what devices see between two decision points, and the truth that metrics read.

Devices have different numbers of events, so a batch is flat: ``T`` events of ``n`` devices in a
row, sorted by device, with the row of the device beside each event. ``L`` is the length of a
history and ``C`` the number of candidates, of which one is what the user really chose.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class TruthAccessError(Exception):
    """Reports that something other than a metric, or a baseline that pays, asked for the truth."""


class TruthReader:
    """Marks who may read truth: metrics, and the label counter of a baseline.

    Such a baseline pays for each label.
    """


class Truth:
    """Locks the choice at each event and the hidden context of each device for all but readers.

    Args:
        positive: ``[T]``, which column of the candidates the user chose.
        context_id: ``[n]``, the hidden state that generates the segment; -1 where nobody knows.
        is_shift: ``[n]``, whether the context differs from that of the segment before.
    """

    __slots__ = ("_context_id", "_is_shift", "_positive")

    def __init__(
        self,
        positive: NDArray[np.int64],
        context_id: NDArray[np.int64],
        is_shift: NDArray[np.bool_],
    ) -> None:
        self._positive = positive
        self._context_id = context_id
        self._is_shift = is_shift

    def read(
        self, reader: TruthReader
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Returns the positive column ``[T]``, the context ``[n]`` and whether it is new ``[n]``.

        Raises:
            TruthAccessError: If the reader is not a :class:`TruthReader`.
        """
        if not isinstance(reader, TruthReader):
            raise TruthAccessError(
                f"truth is for metrics only, and {type(reader).__name__} is none"
            )
        return self._positive, self._context_id, self._is_shift

    def __getattr__(self, name: str) -> object:
        raise TruthAccessError(f"truth.{name} is hidden; a metric reads it with truth.read(reader)")


@dataclass(frozen=True)
class SegmentBatch:
    """Holds the events of one segment on ``n`` devices.

    Attributes:
        device_ids: ``[n]``.
        num_events: ``[n]``, events of each device; they sum to ``T``.
        row: ``[T]``, the position of the event's device in ``device_ids``, ascending.
        slot: ``[T]``, 0, 1, ... within each device.
        history: ``[T, L]``, the items before each event, oldest first, padded on the right with 0.
        candidates: ``[T, C]``, items to be ranked; which one is true is in ``truth``.
        times_s: ``[T]``, virtual time of each event in seconds.
        truth: See :class:`Truth`.
    """

    device_ids: NDArray[np.int64]
    num_events: NDArray[np.int64]
    row: NDArray[np.int64]
    slot: NDArray[np.int64]
    history: NDArray[np.int32]
    candidates: NDArray[np.int32]
    times_s: NDArray[np.float64]
    truth: Truth


@dataclass(frozen=True)
class LabelledBatch:
    """Holds labelled examples of what devices have seen. Each row costs one label.

    Attributes:
        num_examples: ``[n]``; they sum to ``T``.
        row: ``[T]``, ascending; ``slot``: ``[T]``, within each device.
        history: ``[T, L]``; ``candidates``: ``[T, 1 + num_negatives]``, the true one **first**.
    """

    num_examples: NDArray[np.int64]
    row: NDArray[np.int64]
    slot: NDArray[np.int64]
    history: NDArray[np.int32]
    candidates: NDArray[np.int32]


class Stream(Protocol):
    """Gives the data of every device in time.

    The same calls give the same arrays, whatever their number and order.
    """

    num_devices: int
    num_items: int  # item ids are 1..num_items; 0 is padding
    num_segments: int
    history_length: int
    segment_starts_s: NDArray[np.float64]  # [num_segments + 1], virtual time of the decision points

    def segment(self, device_ids: NDArray[np.int64], segment: int) -> SegmentBatch:
        """Gives the events of segment 0, 1, ... on these devices."""

    def num_events(self, device_ids: NDArray[np.int64], segment: int) -> NDArray[np.int64]:
        """Counts the events ``[n]`` of each of these devices in the segment."""

    def recent(
        self, device_ids: NDArray[np.int64], segment: int, lag: int = 0
    ) -> NDArray[np.int32]:
        """Gives the last items ``[n, L]`` before the segment starts, oldest first, padded with 0.

        Padding is on the right.

        Args:
            device_ids: ``[n]``.
            segment: Which one starts, from 0.
            lag: Events by which the items are earlier, at the earliest when the device had one
                event. 0 is the present.

        A stream whose log goes further back takes two more arguments, by which devices tell other
        items than those that their model reads: ``length``, how many, and ``stride``, events from
        one to the next.
        """

    def labelled(
        self,
        reader: TruthReader,
        device_ids: NDArray[np.int64],
        segment: int,
        max_examples: int,
        num_negatives: int,
    ) -> LabelledBatch:
        """Gives the newest examples from before the segment starts.

        Args:
            reader: Of the labels, which it pays for.
            device_ids: ``[n]``.
            segment: Which one starts, from 0.
            max_examples: At most so many a device.
            num_negatives: Other candidates for each example.
        """
