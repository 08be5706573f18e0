"""Embedded video: devices that move between places, with clips drawn as pixels.

Every clip is a query of its own. The hidden context of a device is the place where it is; see
:mod:`~cdc_flower.tasks.video.places`. All of it is a pure function of the seed.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.seeds import hashed_uniform
from cdc_flower.tasks.data.moving_digits import NUM_DEVICES, DigitsOptions
from cdc_flower.tasks.data.registry import StreamShape
from cdc_flower.tasks.shift import ShiftSchedule
from cdc_flower.tasks.video.places import Places
from cdc_flower.tasks.video.queries import Ints, QueryTable
from cdc_flower.tasks.video.questions import (
    ANSWERS,
    NUM_TOKENS,
    TYPES,
    WORDS,
    Told,
    ask,
    describe,
)
from cdc_flower.tasks.video.render import SIZE, render
from cdc_flower.tasks.video.scenes import Scenes, draw, scenes
from cdc_flower.tasks.video.stream import VideoStream

#: Clips that are drawn at a time: bounds the memory, changes nothing.
_CHUNK = 256
#: Clips are kept once they are drawn if all of them take no more than this many bytes.
_KEPT_BYTES = 2**30
#: Segments by which draws for reference lines come before the stream.
_LONG_BEFORE = 10**6


class DrawnClips:
    """Draws clips when they are asked for. The clip and the query of a slot have the same number.

    Args:
        places: Where devices may be.
        place: ``[n, H + S]``, where each device is in each segment, historical ones first.
        options: Of the clips.
        captions: Whether queries are captions, and not questions.
    """

    frame_shape: tuple[int, ...] = (SIZE, SIZE, 3)
    num_words, num_tokens = len(WORDS), NUM_TOKENS

    def __init__(
        self, places: Places, place: Ints, options: DigitsOptions, captions: bool = False
    ) -> None:
        self.places, self.place, self.options = places, place, options
        self.num_historical = options.history_segments
        self.clips_per_segment = clips_per_segment = options.clips_per_segment
        self.num_frames = num_frames = options.num_frames
        self.identical_frames = options.identical_frames
        self.captions = captions
        self.num_clips = self.num_queries = place.size * clips_per_segment
        told = [
            self._told(np.arange(k, min(k + 8192, self.num_clips)))
            for k in range(0, self.num_clips, 8192)
        ]
        self._tokens = np.concatenate([part.tokens for part in told])
        self.kind = np.concatenate([part.kind for part in told])
        self.answer = (
            np.arange(self.num_clips)
            if captions
            else np.concatenate([part.answer for part in told])
        )
        self._kept: NDArray[np.uint8] | None = None
        self._is_kept = np.zeros(self.num_clips, np.bool_)
        if self.num_clips * num_frames * SIZE * SIZE * 3 <= _KEPT_BYTES:
            self._kept = np.empty(
                (self.num_clips, num_frames, *self.frame_shape), np.uint8
            )  # filled as needed

    def __getstate__(self) -> dict[str, object]:
        """Without what is kept: that can be drawn again."""
        kept = None if self._kept is None else np.empty((0, *self._kept.shape[1:]), np.uint8)
        return {**self.__dict__, "_kept": kept, "_is_kept": np.zeros_like(self._is_kept)}

    def __setstate__(self, state: dict[str, object]) -> None:
        """With room for what will be kept."""
        self.__dict__.update(state)
        if self._kept is not None:
            self._kept = np.empty((self.num_clips, *self._kept.shape[1:]), np.uint8)

    def key(self, clip_ids: Ints) -> tuple[Ints, Ints, Ints]:
        """Device, segment (negative in the historical part) and slot."""
        cell, slot = np.divmod(np.asarray(clip_ids, np.int64), self.clips_per_segment)
        device, segment = np.divmod(cell, self.place.shape[1])
        return device, segment - self.num_historical, slot

    def scene(self, clip_ids: Ints) -> Scenes:
        """Makes the scenes of clips ``[k]``."""
        device, segment, slot = self.key(clip_ids)
        return scenes(
            self.places, self.place[device, segment + self.num_historical], device, segment, slot
        )

    def _told(self, clip_ids: Ints) -> Told:
        scene = self.scene(clip_ids)
        if self.captions:
            return describe(self.places, scene)
        uniform = hashed_uniform(self.places.seed, "question", *self.key(clip_ids))
        return ask(self.places, scene, draw(self.places.question_mix[scene.place], uniform))

    def frames(self, clip_ids: Ints) -> NDArray[np.uint8]:
        """``[k, n, 32, 32, 3]`` uint8."""
        ids = np.asarray(clip_ids, np.int64)
        if self._kept is None:
            return self._draw(ids)
        missing = np.unique(ids[~self._is_kept[ids]])
        if len(missing):
            self._kept[missing] = self._draw(missing)
            self._is_kept[missing] = True
        return self._kept[ids]

    def _draw(self, ids: Ints) -> NDArray[np.uint8]:
        drawn = np.empty((len(ids), self.num_frames, *self.frame_shape), np.uint8)
        for start in range(0, len(ids), _CHUNK):
            part = ids[start : start + _CHUNK]
            drawn[start : start + _CHUNK] = render(
                self.places, self.scene(part), self.num_frames, *self.key(part)
            )
        return np.repeat(drawn[:, :1], self.num_frames, 1) if self.identical_frames else drawn

    def clip_of(self, query_ids: Ints) -> Ints:
        """``[k]``: each query is about the clip of its number."""
        return np.asarray(query_ids, np.int64)

    def tokens(self, query_ids: Ints) -> NDArray[np.int32]:
        """``[k, 7]``."""
        return self._tokens[np.asarray(query_ids, np.int64)]


def places_of(options: DigitsOptions, seed: int) -> Places:
    """Makes the places of a stream; those that history does not show are as many again.

    Args:
        options: Of places and clips.
        seed: Of the run.
    """
    return Places(
        seed,
        options.num_places,
        options.noise,
        options.flicker,
        options.mix,
        options.num_namings,
        num_unseen=0 if options.unseen_from is None else options.num_places,
        systematic=options.systematic,
        white_balance=options.white_balance,
    )


def own_places(
    seed: int, devices: Ints, options: DigitsOptions, name: str = "device-places"
) -> Ints:
    """Draws the places ``[n, C]`` of each device, which differ.

    Args:
        seed: Of the run.
        devices: ``[n]``.
        options: How many there are, and how many a device has.
        name: Of the draw.
    """
    order = hashed_uniform(seed, name, devices[:, None], np.arange(options.num_places))
    return order.argsort(1)[:, : options.num_contexts]


def digits_stream(
    num_devices: int,
    num_segments: int,
    options: DigitsOptions | None = None,
    *,
    seed: int,
    captions: bool = False,
) -> VideoStream:
    """Makes the stream of every device, and its historical part, which follows the same schedule.

    Args:
        num_devices: At least 1.
        num_segments: Segments of the stream; those of the history come before it.
        options: Of places, clips and questions; None: their defaults.
        seed: Of the run.
        captions: Whether devices search clips by captions; otherwise they answer questions.

    Raises:
        UserError: If there is no device.
    """
    options = options or DigitsOptions()
    if num_devices < 1:
        raise UserError(f"num_devices must be >= 1, got {num_devices}")
    num_past = options.history_segments
    places = places_of(options, seed)
    schedule = ShiftSchedule(
        options.shift, num_past + num_segments, options.num_contexts, options.period, seed
    )
    devices = np.arange(num_devices)
    context_id = schedule.context_id(devices, first_segment=-num_past)
    place = own_places(seed, devices, options)[devices[:, None], context_id]
    if options.unseen_from is not None:
        is_unseen = np.arange(-num_past, num_segments) >= options.unseen_from
        further = own_places(seed, devices, options, "unseen-device-places")
        place = np.where(
            is_unseen, options.num_places + further[devices[:, None], context_id], place
        )
    clips = DrawnClips(places, place, options, captions)
    return VideoStream(table_of(clips, num_past), segment_s=options.segment_s, seed=seed)


def table_of(clips: DrawnClips, num_historical: int) -> QueryTable:
    """Lists the queries to clips that were drawn.

    Args:
        clips: Of every device.
        num_historical: Segments before the stream.
    """
    place, count = clips.place, clips.clips_per_segment
    edges = np.arange(place.shape[1] + 1) * count
    return QueryTable(
        clips=clips,
        bounds=np.arange(len(place))[:, None] * edges[-1] + edges,
        num_historical=num_historical,
        answer=clips.answer,
        kind=clips.kind,
        kinds=("caption",) if clips.captions else TYPES,
        num_answers=0 if clips.captions else len(ANSWERS),
        gallery=clips.answer.reshape(*place.shape, count) if clips.captions else None,
        context_id=place[:, num_historical:],
        opens_with_first=clips.places.white_balance > 0,
        is_shift=np.diff(place, axis=1, prepend=place[:, :1])[:, num_historical:] != 0,
    )


def drawn_at(clips: DrawnClips, num_segments: int) -> QueryTable:
    """Draws further queries: device ``p`` is always at place ``p``, long before all history.

    Args:
        clips: With the places.
        num_segments: Of each device.
    """
    places = np.arange(clips.places.num_places + clips.places.num_unseen)
    options = replace(clips.options, history_segments=_LONG_BEFORE)
    further = DrawnClips(
        clips.places, np.tile(places[:, None], (1, num_segments)), options, clips.captions
    )
    return table_of(further, num_segments)


def stream_of(options: DigitsOptions, shape: StreamShape) -> VideoStream:
    """Makes the stream of configured data; clips are drawn when they are asked for."""
    num_devices = NUM_DEVICES if shape.num_devices is None else shape.num_devices
    return digits_stream(
        num_devices, shape.num_segments, options, seed=shape.seed, captions=shape.captions
    )
