"""Scenes as pixels: digits of scikit-learn as sprites, seen through the camera of a place."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.seeds import generator, hashed_integers, hashed_uniform
from cdc_flower.tasks.video.places import CELL, NUM_DIGITS, SIDE, Places
from cdc_flower.tasks.video.scenes import Scenes

SIZE = CELL * SIDE  # of a frame, in pixels
_NOISE_FIELDS = 256


@cache
def sprites() -> tuple[NDArray[np.float32], ...]:
    """Loads pictures of each digit ``[s, 8, 8]`` in [0, 1] (Alpaydin and Kaynak, UCI, 1998)."""
    from sklearn.datasets import (
        load_digits,  # here, as it takes longer to import than most runs need
    )

    data = load_digits()
    images = (data.images / 16.0).astype(np.float32)
    return tuple(images[data.target == digit] for digit in range(NUM_DIGITS))


@cache
def noise_fields(seed: int) -> NDArray[np.float32]:
    """``[256, 32, 32, 3]``, normal noise of which each frame takes one."""
    return generator(seed, "camera-noise").standard_normal(
        (_NOISE_FIELDS, SIZE, SIZE, 3), dtype=np.float32
    )


def columns(scene: Scenes, num_frames: int) -> NDArray[np.int64]:
    """Finds the column of each digit in each frame ``[k, n, 4]``; it moves by two cells."""
    time = np.arange(num_frames) / max(1, num_frames - 1)
    steps = np.round(2 * time).astype(np.int64)
    return scene.start[:, None] + scene.motion[:, None] * steps[:, None]


def shapes(scene: Scenes, num_frames: int, historical: NDArray[np.bool_]) -> NDArray[np.float32]:
    """``[k, n, 32, 32]`` in [0, 1]: how much of each pixel is ink.

    Args:
        historical: ``[k]``; digits there are written by the first half of the examples, others by
            the second half.
    """
    k = len(scene.place)
    ink = np.zeros((k, num_frames, SIDE, CELL, SIDE, CELL), np.float32)
    column = columns(scene, num_frames)
    is_late = np.arange(num_frames) >= (num_frames + 1) // 2
    for row in range(SIDE):
        there = np.flatnonzero(scene.is_there[:, row])
        first = _written(scene.digit[there, row], scene.sprite[there, row], historical[there])
        turns = scene.bottom[there] == row
        last = first.copy()
        last[turns] = _written(
            scene.after[there[turns]], scene.sprite[there[turns], SIDE], historical[there[turns]]
        )
        for frame in range(num_frames):
            shown = last if is_late[frame] else first
            ink[there, frame, row, :, column[there, frame, row]] = shown
    return ink.reshape(k, num_frames, SIZE, SIZE)


def _written(
    digit: NDArray[np.int64], uniform: NDArray[np.float64], historical: NDArray[np.bool_]
) -> NDArray:
    """``[k, 8, 8]``: an example of each digit."""
    written = np.empty((len(digit), CELL, CELL), np.float32)
    for value, images in enumerate(sprites()):
        mine = np.flatnonzero(digit == value)
        half = len(images) // 2
        index = (uniform[mine] * half).astype(np.int64) + np.where(historical[mine], 0, half)
        written[mine] = images[index]
    return written


def render(
    places: Places,
    scene: Scenes,
    num_frames: int,
    device: NDArray[np.int64],
    segment: NDArray[np.int64],
    slot: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """``[k, n, 32, 32, 3]``: background with flicker and ink, times light, blurred, with noise.

    Args:
        device: ``[k]``, ``segment``: ``[k]`` (negative in the historical part) and ``slot``:
            ``[k]`` name the clip.
    """
    place, key = (
        scene.place,
        (device[:, None], segment[:, None], slot[:, None], np.arange(num_frames)),
    )
    ink = shapes(scene, num_frames, segment < 0)[..., None]
    colors = *(part[..., None] for part in key), np.arange(3)
    flicker = 2 * hashed_uniform(places.seed, "frame-flicker", *colors) - 1
    gain = (1 + places.flicker_share[place][:, None, None] * flicker).astype(np.float32)
    frames = places.background[place][:, None] * gain[:, :, None, None] * (1 - ink) + ink
    frames *= places.light_in(place, slot)[:, None, None, None]
    blurred = places.is_blurred[place]
    if blurred.any():
        frames[blurred] = _blur(frames[blurred])
    field = hashed_integers(places.seed, "frame-noise", *key, high=_NOISE_FIELDS)
    frames += (
        noise_fields(places.seed)[field] * places.noise_share[place][:, None, None, None, None]
    )
    return (frames.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _blur(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each pixel with its neighbors, weights 1, 2, 1 along each axis."""
    for axis in (2, 3):
        before, after = (np.roll(frames, step, axis) for step in (1, -1))
        edge: list[slice | int] = [slice(None)] * frames.ndim
        for neighbor, place in ((before, 0), (after, -1)):
            edge[axis] = place
            neighbor[tuple(edge)] = frames[tuple(edge)]
        frames = 0.25 * before + 0.5 * frames + 0.25 * after
    return frames
