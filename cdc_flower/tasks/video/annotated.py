"""Streams of annotated real videos: each device holds some clips, and a segment asks about one of them.

Two splits of very different difficulty. ``new_questions``: the cloud was trained on other questions
about the same clips. ``new_clips``: the clips of the stream are in no historical question. The
hidden context is the clip.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.seeds import generator, hashed_uniform
from cdc_flower.tasks.recommendation.readers.files import find_file
from cdc_flower.tasks.video import annotations as notes
from cdc_flower.tasks.video.annotations import Annotation, Problems
from cdc_flower.tasks.video.frames import read_features, read_videos
from cdc_flower.tasks.video.queries import Ints, QueryTable
from cdc_flower.tasks.video.stream import VideoStream

SPLITS = ("new_questions", "new_clips")
UNSEEN = "<unseen>"  # the answer that stands for all that no historical question has


class ReadClips:
    """Clips read from files, and queries about them.

    Args:
        frames: ``[V, n, *frame_shape]``, float32 features or uint8 pixels.
        clip: ``[Q]``, of each query; ``words``: ``[Q, W]``; ``num_words``: of the vocabulary.
    """

    def __init__(
        self, frames: NDArray[Any], clip: Ints, words: NDArray[np.int32], num_words: int
    ) -> None:
        self._frames, self._clip, self._words, self.num_words = frames, clip, words, num_words
        self.num_clips, self.num_frames, self.frame_shape = (
            len(frames),
            frames.shape[1],
            tuple(frames.shape[2:]),
        )
        self.num_queries, self.num_tokens = words.shape

    def frames(self, clip_ids: Ints) -> NDArray[Any]:
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
    """Which query is asked where: ``device`` ``[Q]`` and ``segment`` ``[Q]``, historical segments first.

    Attributes:
        num_historical: ``H``, segments before the stream; ``num_devices``: ``n``.
        clip: ``[n, H + S]``, what each segment is about; -1 where there is nothing.
    """

    device: Ints
    segment: Ints
    num_historical: int
    num_devices: int
    clip: Ints


def plan_new_questions(
    clip: Ints,
    clips_per_device: int,
    num_segments: int,
    historical_fraction: float,
    seed: int,
    num_clips: int,
) -> Plan:
    """Each device holds ``clips_per_device`` clips; of each clip a share of the queries is historical.

    The stream goes through the device's clips in turn, several segments each where there are more
    segments than clips.
    """
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
        cut = max(1, round(historical_fraction * len(queries)))
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
    """One device for each new clip; known clips are dealt out to the devices as their history.

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
    num_segments: int,
    *,
    seed: int,
    captions: bool,
    format: str,
    annotations: str,
    features: str | None = None,
    videos: str | None = None,
    msvd: str | None = None,
    root: str | None = None,
    split: str = "new_questions",
    splits: Sequence[str] = ("train", "val", "test"),
    num_frames: int = 3,
    size: int = 32,
    clips_per_device: int = 4,
    historical_fraction: float = 0.6,
    max_answers: int = 1000,
    max_words: int = 16,
    gallery: int = 20,
    segment_s: float = 60.0,
    on_error: str = "raise",
) -> VideoStream:
    """The stream of real videos.

    Args:
        num_segments: How many segments follow the historical part.
        seed: Of the run.
        captions: Whether clips are searched by captions (MSVD has them), and not asked about.
        format: Of the annotations; see :data:`~cdc_flower.tasks.video.annotations.FORMATS`.
        annotations: The folder of the annotation files.
        features: A folder or archive of features by video; ``videos``: or a folder of video files.
        videos: A folder of video files.
        root: Unused here: what other paths are made from.
        msvd: The folder of MSVD with ``youtube_mapping.txt`` and ``testing_label.json``; needed by
            ``msvd_qa``.
        split: ``new_questions`` on known clips, or ``new_clips``, those of the annotations' test
            split.
        splits: Annotation files to read.
        num_frames: Frames of a clip, spread evenly.
        size: Side of a frame in pixels, for video files.
        clips_per_device: With ``new_questions``.
        historical_fraction: Share of a clip's queries that is historical, with ``new_questions``.
        max_answers: The most frequent historical answers; any other is never right.
        max_words: Of a query at most; further ones are cut off.
        gallery: Clips among which a caption searches.
        segment_s: How long a segment lasts, in seconds.
        on_error: ``raise``; ``skip`` counts and leaves out what cannot be used, videos without
            frames too.

    Raises:
        UserError: If a value is wrong, or a file missing, damaged or malformed.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS, "data.split")
    if (features is None) == (videos is None):
        raise UserError("data: one of data.features and data.videos must be given")
    for key, value, low in (
        ("num_frames", num_frames, 1),
        ("size", size, 8),
        ("clips_per_device", clips_per_device, 1),
    ):
        if value < low:
            raise UserError(f"data.{key} must be >= {low}, got {value}")
    if not 0 < historical_fraction < 1:
        raise UserError(f"data.historical_fraction must be in (0, 1), got {historical_fraction}")
    problems = Problems.of(on_error)
    rows = notes.read_annotations(format, annotations, tuple(splits), problems)
    if format == "msvd_qa":
        rows = _with_msvd_names(rows, msvd)
    test = {row.video for row in rows if row.split == "test"}
    if captions:
        if msvd is None:
            raise UserError("data.msvd must be the folder of MSVD, whose captions are searched for")
        told = notes.msvd_captions(find_file(msvd, ["testing_label.json"]))
        rows = [
            Annotation(v, text, v, "caption", "", "") for v, texts in told.items() for text in texts
        ]
    names = list(dict.fromkeys(row.video for row in rows))
    if features is not None:
        frames: dict[str, Any] = read_features(features, names, num_frames, problems)
    else:
        frames = read_videos(str(videos), names, num_frames, size, problems)
    rows = _with_frames(rows, frames, problems, partial=format == "msvd_qa")
    problems.tell(annotations)
    names = [name for name in names if name in frames]
    number = {name: index for index, name in enumerate(names)}
    clip = np.array([number[row.video] for row in rows], np.int64)
    if split == "new_questions":
        plan = plan_new_questions(
            clip, clips_per_device, num_segments, historical_fraction, seed, len(names)
        )
    else:
        is_known = np.array([name not in test for name in names])
        plan = plan_new_clips(clip, is_known, num_segments, seed)
    stacked = np.stack([frames[name] for name in names])
    table = _table(rows, clip, plan, stacked, captions, gallery, max_answers, max_words, seed)
    table = replace(table, repeats_clips=split == "new_questions")
    return VideoStream(table, segment_s=segment_s, seed=seed)


def _with_msvd_names(rows: list[Annotation], msvd: str | None) -> list[Annotation]:
    if msvd is None:
        raise UserError(
            "data.msvd must be the folder of MSVD, whose youtube_mapping.txt names the clips of MSVD-QA"
        )
    names = notes.msvd_names(find_file(msvd, ["youtube_mapping.txt"]))
    return [replace(row, video=names.get(row.video, row.video)) for row in rows]


def _with_frames(
    rows: list[Annotation], frames: dict[str, Any], problems: Problems, partial: bool
) -> list[Annotation]:
    """The annotations whose video is there. With ``partial`` the others are left out without a word.

    Raises:
        UserError: If one is not, and problems are errors.
    """
    kept = []
    for row in rows:
        if row.video in frames:
            kept.append(row)
        elif not partial:
            problems.report(
                "annotations without their video", f"{row.place}: there is no video {row.video}"
            )
    return kept


def _table(
    rows: list[Annotation],
    clip: Ints,
    plan: Plan,
    frames: NDArray[Any],
    captions: bool,
    gallery: int,
    max_answers: int,
    max_words: int,
    seed: int,
) -> QueryTable:
    """Queries by device and segment, with vocabularies made from historical ones alone."""
    order = np.lexsort((np.arange(len(rows)), plan.segment, plan.device))
    rows, clip = [rows[k] for k in order], clip[order]
    device, segment = plan.device[order], plan.segment[order]
    historical = segment < plan.num_historical
    num_cells = plan.clip.shape[1]
    counts = np.bincount(device * num_cells + segment, minlength=plan.num_devices * num_cells)
    ends = np.cumsum(counts).reshape(plan.num_devices, num_cells)
    bounds = np.concatenate([np.concatenate([[0], ends[:-1, -1]])[:, None], ends], 1)

    texts = [_words(row.question)[:max_words] for row in rows]
    known = Counter(
        word for text, past in zip(texts, historical, strict=True) if past for word in text
    )
    vocabulary = {
        word: index for index, word in enumerate(sorted(known), 2)
    }  # 0 is padding, 1 any other word
    words = np.zeros((len(rows), max_words), np.int32)
    for row, text in zip(words, texts, strict=True):
        row[: len(text)] = [vocabulary.get(word, 1) for word in text]
    kinds = tuple(sorted({row.kind for row in rows}))
    answers = Counter(row.answer for row, past in zip(rows, historical, strict=True) if past)
    names = [UNSEEN, *(answer for answer, _ in answers.most_common(max_answers))]
    number = {name: index for index, name in enumerate(names)}
    answer = clip if captions else np.array([number.get(row.answer, 0) for row in rows], np.int64)
    context_id = plan.clip[:, plan.num_historical :]
    return QueryTable(
        clips=ReadClips(frames, clip, words, len(vocabulary) + 2),
        bounds=bounds,
        num_historical=plan.num_historical,
        answer=answer,
        kind=np.array([kinds.index(row.kind) for row in rows], np.int64),
        kinds=kinds,
        num_answers=0 if captions else max(2, len(names)),
        gallery=_galleries(plan, len(frames), gallery, seed) if captions else None,
        context_id=context_id,
        is_shift=np.diff(context_id, axis=1, prepend=context_id[:, :1]) != 0,
        has_unseen=not captions,
    )


def _galleries(plan: Plan, num_clips: int, size: int, seed: int) -> Ints:
    """``[n, H + S, G]``: the clip of each segment among others of its part (historical or stream)."""
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
