"""Scenes of clips: digits in rows, their motions, and the digit that the last one turns into.

A scene is a pure function of (seed, device, segment, place in the segment), so a device's clips do
not depend on how many other devices or segments there are. A frame has four rows; two to four of
them hold one digit each, which moves by two cells to the left or to the right, or stays. Halfway
the digit of the lowest row turns into another.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.seeds import hashed_integers, hashed_uniform
from cdc_flower.tasks.video.places import SIDE, Places

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Scenes:
    """``k`` scenes.

    Attributes:
        place: ``[k]``.
        is_there: ``[k, 4]``, rows that hold a digit.
        digit: ``[k, 4]``; ``after``: ``[k]``, what the lowest digit turns into.
        motion: ``[k, 4]``, -1 to the left of the picture, 0 none, 1 to the right.
        start: ``[k, 4]``, the column of the first frame.
        sprite: ``[k, 5]``, uniform numbers in [0, 1) that choose how each digit (and the last one)
            is written.
    """

    place: Ints
    is_there: NDArray[np.bool_]
    digit: Ints
    after: Ints
    motion: Ints
    start: Ints
    sprite: NDArray[np.float64]

    @property
    def count(self) -> Ints:
        """``[k]``: 2, 3 or 4."""
        return self.is_there.sum(1)

    @property
    def top(self) -> Ints:
        """``[k]``, the highest row that holds a digit; ``bottom``: the lowest."""
        return self.is_there.argmax(1)

    @property
    def bottom(self) -> Ints:
        """``[k]``, the lowest row that holds a digit."""
        return SIDE - 1 - self.is_there[:, ::-1].argmax(1)


def draw(shares: NDArray[np.float64], uniform: NDArray[np.float64]) -> Ints:
    """Draws a column in proportion to shares ``[k, c]`` for each uniform number ``[k, ...]``."""
    ends = np.cumsum(shares, 1).reshape(len(shares), *[1] * (uniform.ndim - 1), shares.shape[1])
    return (uniform[..., None] * ends[..., -1:] >= ends).sum(-1).clip(max=shares.shape[1] - 1)


def scenes(places: Places, place: Ints, device: Ints, segment: Ints, slot: Ints) -> Scenes:
    """Draws the scenes of some clips.

    Args:
        places: Where devices may be.
        place: ``[k]``, where each device is.
        device: ``[k]``.
        segment: ``[k]``; historical ones are negative.
        slot: ``[k]``, of the clip in the segment.
    """
    key = device[:, None], segment[:, None], slot[:, None]
    seed, row = places.seed, np.arange(SIDE)
    order = hashed_uniform(seed, "scene-rows", *key, row).argsort(1).argsort(1)
    count = 2 + hashed_integers(seed, "scene-count", *key, high=SIDE - 1)
    is_there = order < count
    digit = draw(places.digit_mix[place], hashed_uniform(seed, "scene-digit", *key, row))
    other = draw(places.digit_mix[place], hashed_uniform(seed, "scene-after", *key))[:, 0]
    bottom = SIDE - 1 - is_there[:, ::-1].argmax(1)
    before = digit[np.arange(len(place)), bottom]
    motion = draw(places.motion_mix[place], hashed_uniform(seed, "scene-motion", *key, row)) - 1
    free = hashed_integers(seed, "scene-start", *key, row, high=2)
    still = hashed_integers(seed, "scene-still", *key, row, high=SIDE)
    start = np.where(motion == 0, still, np.where(motion > 0, free, SIDE - 1 - free))
    return Scenes(
        place=place,
        is_there=is_there,
        digit=digit,
        after=np.where(other == before, (other + 1) % 10, other),
        motion=motion,
        start=start,
        sprite=hashed_uniform(seed, "scene-sprite", *key, np.arange(SIDE + 1)),
    )
