"""Video of every device in time: queries in segments, each with a clip that it opens with.

The opening clip is there when the segment starts, before any question about it, so it is what a
device may tell of. Where clips are searched it is one of the gallery: which ones will be searched
for is not known then.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.seeds import generator, hashed_bits, hashed_uniform
from cdc_flower.core.stream import LabelledBatch, Truth, TruthAccessError, TruthReader
from cdc_flower.tasks.cut import even_starts_s, even_times_s, flat_ranges
from cdc_flower.tasks.recommendation.history import HistoricalBatch
from cdc_flower.tasks.video.queries import Ints, QueryTable, VideoSegment


class VideoStream:
    """Queries of every device, cut into segments.

    Args:
        table: The queries.
        segment_s: How long a segment lasts, in seconds.
        seed: Of the run.

    Raises:
        UserError: If ``segment_s`` is not above 0.
    """

    history_length = 1  # a query stands for itself

    def __init__(self, table: QueryTable, *, segment_s: float, seed: int) -> None:
        self.table, self.seed = table, seed
        self.num_devices, self.num_segments = table.num_devices, table.num_segments
        self.num_items = table.clips.num_queries
        self.segment_starts_s = even_starts_s(table.num_segments, segment_s)

    def _checked(self, device_ids: Ints, segment: int) -> Ints:
        device_ids = np.asarray(device_ids, np.int64)
        if not 0 <= segment < self.num_segments:
            raise ValueError(f"segment must be in 0..{self.num_segments - 1}, got {segment}")
        if len(device_ids) and not (device_ids.min() >= 0 and device_ids.max() < self.num_devices):
            wrong = device_ids[(device_ids < 0) | (device_ids >= self.num_devices)][0]
            raise ValueError(f"device_ids must be in 0..{self.num_devices - 1}, got {wrong}")
        return device_ids

    def _ends(self, device_ids: Ints, segment: int) -> tuple[Ints, Ints]:
        place = self._checked(device_ids, segment), segment + self.table.num_historical
        return self.table.bounds[place], self.table.bounds[place[0], place[1] + 1]

    def segment(self, device_ids: Ints, segment: int) -> VideoSegment:
        """Makes the queries of segment 0, 1, ... on these devices, with their candidates."""
        first, end = self._ends(device_ids, segment)
        row, slot, query = flat_ranges(first, end)
        candidates = self.table.candidates(query)
        true_column = (candidates == self.table.answer[query][:, None]).argmax(1)
        place = np.asarray(device_ids), segment
        times_s = even_times_s(
            slot, (end - first)[row], *map(float, self.segment_starts_s[segment : segment + 2])
        )
        return VideoSegment(
            device_ids=np.asarray(device_ids, np.int64),
            num_events=end - first,
            row=row,
            slot=slot,
            history=query[:, None].astype(np.int32),
            candidates=candidates,
            times_s=times_s,
            truth=Truth(true_column, self.table.context_id[place], self.table.is_shift[place]),
            kind=self.table.kind[query],
        )

    def num_events(self, device_ids: Ints, segment: int) -> Ints:
        """``[n]``: how many queries each of these devices has in the segment."""
        first, end = self._ends(device_ids, segment)
        return end - first

    def opening(self, device_ids: Ints, segment: int, lag: int = 0) -> tuple[Ints, Ints]:
        """Finds the clip ``[n]`` that a segment opens with, and its first query ``[n]``.

        A device without a query in the segment has those of the segment before. Where clips are
        searched the clip is the first of the gallery, and the query is any about it.

        Args:
            device_ids: ``[n]``.
            segment: Which one starts.
            lag: Queries by which it is earlier. 0 is the present.
        """
        if self.table.gallery is not None and lag == 0:
            clip = self.table.gallery[
                self._checked(device_ids, segment), segment + self.table.num_historical, 0
            ]
            return clip, self.table.query_of[clip]
        first, end = self._ends(device_ids, segment)
        query = np.maximum(
            np.where(first < end, first, first - 1) - lag, self.table.bounds[device_ids, 0]
        )
        return self.table.clips.clip_of(query), query

    def recent(self, device_ids: Ints, segment: int, lag: int = 0) -> NDArray[np.int32]:
        """Takes the query ``[n, 1]`` of :meth:`opening`.

        Args:
            device_ids: ``[n]``.
            segment: Which one starts.
            lag: Queries by which it is earlier. 0 is the present.
        """
        return self.opening(device_ids, segment, lag)[1][:, None].astype(np.int32)

    def asked(
        self, device_ids: Ints, segment: int, count: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Takes the newest queries before a segment, newest first, and their candidates.

        A device with fewer has its first one again.

        Args:
            device_ids: ``[n]``.
            segment: Which one starts.
            count: Of a device.

        Returns:
            ``[n * count, 1]`` by device, and ``[n * count, C]``.
        """
        device_ids = self._checked(device_ids, segment)
        return self.table.newest(device_ids, segment + self.table.num_historical, count)

    def labelled(
        self,
        reader: TruthReader,
        device_ids: Ints,
        segment: int,
        max_examples: int,
        num_negatives: int,
    ) -> LabelledBatch:
        """Takes the newest queries from before a segment, oldest first.

        Each comes with all its candidates; ``num_negatives`` does not matter. Of the newest queries
        those whose answer is none of the device model's are left out.

        Args:
            reader: Pays for the labels.
            device_ids: ``[n]``.
            segment: Which one starts.
            max_examples: Of a device.
            num_negatives: Of other streams; here it does not matter.

        Raises:
            TruthAccessError: If the reader is not a :class:`TruthReader`.
        """
        if not isinstance(reader, TruthReader):
            raise TruthAccessError(
                f"labels are for those who pay for them, and {type(reader).__name__} does not"
            )
        device_ids = self._checked(device_ids, segment)
        end = self.table.bounds[device_ids, segment + self.table.num_historical]
        first = np.maximum(self.table.bounds[device_ids, 0], end - max(max_examples, 0))
        row, _, query = flat_ranges(first, end)
        is_told = self.table.is_told(query)
        row, query = row[is_told], query[is_told]
        num_examples = np.bincount(row, minlength=len(device_ids))
        slot = np.arange(len(row)) - (np.cumsum(num_examples) - num_examples)[row]
        history, candidates = query[:, None].astype(np.int32), self.table.true_first(query)
        return LabelledBatch(num_examples, row, slot, history, candidates)

    def historical(self) -> "VideoHistory":
        """Gives the labelled segments before the stream, which the cloud holds."""
        return VideoHistory(self.table, np.arange(self.num_devices), self.seed)


@dataclass(frozen=True)
class VideoHistory:
    """Historical queries of some devices.

    Attributes:
        table: Of all devices.
        device_ids: ``[n]``, those that are here.
        seed: Of the run.
        is_here: ``[Q]``, which of their queries are; None for all.
    """

    table: QueryTable
    device_ids: Ints
    seed: int
    is_here: NDArray[np.bool_] | None = None

    @cached_property
    def queries(self) -> Ints:
        """``[M]``, by device."""
        bounds = self.table.bounds[self.device_ids]
        queries = flat_ranges(bounds[:, 0], bounds[:, self.table.num_historical])[2]
        return queries if self.is_here is None else queries[self.is_here[queries]]

    @property
    def num_examples(self) -> int:
        """``M``."""
        return len(self.queries)

    def batches(
        self,
        batch_size: int,
        epoch: int,
        seed: int,
        num_negatives: int,
        *,
        first: int = 0,
        stop: int | None = None,
    ) -> Iterator[HistoricalBatch]:
        """Makes batches of every example once, in an order of the epoch.

        Each has all its candidates, the true one first; ``num_negatives`` does not matter. Only
        batches ``first`` to ``stop`` are made. Where clips are searched, the queries of a segment
        stay together: they share their clips, so that a batch reads each of them once.

        Args:
            batch_size: Examples of a batch; the last may be smaller.
            epoch: Which one.
            seed: Of the run.
            num_negatives: Of other histories; here it does not matter.
            first: The first batch that is made.
            stop: The one after the last; None: to the end.

        Raises:
            ValueError: If ``batch_size < 1``.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        queries = self.queries
        order = self._order(queries, generator(seed, "historical-order", epoch))
        for start in range(0, len(queries), batch_size)[first:stop]:
            yield self.batch(order[start : start + batch_size], epoch, seed, num_negatives)

    def batch(self, rows: Ints, epoch: int, seed: int, num_negatives: int) -> HistoricalBatch:
        """Gives these examples with all their candidates, the true one first.

        Args:
            rows: ``[B]``, which examples.
            epoch, seed, num_negatives: Of other histories; here they do not matter.
        """
        query = self.queries[rows]
        device, _ = self.table.place(query)
        return HistoricalBatch(
            rows, query[:, None].astype(np.int32), self.table.true_first(query), device
        )

    def _order(self, queries: Ints, draws: np.random.Generator) -> Ints:
        """``[M]``: the examples in a random order, by segments where clips are searched."""
        if self.table.gallery is None:
            return draws.permutation(len(queries))
        _, cell = np.unique(np.stack(self.table.place(queries)), axis=1, return_inverse=True)
        return np.argsort(draws.permutation(cell.max() + 1)[cell], kind="stable")

    def lagged(self, rows: Ints, lag: Ints) -> NDArray[np.int32]:
        """``[B, 1]``: the query ``lag`` examples earlier, at the earliest the device's first.

        Without a lag it is one of :meth:`openings`: a device tells of a clip before it is asked.
        """
        queries = self.queries[rows]
        device, _ = self.table.place(queries)
        earlier = np.maximum(queries - lag, self.table.bounds[device, 0])
        opening = self.openings(rows, hashed_uniform(self.seed, "video-told", queries))
        return np.where(lag == 0, opening, earlier)[:, None].astype(np.int32)

    def openings(self, rows: Ints, uniform: NDArray[np.float64]) -> Ints:
        """Takes a query ``[B]`` of the device and segment of each example, by a number in [0, 1).

        Online a segment is adapted to by its first clip; here any of its clips may be the one that
        it opens with, unless the first shows what others do not. Where clips are searched it is any
        of the gallery, whichever is searched for.
        """
        device, segment = self.table.place(self.queries[rows])
        uniform = np.zeros_like(uniform) if self.table.opens_with_first else uniform
        if self.table.gallery is not None:
            gallery = self.table.gallery[device, segment]
            which = (uniform * gallery.shape[1]).astype(np.int64)
            return self.table.query_of[gallery[np.arange(len(rows)), which]]
        first, end = self.table.bounds[device, segment], self.table.bounds[device, segment + 1]
        return first + (uniform * (end - first)).astype(np.int64)

    def split(self, fraction: float, seed: int) -> tuple["VideoHistory", "VideoHistory"]:
        """A part to train on and a part to validate on, at least one device each if there are two.

        Where the stream is about the clips of the history the parts are queries, and not whole
        devices.

        Raises:
            ValueError: If the fraction is outside [0, 1).
        """
        if not 0 <= fraction < 1:
            raise ValueError(f"fraction must be in [0, 1), got {fraction}")
        members = self.queries if self.table.repeats_clips else self.device_ids
        size = len(members)
        count = max(min(max(round(fraction * size), 1), size - 1), 0) if fraction > 0 else 0
        order = np.argsort(hashed_bits(seed, "historical-split", members), kind="stable")
        if not self.table.repeats_clips:
            train, held_out = (members[np.sort(part)] for part in (order[count:], order[:count]))
            return replace(self, device_ids=train), replace(self, device_ids=held_out)
        is_held_out = np.zeros(len(self.table.answer), np.bool_)
        is_held_out[members[order[:count]]] = True
        is_here = ~is_held_out if self.is_here is None else self.is_here & ~is_held_out
        return replace(self, is_here=is_here), replace(self, is_here=is_held_out)

    def content_hash(self) -> str:
        """Sixty-four hexadecimal digits that change with anything that training could read."""
        digest, queries = hashlib.sha256(), self.queries
        clip_ids = np.unique(self.table.clips.clip_of(queries))
        for part in (
            queries,
            self.table.clips.tokens(queries),
            self.table.candidates(queries),
            self.table.answer[queries],
        ):
            digest.update(
                f";{part.shape};".encode() + np.ascontiguousarray(part, np.int64).tobytes()
            )
        for start in range(0, len(clip_ids), 256):
            digest.update(
                np.ascontiguousarray(
                    self.table.clips.frames(clip_ids[start : start + 256])
                ).tobytes()
            )
        return digest.hexdigest()
