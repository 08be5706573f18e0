"""The labelled past of all devices, which the cloud holds and learns from before the stream starts.

An example is one event and the items before it. Examples of a device are contiguous and in time
order, and windows are made when they are asked for: for a million events they would take ten times
the memory of the events.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.seeds import generator, hashed_bits
from cdc_flower.tasks.cut import flat_ranges, windows
from cdc_flower.tasks.recommendation.catalog import Catalog
from cdc_flower.tasks.recommendation.negatives import RankedEvents, draw_unseen
from cdc_flower.tasks.recommendation.seen import SeenItems


@dataclass(frozen=True)
class HistoricalBatch:
    """Holds some examples of the historical part.

    Attributes:
        rows: ``[B]``, which examples.
        history: ``[B, L]``, oldest first, padded on the right with 0.
        candidates: ``[B, 1 + num_negatives]``, the true one first.
        device: ``[B]``, the id of the device.
    """

    rows: NDArray[np.int64]
    history: NDArray[np.int32]
    candidates: NDArray[np.int32]
    device: NDArray[np.int64]


@dataclass(frozen=True)
class HistoricalData:
    """Holds historical events of ``n`` devices, and the ``M`` training examples in them.

    The first event of a device has no past and is no example. A part that is held out may have
    events that are no examples, but only the past of those that are.

    Attributes:
        device_ids: ``[n]``, ids in the stream.
        offsets: ``[n + 1]``, where the events of each device start.
        items: ``[num_events]``.
        num_items: The largest item id.
        history_length: ``L``.
        exclude_seen: Whether negatives avoid what the device has in this part. The cloud does not
            know its future.
        catalog: The items that exist at the cut, from which negatives are drawn; None for all.
        first_example: ``[n]``, which event of each device, counted from 0, is its first example;
            None for 1.
        events_per_segment: Median number of events of a device in a segment, as far as this part
            tells; 0 where it does not.

    Raises:
        ValueError: If a first example has nothing before it.
    """

    device_ids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    num_items: int
    history_length: int
    exclude_seen: bool = True
    catalog: Catalog | None = None
    first_example: NDArray[np.int64] | None = None
    events_per_segment: int = 0

    def __post_init__(self) -> None:
        """Check that every example has a past."""
        if self.first_example is not None and np.any(self.first_example < 1):
            raise ValueError(f"first_example must be >= 1, got {np.min(self.first_example)}")

    @property
    def num_devices(self) -> int:
        """Counts the devices, with or without examples."""
        return len(self.device_ids)

    @property
    def num_examples(self) -> int:
        """``M``."""
        return len(self._index)

    @cached_property
    def _rows_of_examples(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        first = 1 if self.first_example is None else self.first_example
        place, _, index = flat_ranges(self.offsets[:-1] + first, self.offsets[1:])
        return place, index

    @property
    def _place(self) -> NDArray[np.int64]:
        """``[M]``, the position of each example's device in ``device_ids``."""
        return self._rows_of_examples[0]

    @property
    def _index(self) -> NDArray[np.int64]:
        """``[M]``, the event of each example."""
        return self._rows_of_examples[1]

    @cached_property
    def device(self) -> NDArray[np.int64]:
        """``[M]``, the id of each example's device."""
        return self.device_ids[self._place]

    @cached_property
    def target(self) -> NDArray[np.int32]:
        """``[M]``, the item chosen."""
        return self.items[self._index]

    @cached_property
    def _seen(self) -> SeenItems | None:
        if not self.exclude_seen:
            return None
        rows = np.repeat(np.arange(self.num_devices), np.diff(self.offsets))
        return SeenItems.of(rows, self.items, self.num_devices, self.num_items)

    def history(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.int32]:
        """``[B, L]``: the items before these examples; before all of them if None."""
        rows = np.arange(self.num_examples) if rows is None else rows
        return self.lagged(rows, np.zeros(len(rows), np.int64))

    def lagged(
        self,
        rows: NDArray[np.int64],
        lag: NDArray[np.int64],
        length: int | None = None,
        stride: int = 1,
    ) -> NDArray[np.int32]:
        """Takes histories ``[B, L]`` as they were ``lag`` events earlier.

        At the earliest it is the moment when the device had one event.

        Args:
            rows: ``[B]``.
            lag: ``[B]``, at least 0; 0 gives the history of the rows themselves.
            length: ``L``; None: that of the data.
            stride: Every how manyth item is taken, counted back from the newest.

        Raises:
            ValueError: If a lag is negative, or length or stride is below 1.
        """
        if np.any(np.asarray(lag) < 0):
            raise ValueError(f"lag must be >= 0, got {np.min(lag)}")
        start = self.offsets[self._place[rows]]
        end = np.maximum(self._index[rows] - np.asarray(lag), start + 1)
        length = self.history_length if length is None else length
        return windows(self.items, start, end, length, stride)

    def batch(
        self, rows: NDArray[np.int64], epoch: int, seed: int, num_negatives: int
    ) -> HistoricalBatch:
        """Makes a batch of these examples, with the negatives of an epoch; see :meth:`batches`.

        Args:
            rows: ``[B]``, which examples.
            epoch: Of the negatives.
            seed: Of the run.
            num_negatives: Candidates beside the true one.
        """
        target, place = self.target[rows], self._place[rows]
        events = RankedEvents(
            seed,
            f"historical-negatives/{epoch}",
            self.device_ids[place],
            self._index[rows] - self.offsets[place],
            target,
            rows=place,
        )
        catalog = self.catalog or Catalog.whole(self.num_items)
        negatives = draw_unseen(events, num_negatives, catalog, self._seen)
        candidates = np.concatenate([target[:, None], negatives], axis=1)
        return HistoricalBatch(rows, self.history(rows), candidates, self.device_ids[place])

    def batches(
        self,
        batch_size: int,
        epoch: int,
        seed: int,
        num_negatives: int,
        shuffle: bool = True,
        *,
        first: int = 0,
        stop: int | None = None,
    ) -> Iterator[HistoricalBatch]:
        """Makes batches of every example once; the last may be smaller.

        Order and negatives are new in each epoch, and the same again for the same (seed, epoch).
        The negatives of an example do not depend on the order or on the batch size.

        Args:
            batch_size: Examples of a batch.
            epoch: Which one.
            seed: Of the run.
            num_negatives: Candidates beside the true one.
            shuffle: Whether the order is random; otherwise it is by device and time.
            first: The first batch that is made.
            stop: The one after the last; None: to the end.

        Raises:
            ValueError: If ``batch_size`` < 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        order = np.arange(self.num_examples)
        if shuffle:
            order = generator(seed, "historical-order", epoch).permutation(self.num_examples)
        for start in range(0, self.num_examples, batch_size)[first:stop]:
            yield self.batch(order[start : start + batch_size], epoch, seed, num_negatives)

    def split(self, fraction: float, seed: int) -> tuple["HistoricalData", "HistoricalData"]:
        """Makes a part to train on and one to validate on, by whole devices.

        Whole devices, because windows of neighboring examples overlap, and because the cloud is
        asked to serve devices by what they tell, not by what it remembers of them.

        Args:
            fraction: Share of the devices in the second part, in [0, 1); 0 leaves it empty.
                Otherwise each part gets at least one device, if there are two.
            seed: Of the run.

        Raises:
            ValueError: If the fraction is outside [0, 1).
        """
        if not 0 <= fraction < 1:
            raise ValueError(f"fraction must be in [0, 1), got {fraction}")
        count = round(fraction * self.num_devices)
        if fraction > 0:
            count = max(min(max(count, 1), self.num_devices - 1), 0)
        order = np.argsort(hashed_bits(seed, "historical-split", self.device_ids), kind="stable")
        return self._subset(np.sort(order[count:])), self._subset(np.sort(order[:count]))

    def split_last(self) -> tuple["HistoricalData", "HistoricalData"]:
        """Makes a part to train on and one to validate on: the last example of each device.

        The first part holds nothing of it, not even among what negatives avoid. The second part
        holds all events, as the past of its examples, and avoids them as negatives.
        """
        num_events = np.diff(self.offsets)
        kept = num_events - (num_events > 1)
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(kept)])
        _, _, index = flat_ranges(self.offsets[:-1], self.offsets[:-1] + kept)
        train = replace(self, offsets=offsets, items=self.items[index])
        return train, replace(self, first_example=np.maximum(num_events - 1, 1))

    def _subset(self, places: NDArray[np.int64]) -> "HistoricalData":
        first, end = self.offsets[places], self.offsets[places + 1]
        _, _, index = flat_ranges(first, end)
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(end - first)])
        first_example = None if self.first_example is None else self.first_example[places]
        return replace(
            self,
            device_ids=self.device_ids[places],
            offsets=offsets,
            items=self.items[index],
            first_example=first_example,
        )

    def popularity(self) -> NDArray[np.int64]:
        """``[num_items + 1]``: how often each item occurs; 0 for the padding."""
        return np.bincount(self.items, minlength=self.num_items + 1)

    def content_hash(self) -> str:
        """Sixty-four hexadecimal digits that change with anything that training could read."""
        digest = hashlib.sha256(
            f"{self.num_items},{self.history_length},{self.exclude_seen}".encode()
        )
        existing = (
            self.items[:0] if self.catalog is None else self.catalog.items[: self.catalog.size]
        )
        firsts = np.ones(self.num_devices) if self.first_example is None else self.first_example
        arrays = (
            (self.device_ids, "<i8"),
            (self.offsets, "<i8"),
            (self.items, "<i4"),
            (existing, "<i4"),
        )
        for array, kind in (*arrays, (firsts, "<i8")):
            digest.update(
                f";{len(array)};".encode() + np.ascontiguousarray(array, dtype=kind).tobytes()
            )
        return digest.hexdigest()
