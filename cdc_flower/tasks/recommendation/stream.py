"""Streams of recommendation events, segment by segment, with a truth that only a metric may read.

Everything is a pure function of the seed, the device and the event, so any number of calls in any
order, on any worker, give the same answers. The attributes are plain arrays: cheap to pickle and to
share through Ray.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.seeds import hashed_integers
from cdc_flower.core.stream import LabelledBatch, SegmentBatch, Truth, TruthAccessError, TruthReader
from cdc_flower.core.words import counted, counted_of
from cdc_flower.tasks.cut import (
    even_times_s,
    flat_ranges,
    windows,
)
from cdc_flower.tasks.recommendation.catalog import Catalog, catalogs
from cdc_flower.tasks.recommendation.event_kinds import Events
from cdc_flower.tasks.recommendation.history import HistoricalData
from cdc_flower.tasks.recommendation.laws.known import KnownLaw, Moments
from cdc_flower.tasks.recommendation.negatives import RankedEvents, draw_unseen
from cdc_flower.tasks.recommendation.seen import SeenItems, short_of_unseen


@dataclass(frozen=True)
class Ranking:
    """Says which candidates an event has.

    Attributes:
        history_length: ``L``, items that a model sees before an event.
        num_negatives: Candidates besides the true one.
        exclude_seen: Whether negatives avoid everything the device ever interacts with. Turn it off
            for data in which devices choose an item repeatedly: there it would give old choices
            away as true.
        growing_catalog: Whether negatives come only from items that some device has chosen by then:
            in the historical part, or by the end of the segment. It needs a cut at the same time on
            all devices.

    Raises:
        UserError: If a number is below 1.
    """

    history_length: int = 10
    num_negatives: int = 99
    exclude_seen: bool = True
    growing_catalog: bool = False

    def __post_init__(self) -> None:
        for name in ("history_length", "num_negatives"):
            if getattr(self, name) < 1:
                raise UserError(f"data.{name} must be >= 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Cut:
    """Events of ``n`` devices in ``S`` segments.

    Attributes:
        bounds: ``[n, S + 1]``; see :mod:`cdc_flower.tasks.cut`.
        starts_s: ``[S + 1]``, ascending.
        event_times_s: ``[num_events]``, on the same clock; None spreads events evenly over their
            segment.
        context_id: ``[n, S]``; None where nobody knows: all -1.
        is_shift: ``[n, S]``; None where nobody knows: all False.
        events_per_segment: Median number of events of a device and segment, as far as what is
            before the stream tells; 0 where it does not.
    """

    bounds: NDArray[np.int64]
    starts_s: NDArray[np.float64]
    event_times_s: NDArray[np.float64] | None = None
    context_id: NDArray[np.int64] | None = None
    is_shift: NDArray[np.bool_] | None = None
    events_per_segment: int = 0


class EventStream:
    """Implements :class:`cdc_flower.core.stream.Stream` over a table of events.

    The true item stands at a hashed column among ``num_negatives`` others. An event that nothing
    precedes on its device is never scored, since a device without a past gives a model nothing to
    go by; it only serves as history.

    Args:
        events: The table.
        cut: Segments of its events.
        ranking: Candidates of each event.
        seed: Of the run.
        law: By which the events were drawn; None where nobody knows.

    Raises:
        UserError: If the table holds fewer than two items.
        ValueError: If the shapes do not agree.
    """

    def __init__(
        self,
        events: Events,
        cut: Cut,
        ranking: Ranking | None = None,
        *,
        seed: int,
        law: KnownLaw | None = None,
    ) -> None:
        ranking = ranking or Ranking()
        if events.num_items < 2:
            raise UserError(f"data: a stream needs >= 2 items to rank, got {events.num_items}")
        self.num_devices = len(events.offsets) - 1
        self.num_segments = len(cut.starts_s) - 1
        self.num_items = events.num_items
        self.history_length = ranking.history_length
        self.num_negatives = ranking.num_negatives
        self.exclude_seen = ranking.exclude_seen
        self.seed = seed
        self._law = law
        #: What there is to say of the data, without a full stop.
        self.notes: tuple[str, ...] = ()
        self.offsets = np.asarray(events.offsets, dtype=np.int64)
        self.items = np.asarray(events.items, dtype=np.int32)
        self.bounds = np.asarray(cut.bounds, dtype=np.int64)
        self.segment_starts_s = np.asarray(cut.starts_s, dtype=np.float64)
        self.event_times_s = cut.event_times_s
        self.events_per_segment = cut.events_per_segment
        shape = (self.num_devices, self.num_segments)
        unknown, still = np.full(shape, -1, dtype=np.int64), np.zeros(shape, dtype=np.bool_)
        self.context_id = unknown if cut.context_id is None else cut.context_id
        self.is_shift = still if cut.is_shift is None else cut.is_shift
        self._check_shapes()
        self.catalogs = [Catalog.whole(self.num_items)] * (self.num_segments + 1)
        if ranking.growing_catalog:
            self.catalogs = catalogs(self.offsets, self.items, self.bounds, self.num_items)
        self.seen: SeenItems | None = None
        if self.exclude_seen:
            device = np.repeat(np.arange(self.num_devices), np.diff(self.offsets))
            self.seen = SeenItems.of(device, self.items, self.num_devices, self.num_items)

    def _check_shapes(self) -> None:
        wanted = (self.num_devices, self.num_segments + 1)
        if self.bounds.shape != wanted:
            raise ValueError(f"bounds must have shape {wanted}, got {self.bounds.shape}")
        for name in ("context_id", "is_shift"):
            shape = getattr(self, name).shape
            if shape != (self.num_devices, self.num_segments):
                raise ValueError(
                    f"{name} must have shape {(self.num_devices, self.num_segments)}, got {shape}"
                )
        if self.event_times_s is not None and len(self.event_times_s) != len(self.items):
            raise ValueError(
                f"event_times_s must have {len(self.items)} times, got {len(self.event_times_s)}"
            )

    def _checked(self, device_ids: NDArray[np.int64], segment: int, last: int) -> NDArray[np.int64]:
        device_ids = np.asarray(device_ids, dtype=np.int64)
        if not 0 <= segment <= last:
            raise ValueError(f"segment must be in 0..{last}, got {segment}")
        if len(device_ids) and not (device_ids.min() >= 0 and device_ids.max() < self.num_devices):
            wrong = device_ids[(device_ids < 0) | (device_ids >= self.num_devices)][0]
            raise ValueError(f"device_ids must be in 0..{self.num_devices - 1}, got {wrong}")
        return device_ids

    def _ends(
        self, device_ids: NDArray[np.int64], segment: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Finds the first scored event of each device and the one after its last, both ``[n]``."""
        end = self.bounds[device_ids, segment + 1]
        first = np.maximum(self.bounds[device_ids, segment], self.offsets[device_ids] + 1)
        return np.minimum(first, end), end

    def segment(self, device_ids: NDArray[np.int64], segment: int) -> SegmentBatch:
        """Makes the events of segment 0, 1, ... on these devices, in the order of the devices."""
        device_ids = self._checked(device_ids, segment, self.num_segments - 1)
        first, end = self._ends(device_ids, segment)
        row, slot, index = flat_ranges(first, end)
        device = device_ids[row]
        start = self.offsets[device]
        place, target = index - start, self.items[index]
        events = RankedEvents(self.seed, "negatives", device, place, target)
        catalog = self.catalogs[segment + 1]
        negatives = draw_unseen(events, self.num_negatives, catalog, self.seen)
        positive = hashed_integers(
            self.seed, "positive", device, place, high=self.num_negatives + 1
        )
        candidates = np.concatenate([negatives, target[:, None]], axis=1)
        every = np.arange(len(index))
        candidates[every, -1] = candidates[every, positive]
        candidates[every, positive] = target
        truth = Truth(
            positive, self.context_id[device_ids, segment], self.is_shift[device_ids, segment]
        )
        return SegmentBatch(
            device_ids=device_ids,
            num_events=end - first,
            row=row,
            slot=slot,
            history=windows(self.items, start, index, self.history_length),
            candidates=candidates,
            times_s=self._times_s(device, index, segment),
            truth=truth,
        )

    def _times_s(
        self, device: NDArray[np.int64], index: NDArray[np.int64], segment: int
    ) -> NDArray[np.float64]:
        if self.event_times_s is not None:
            return self.event_times_s[index]
        begin, end = self.bounds[device, segment], self.bounds[device, segment + 1]
        starts_s = self.segment_starts_s
        return even_times_s(
            index - begin, end - begin, float(starts_s[segment]), float(starts_s[segment + 1])
        )

    def law(self, reader: TruthReader) -> KnownLaw | None:
        """Gives the law by which the events were drawn; None where nobody knows.

        Raises:
            TruthAccessError: If the reader is not a :class:`TruthReader`.
        """
        if not isinstance(reader, TruthReader):
            raise TruthAccessError(
                f"the law is for metrics only, and {type(reader).__name__} is none"
            )
        return self._law

    def moments(self, data: SegmentBatch, segment: int, length: int) -> Moments:
        """Gives the moments before the events of a batch.

        Args:
            data: From :meth:`segment`.
            segment: Of it.
            length: Items before each event that the reader knows.
        """
        first, _ = self._ends(data.device_ids, segment)
        device, index = data.device_ids[data.row], first[data.row] + data.slot
        start = self.offsets[device]
        past = windows(self.items, start, index, length)
        return Moments(device, segment, data.slot, index - start, past)

    def num_events(self, device_ids: NDArray[np.int64], segment: int) -> NDArray[np.int64]:
        """``[n]``: how many scored events each of these devices has in the segment."""
        first, end = self._ends(self._checked(device_ids, segment, self.num_segments - 1), segment)
        return end - first

    def recent(
        self,
        device_ids: NDArray[np.int64],
        segment: int,
        lag: int = 0,
        length: int | None = None,
        stride: int = 1,
    ) -> NDArray[np.int32]:
        """Takes the last items ``[n, L]`` before a segment, oldest first, padded with 0.

        Args:
            device_ids: ``[n]``.
            segment: ``num_segments`` asks for the last items of the whole stream.
            lag: As they were so many events earlier, at the earliest when the device had one event;
                0 is now.
            length: ``L``; None: what a model sees before an event.
            stride: Every how manyth item is taken, counted back from the newest.

        Raises:
            ValueError: If the lag is negative, length or stride below 1, or as :meth:`segment`.
        """
        if lag < 0:
            raise ValueError(f"lag must be >= 0, got {lag}")
        device_ids = self._checked(device_ids, segment, self.num_segments)
        start, end = self.offsets[device_ids], self.bounds[device_ids, segment]
        return windows(
            self.items,
            start,
            np.maximum(end - lag, np.minimum(start + 1, end)),
            self.history_length if length is None else length,
            stride,
        )

    def labelled(
        self,
        reader: TruthReader,
        device_ids: NDArray[np.int64],
        segment: int,
        max_examples: int,
        num_negatives: int,
    ) -> LabelledBatch:
        """Takes the newest examples from before a segment, oldest first.

        Each has at least one earlier item. Negatives differ from segment to segment and avoid only
        what the device has seen so far: to avoid its future choices too would give them away.

        Args:
            reader: Pays for the labels.
            device_ids: ``[n]``.
            segment: Which one starts.
            max_examples: Of a device.
            num_negatives: Candidates beside the true one.

        Raises:
            TruthAccessError: If the reader is not a :class:`TruthReader`.
        """
        if not isinstance(reader, TruthReader):
            raise TruthAccessError(
                f"labels are for those who pay for them, and {type(reader).__name__} does not"
            )
        device_ids = self._checked(device_ids, segment, self.num_segments)
        start, end = self.offsets[device_ids], self.bounds[device_ids, segment]
        first = np.minimum(np.maximum(start + 1, end - max(max_examples, 0)), end)
        row, slot, index = flat_ranges(first, end)
        seen = None
        if self.exclude_seen:
            seen_row, _, seen_index = flat_ranges(start, end)
            seen = SeenItems.of(seen_row, self.items[seen_index], len(device_ids), self.num_items)
        target, name = self.items[index], f"labelled-negatives/{segment}"
        events = RankedEvents(
            self.seed, name, device_ids[row], index - start[row], target, rows=row
        )
        negatives = draw_unseen(events, num_negatives, self.catalogs[segment], seen)
        return LabelledBatch(
            num_examples=end - first,
            row=row,
            slot=slot,
            history=windows(self.items, start[row], index, self.history_length),
            candidates=np.concatenate([target[:, None], negatives], axis=1),
        )

    def short_of_unseen(self) -> list[str]:
        """Says how many devices have too few unseen items for their negatives, if any has."""
        if not self.exclude_seen:
            return []
        first = np.maximum(self.bounds, self.offsets[:-1, None] + 1)
        has_events = first[:, :-1] < self.bounds[:, 1:]
        sizes = np.array([catalog.size for catalog in self.catalogs[1:]], np.int64)
        device = np.repeat(np.arange(self.num_devices), np.diff(self.offsets))
        place = self.catalogs[0].place[self.items]
        short = short_of_unseen(device, place, has_events * sizes, self.num_negatives)
        count = int(short.sum())
        if not count:
            return []
        return [
            f"{counted_of(count, self.num_devices, 'device')} chose so many of the "
            f"{counted(self.num_items, 'item')} that fewer than "
            f"num_negatives={self.num_negatives} others are left: some of their negatives are "
            "items that they chose"
        ]

    def historical(self) -> HistoricalData:
        """Makes the labelled part from before the cut, which the cloud holds."""
        row, _, index = flat_ranges(self.offsets[:-1], self.bounds[:, 0])
        offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=self.num_devices))])
        return HistoricalData(
            device_ids=np.arange(self.num_devices),
            offsets=offsets.astype(np.int64),
            items=self.items[index],
            num_items=self.num_items,
            history_length=self.history_length,
            exclude_seen=self.exclude_seen,
            catalog=self.catalogs[0],
            events_per_segment=self.events_per_segment,
        )
