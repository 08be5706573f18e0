"""Streams of annotated real videos: a device holds some clips, and a segment asks about one.

Two splits of very different difficulty. ``new_questions``: the cloud was trained on other questions
about the same clips. ``new_clips``: the clips of the stream are in no historical question. The
hidden context is the clip.
"""

import itertools
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.seeds import generator, hashed_uniform
from cdc_flower.core.words import counted
from cdc_flower.tasks.data.annotated_videos import ClipFileOptions
from cdc_flower.tasks.data.registry import StreamShape
from cdc_flower.tasks.video.annotations import read_annotations
from cdc_flower.tasks.video.features import read_features
from cdc_flower.tasks.video.frames import read_videos
from cdc_flower.tasks.video.msvd import msvd_captions, msvd_names
from cdc_flower.tasks.video.problems import Problems
from cdc_flower.tasks.video.queries import Ints, QueryTable
from cdc_flower.tasks.video.rows import Annotation
from cdc_flower.tasks.video.stream import VideoStream

UNSEEN = "<unseen>"  # the answer that stands for all that no historical question has


class ReadClips:
    """Clips read from files, and queries about them.

    Args:
        frames: ``[V, n, *frame_shape]``, float32 features or uint8 pixels.
        clip: ``[Q]``, of each query.
        words: ``[Q, W]``.
        num_words: Of the vocabulary.
    """

    def __init__(
        self, frames: NDArray, clip: Ints, words: NDArray[np.int32], num_words: int
    ) -> None:
        self._frames, self._clip, self._words, self.num_words = frames, clip, words, num_words
        self.num_clips, self.num_frames, self.frame_shape = (
            len(frames),
            frames.shape[1],
            tuple(frames.shape[2:]),
        )
        self.num_queries, self.num_tokens = words.shape

    def frames(self, clip_ids: Ints) -> NDArray:
        """``[k, n, *frame_shape]``."""
        return self._frames[np.asarray(clip_ids, np.int64)]

    def clip_of(self, query_ids: Ints) -> Ints:
        """``[k]``."""
        return self._clip[np.asarray(query_ids, np.int64)]

    def tokens(self, query_ids: Ints) -> NDArray[np.int32]:
        """``[k, W]``."""
        return self._words[np.asarray(query_ids, np.int64)]


@dataclass(frozen=True)
class Plan:
    """Plans which query is asked where.

    Attributes:
        device: ``[Q]``.
        segment: ``[Q]``, historical segments first.
        num_historical: ``H``, segments before the stream.
        num_devices: ``n``.
        clip: ``[n, H + S]``, what each segment is about; -1 where there is nothing.
    """

    device: Ints
    segment: Ints
    num_historical: int
    num_devices: int
    clip: Ints

    def in_order(self, order: Ints) -> "Plan":
        """Puts the queries in another order ``[Q]``."""
        return replace(self, device=self.device[order], segment=self.segment[order])


def plan_new_questions(
    clip: Ints, options: ClipFileOptions, num_segments: int, seed: int, num_clips: int
) -> Plan:
    """Gives each device some clips; of each clip a share of the queries is historical.

    The stream goes through the device's clips in turn, several segments each where there are more
    segments than clips.

    Args:
        clip: ``[Q]``, of each query.
        options: ``clips_per_device`` and ``historical_fraction`` of them.
        num_segments: Of the stream.
        seed: Of the run.
        num_clips: ``V``.
    """
    clips_per_device = options.clips_per_device
    order = hashed_uniform(seed, "annotated-clips", np.arange(num_clips)).argsort()
    num_devices = -(-num_clips // clips_per_device)
    owner, slot = np.empty(num_clips, np.int64), np.empty(num_clips, np.int64)
    owner[order], slot[order] = (
        np.arange(num_clips) % num_devices,
        np.arange(num_clips) // num_devices,
    )
    h = clips_per_device
    about = np.full((num_devices, h + num_segments), -1)
    about[owner, slot] = np.arange(num_clips)
    segment = np.empty(len(clip), np.int64)
    for value in range(num_clips):
        queries = np.flatnonzero(clip == value)
        queries = queries[hashed_uniform(seed, "annotated-queries", queries).argsort()]
        cut = max(1, round(options.historical_fraction * len(queries)))
        segment[queries[:cut]] = slot[value]
        count = int((owner == owner[value]).sum())
        mine = np.flatnonzero(np.arange(num_segments) * count // num_segments == slot[value])
        about[owner[value], h + mine] = value
        for part, place in zip(
            np.array_split(queries[cut:], max(1, len(mine))), mine, strict=False
        ):
            segment[part] = h + place
        if not len(mine):
            segment[queries[cut:]] = slot[value]
    return Plan(owner[clip], segment, h, num_devices, about)


def plan_new_clips(clip: Ints, is_known: NDArray[np.bool_], num_segments: int, seed: int) -> Plan:
    """Makes one device for each new clip, and deals known clips out as their history.

    Args:
        clip: ``[Q]``, of each query.
        is_known: ``[V]``, whether a clip is historical.
        num_segments: Of the stream.
        seed: Of the run.

    Raises:
        UserError: If there is no new clip, or no known one.
    """
    known, new = np.flatnonzero(is_known), np.flatnonzero(~is_known)
    if not len(known) or not len(new):
        raise UserError(
            f"data.split=new_clips needs known and new clips, got {len(known)} and {len(new)}"
        )
    known = known[hashed_uniform(seed, "annotated-clips", known).argsort()]
    h = -(-len(known) // len(new))
    owner, slot = np.empty(len(is_known), np.int64), np.empty(len(is_known), np.int64)
    owner[new], owner[known] = np.arange(len(new)), np.arange(len(known)) % len(new)
    slot[known] = np.arange(len(known)) // len(new)
    about = np.full((len(new), h + num_segments), -1)
    about[owner[known], slot[known]] = known
    about[:, h:] = new[:, None]
    segment = slot[clip]
    for value in new:
        queries = np.flatnonzero(clip == value)
        queries = queries[hashed_uniform(seed, "annotated-queries", queries).argsort()]
        for place, part in enumerate(np.array_split(queries, num_segments)):
            segment[part] = h + place
    return Plan(owner[clip], segment, h, len(new), about)


def annotated_stream(
    num_segments: int, options: ClipFileOptions, *, seed: int, captions: bool
) -> VideoStream:
    """Makes the stream of real videos.

    Args:
        num_segments: Segments after the historical part.
        options: Where the files are, and how they are cut.
        seed: Of the run.
        captions: Whether clips are searched by captions (MSVD has them), and not asked about.

    Raises:
        UserError: If a file is missing, damaged or malformed.
    """
    problems = Problems.of(options.on_error)
    rows = read_annotations(options.format, options.annotations, options.splits, problems)
    if options.format == "msvd_qa":
        rows = _with_msvd_names(rows, options.msvd)
    test = {row.video for row in rows if row.split == "test"}
    if captions:
        rows = _captions(options.msvd)
    names = list(dict.fromkeys(row.video for row in rows))
    frames = _frames(options, names, problems)
    rows = _with_frames(rows, frames, problems, partial=options.format == "msvd_qa")
    problems.tell(options.annotations)
    names = [name for name in names if name in frames]
    number = {name: index for index, name in enumerate(names)}
    clip = np.array([number[row.video] for row in rows], np.int64)
    if options.split == "new_questions":
        plan = plan_new_questions(clip, options, num_segments, seed, len(names))
    else:
        is_known = np.array([name not in test for name in names])
        plan = plan_new_clips(clip, is_known, num_segments, seed)
    stacked = np.stack([frames[name] for name in names])
    order = np.lexsort((np.arange(len(rows)), plan.segment, plan.device))
    asked = Asked([rows[k] for k in order], clip[order], plan.in_order(order))
    table = _table(asked, stacked, options, seed, captions)
    table = replace(table, repeats_clips=options.split == "new_questions")
    return VideoStream(table, segment_s=options.segment_s, seed=seed)


def stream_of(options: ClipFileOptions, shape: StreamShape) -> VideoStream:
    """Makes the stream of configured data.

    Raises:
        UserError: As :func:`annotated_stream`, or if another number of devices is asked for.
    """
    stream = annotated_stream(shape.num_segments, options, seed=shape.seed, captions=shape.captions)
    if shape.num_devices not in (None, stream.num_devices):
        raise UserError(
            "fleet.num_devices must be left to the data here, which has "
            f"{counted(stream.num_devices, 'device')}"
        )
    return stream


def _captions(msvd: str | None) -> list[Annotation]:
    if msvd is None:
        raise UserError("data.msvd must be the folder of MSVD, whose captions are searched for")
    told = msvd_captions(msvd)
    pairs = [(video, text) for video in told for text in told[video]]
    return [Annotation(video, text, video, "caption", "", "") for video, text in pairs]


def _frames(options: ClipFileOptions, names: list[str], problems: Problems) -> dict[str, NDArray]:
    """Reads features or pixels by the name of the video."""
    if options.features is not None:
        return read_features(options.features, names, options.num_frames, problems)
    return read_videos(str(options.videos), names, options.num_frames, options.size, problems)


def _with_msvd_names(rows: list[Annotation], msvd: str | None) -> list[Annotation]:
    if msvd is None:
        raise UserError(
            "data.msvd must be the folder of MSVD, whose youtube_mapping.txt names the clips "
            "of MSVD-QA"
        )
    names = msvd_names(msvd)
    return [replace(row, video=names.get(row.video, row.video)) for row in rows]


def _with_frames(
    rows: list[Annotation], frames: Container[str], problems: Problems, partial: bool
) -> list[Annotation]:
    """Keeps the annotations whose video is there; with ``partial`` the others go without a word.

    Raises:
        UserError: If one is not, and problems are errors.
    """
    kept = []
    for row in rows:
        if row.video in frames:
            kept.append(row)
        elif not partial:
            problems.report("unmatched annotation", f"{row.place}: there is no video {row.video}")
    return kept


@dataclass(frozen=True)
class Asked:
    """Annotations in the order in which devices are asked.

    Attributes:
        rows: ``Q`` of them, by device and segment.
        clip: ``[Q]``.
        plan: In the same order.
    """

    rows: list[Annotation]
    clip: Ints
    plan: Plan

    @property
    def is_historical(self) -> NDArray[np.bool_]:
        """``[Q]``: whether each lies before the stream."""
        return self.plan.segment < self.plan.num_historical

    def bounds(self) -> Ints:
        """``[n, H + S + 1]``: where the queries of each segment start."""
        shape = self.plan.clip.shape
        cell = self.plan.device * shape[1] + self.plan.segment
        ends = np.cumsum(np.bincount(cell, minlength=shape[0] * shape[1])).reshape(shape)
        starts = np.concatenate([[0], ends[:-1, -1]])
        return np.concatenate([starts[:, None], ends], 1)

    def words(self, most: int) -> tuple[NDArray[np.int32], int]:
        """Numbers the words ``[Q, W]`` of a vocabulary of historical queries, and counts them.

        0 is padding and 1 any other word.
        """
        texts = [_words(row.question)[:most] for row in self.rows]
        past = itertools.compress(texts, self.is_historical)
        vocabulary = {
            word: number for number, word in enumerate(sorted(set(itertools.chain(*past))), 2)
        }
        words = np.zeros((len(texts), most), np.int32)
        for row, text in zip(words, texts, strict=True):
            row[: len(text)] = [vocabulary.get(word, 1) for word in text]
        return words, len(vocabulary) + 2

    def answers(self, most: int) -> tuple[Ints, int]:
        """Numbers the answers ``[Q]`` by those most frequent in the history, and counts them.

        0 is any other answer.
        """
        texts = [row.answer for row in self.rows]
        past = Counter(itertools.compress(texts, self.is_historical)).most_common(most)
        names = [UNSEEN, *(answer for answer, _ in past)]
        number = {name: index for index, name in enumerate(names)}
        return np.array([number.get(text, 0) for text in texts], np.int64), len(names)


def _table(
    asked: Asked, frames: NDArray, options: ClipFileOptions, seed: int, captions: bool
) -> QueryTable:
    """Makes the table of queries, with vocabularies of historical ones alone.

    Args:
        asked: The annotations.
        frames: ``[V, n, *frame_shape]``.
        options: Of the data.
        seed: Of the run.
        captions: Whether clips are searched.
    """
    plan = asked.plan
    words, num_words = asked.words(options.max_words)
    kinds = tuple(sorted({row.kind for row in asked.rows}))
    answer, num_answers = asked.answers(options.max_answers)
    context_id = plan.clip[:, plan.num_historical :]
    return QueryTable(
        clips=ReadClips(frames, asked.clip, words, num_words),
        bounds=asked.bounds(),
        num_historical=plan.num_historical,
        answer=asked.clip if captions else answer,
        kind=np.array([kinds.index(row.kind) for row in asked.rows], np.int64),
        kinds=kinds,
        num_answers=0 if captions else max(2, num_answers),
        gallery=_galleries(plan, len(frames), options.gallery, seed) if captions else None,
        context_id=context_id,
        is_shift=np.diff(context_id, axis=1, prepend=context_id[:, :1]) != 0,
        has_unseen=not captions,
    )


def _galleries(plan: Plan, num_clips: int, size: int, seed: int) -> Ints:
    """Puts the clip of each segment among others of its part, ``[n, H + S, G]``."""
    parts = plan.clip[:, : plan.num_historical], plan.clip[:, plan.num_historical :]
    pools = [np.unique(part[part >= 0]) for part in parts]
    count = min([size, *(len(pool) for pool in pools)])
    rng, galleries = generator(seed, "galleries"), np.empty((*plan.clip.shape, count), np.int64)
    for device, row in enumerate(plan.clip):
        for segment, own in enumerate(row):
            pool = pools[segment >= plan.num_historical]
            others = rng.permutation(pool[pool != own])[: count - 1]
            first = own if own >= 0 else rng.permutation(pool[~np.isin(pool, others)])[0]
            galleries[device, segment] = rng.permutation([first, *others])
    return galleries


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "'" else " " for c in text.lower()).split()
