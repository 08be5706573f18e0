"""Embedded video: devices that move between places, with clips drawn as pixels and questions that can be answered.

Every clip is a query of its own. The hidden context of a device is the place where it is; see
:mod:`~cdc_flower.tasks.video.places`. All of it is a pure function of the seed.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.seeds import hashed_uniform
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


class DrawnClips:
    """Clips drawn when they are asked for. Clip and query ``(device, segment, slot)`` have the same number.

    Args:
        places: Where devices may be.
        place: ``[n, H + S]``, where each device is in each segment, historical ones first.
        num_historical: ``H``.
        clips_per_segment: How many there are.
        num_frames: Of a clip.
        captions: Whether queries are captions, and not questions.
        identical_frames: Whether every frame of a clip is its first one.
    """

    frame_shape: tuple[int, ...] = (SIZE, SIZE, 3)
    num_words, num_tokens = len(WORDS), NUM_TOKENS

    def __init__(
        self,
        places: Places,
        place: Ints,
        num_historical: int,
        clips_per_segment: int,
        num_frames: int,
        captions: bool = False,
        identical_frames: bool = False,
    ) -> None:
        self.places, self.place, self.num_historical = places, place, num_historical
        self.clips_per_segment, self.num_frames, self.captions = (
            clips_per_segment,
            num_frames,
            captions,
        )
        self.identical_frames = identical_frames
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

    def __getstate__(self) -> dict[str, Any]:
        """Without what is kept: that can be drawn again."""
        kept = None if self._kept is None else np.empty((0, *self._kept.shape[1:]), np.uint8)
        return {**self.__dict__, "_kept": kept, "_is_kept": np.zeros_like(self._is_kept)}

    def __setstate__(self, state: dict[str, Any]) -> None:
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
        """What happens in clips ``[k]``."""
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

    def frames(self, clip_ids: Ints) -> NDArray[Any]:
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


def digits_stream(
    num_devices: int,
    num_segments: int,
    *,
    seed: int,
    captions: bool = False,
    shift: str = "abrupt",
    period: int = 4,
    segment_s: float = 60.0,
    clips_per_segment: int = 8,
    history_segments: int = 18,
    num_frames: int = 3,
    num_contexts: int = 3,
    num_places: int = 12,
    num_namings: int = 12,
    noise: float = 0.06,
    flicker: float = 0.8,
    mix: float = 0.7,
    identical_frames: bool = False,
) -> VideoStream:
    """The stream of every device, and its historical part, which follows the same schedule before the stream.

    Args:
        num_devices: How many devices.
        num_segments: How many segments the stream has.
        seed: Of the run.
        captions: Whether devices search clips by captions; otherwise they answer questions.
        shift: Kind of shift; see :class:`~cdc_flower.tasks.shift.ShiftSchedule`. Places do not
            blend.
        period: Segments between two shifts.
        segment_s: How long a segment lasts, in seconds.
        clips_per_segment: Clips, and queries, of a device in a segment.
        history_segments: Segments before the stream.
        num_frames: Frames of a clip.
        num_contexts: Places among which a device moves.
        num_places: See :class:`Places`, as are all knobs below but the last.
        num_namings: Ways of naming.
        noise: Of cameras.
        flicker: Of the light.
        mix: How much frequencies differ.
        identical_frames: Whether every frame of a clip is its first one: then one frame tells all.

    Raises:
        UserError: If a value is out of its range.
    """
    least = {"clips_per_segment": 1, "history_segments": 1, "num_frames": 1, "num_contexts": 1}
    given = {"clips_per_segment": clips_per_segment, "history_segments": history_segments}
    given |= {"num_frames": num_frames, "num_contexts": num_contexts}
    for key, low in least.items():
        if given[key] < low:
            raise UserError(f"data.{key} must be >= {low}, got {given[key]}")
    if num_devices < 1:
        raise UserError(f"num_devices must be >= 1, got {num_devices}")
    if num_contexts > num_places:
        raise UserError(
            f"data.num_contexts must be <= data.num_places = {num_places}, got {num_contexts}"
        )
    places = Places(seed, num_places, noise, flicker, mix, num_namings)
    schedule = ShiftSchedule(shift, history_segments + num_segments, num_contexts, period, seed)
    devices = np.arange(num_devices)
    own = hashed_uniform(seed, "device-places", devices[:, None], np.arange(num_places)).argsort(1)[
        :, :num_contexts
    ]
    place = own[devices[:, None], schedule.context_id(devices, first_segment=-history_segments)]
    clips = DrawnClips(
        places, place, history_segments, clips_per_segment, num_frames, captions, identical_frames
    )
    edges = np.arange(place.shape[1] + 1) * clips_per_segment
    table = QueryTable(
        clips=clips,
        bounds=devices[:, None] * edges[-1] + edges,
        num_historical=history_segments,
        answer=clips.answer,
        kind=clips.kind,
        kinds=("caption",) if captions else TYPES,
        num_answers=0 if captions else len(ANSWERS),
        gallery=clips.answer.reshape(*place.shape, clips_per_segment) if captions else None,
        context_id=place[:, history_segments:],
        is_shift=np.diff(place, axis=1, prepend=place[:, :1])[:, history_segments:] != 0,
    )
    return VideoStream(table, segment_s=segment_s, seed=seed)
