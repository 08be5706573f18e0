"""Holds the queries of each device and segment, about which clips, and their true answers."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.stream import SegmentBatch
from cdc_flower.models.video.clips import Clips

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class VideoSegment(SegmentBatch):
    """Holds a segment of queries.

    ``history`` ``[T, 1]`` is the query, and ``candidates`` ``[T, C]`` are answers or clips.

    Attributes:
        kind: ``[T]``, the type of each question.
    """

    kind: Ints


@dataclass(frozen=True)
class QueryTable:
    """Holds queries ``0..Q-1`` by device and segment; the first ``H`` segments are historical.

    Attributes:
        clips: What the queries are about.
        bounds: ``[n, H + S + 1]``: queries ``bounds[d, s]`` to ``bounds[d, s + 1]`` are device d's
            in segment s.
        num_historical: ``H``.
        answer: ``[Q]``, the true candidate: an answer, or a clip.
        kind: ``[Q]``, the type of each question; its name is in ``kinds``.
        kinds: Names of the types.
        num_answers: ``A``, answers are 0..A-1; 0 where the candidates are clips.
        gallery: ``[n, H + S, G]``, the clips among which a device's queries of a segment are
            searched, in an order that does not depend on which of them are searched for; None where
            the candidates are answers.
        context_id: ``[n, S]``, -1 where nobody knows; ``is_shift``: ``[n, S]``.
        has_unseen: Whether answer 0 stands for all that no historical question has. It is never
            right, and no label.
        opens_with_first: Whether the first clip of a segment shows what its others do not, so that
            historical segments too open with that one alone.
        repeats_clips: Whether the stream is about the clips of the history. Then queries are held
            out for validation, and not whole devices: what is held out differs from the rest as the
            stream does.
    """

    clips: Clips
    bounds: Ints
    num_historical: int
    answer: Ints
    kind: Ints
    kinds: tuple[str, ...]
    num_answers: int
    gallery: Ints | None
    context_id: Ints
    is_shift: NDArray[np.bool_]
    has_unseen: bool = False
    opens_with_first: bool = False
    repeats_clips: bool = False

    def __post_init__(self) -> None:
        """Checks what training and scoring rely on.

        Raises:
            ValueError: If a segment begins after it ends, or a true clip is not in its gallery.
        """
        if (np.diff(self.bounds, axis=1) < 0).any():
            raise ValueError("bounds must not descend")
        if self.gallery is not None:
            device, segment = self.place(np.arange(len(self.answer)))
            missing = ~(self.gallery[device, segment] == self.answer[:, None]).any(1)
            if missing.any():
                raise ValueError(
                    "gallery must hold the clip of each query, not so for "
                    f"{np.flatnonzero(missing)[0]}"
                )

    @property
    def num_devices(self) -> int:
        """``n``."""
        return len(self.bounds)

    @property
    def num_segments(self) -> int:
        """``S``."""
        return self.bounds.shape[1] - 1 - self.num_historical

    def place(self, queries: Ints) -> tuple[Ints, Ints]:
        """Gives device and segment (historical ones included) of each query."""
        edges = self.bounds[:, :-1].reshape(-1)
        # Of empty segments that begin at the same query, the last one holds it.
        cell = np.searchsorted(edges, queries, side="right") - 1
        return np.divmod(cell, self.bounds.shape[1] - 1)

    @cached_property
    def query_of(self) -> Ints:
        """``[V]``: some query about each clip that has one."""
        queries = np.arange(len(self.answer))[::-1]
        found = np.zeros(self.clips.num_clips, np.int64)
        found[self.clips.clip_of(queries)] = queries
        return found

    def is_told(self, queries: Ints) -> NDArray[np.bool_]:
        """``[T]``: whether the true candidate is one that can be learned from."""
        return (self.answer[queries] != 0) | (not self.has_unseen)

    def true_first(self, queries: Ints) -> NDArray[np.int32]:
        """Puts the true candidate of each query first, the others in their order, ``[T, C]``."""
        candidates = self.candidates(queries)
        true = (candidates == self.answer[queries][:, None]).argmax(1)
        order = np.argsort(np.arange(candidates.shape[1]) != true[:, None], axis=1, kind="stable")
        return np.take_along_axis(candidates, order, 1)

    def newest(
        self, device_ids: Ints, segment: int, count: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Takes the newest queries ``[n * count, 1]`` before a segment, and their candidates.

        They are by device, the newest first; a device with fewer has its first one again.

        Args:
            device_ids: ``[n]``.
            segment: Historical ones are counted too.
            count: Of a device.
        """
        first, end = self.bounds[device_ids, 0], self.bounds[device_ids, segment]
        queries = np.maximum(end[:, None] - 1 - np.arange(count), first[:, None]).reshape(-1)
        return queries[:, None].astype(np.int32), self.candidates(queries)

    def candidates(self, queries: Ints) -> NDArray[np.int32]:
        """``[T, C]``: every answer, or every clip of the gallery."""
        if self.gallery is None:
            return np.tile(np.arange(self.num_answers, dtype=np.int32), (len(queries), 1))
        return self.gallery[self.place(queries)].astype(np.int32)
