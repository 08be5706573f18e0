"""Draws places where devices are: looks, events and names of things there.

A place is the hidden context of the embedded video. Its looks (background, light, noise, blur,
flicker) are in every pixel; what happens there (which digits, which motions, which questions) sets
the odds of each answer; and its names say which word stands for which digit and whether its cameras
are mirrored. So one frame tells where a device is, and where it is decides how an answer follows
from what is seen.

Names and mirrors are drawn by chance, which no frame of a place tells that was never seen before.
Of a systematic place they follow from its light: the hue tells the way of naming, and a dim light
that cameras are mirrored (:mod:`~cdc_flower.tasks.video.lights`). That can be learned, and holds
where nobody has been.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.seeds import generator
from cdc_flower.tasks.video.lights import Lights

NUM_DIGITS, NUM_TYPES, NUM_MOTIONS = 10, 5, 3
CELL = 8  # pixels of a digit, a side
SIDE = 4  # cells of a frame, a side
BALANCED = 0.9  # gain of all colors where cameras have taken the light out of the picture


@dataclass(frozen=True)
class Places:
    """Holds all places ``[P]``, those that history shows first; a pure function of the seed.

    Args:
        seed: Of the run.
        num_places: How many history shows.
        noise: Of the cameras, standard deviation as a share of white, on average over places; 0 for
            none.
        flicker: How much the colored lamps on the walls change from frame to frame, on average; 0
            for none. With more of it one frame tells less of where it was taken.
        mix: How much digits, motions and questions differ in frequency; 0 makes all equally
            frequent everywhere.
        num_namings: Into how many ways to name digits and directions the places fall; 1: all name
            alike.
        num_unseen: How many further places there are, which no historical clip shows; they change
            nothing of the others. 0 for none.
        systematic: Share of places whose names and mirrors follow from their light; the others have
            theirs by chance. 0: all have, and lights tell nothing.
        white_balance: How far cameras have taken the light out of the picture after the clip that a
            segment opens with, in [0, 1]. 0: not at all; 1: only that clip shows it.
    """

    seed: int
    num_places: int = 12
    noise: float = 0.06
    flicker: float = 0.8
    mix: float = 0.7
    num_namings: int = 12
    num_unseen: int = 0
    systematic: float = 0.0
    white_balance: float = 0.0

    def _drawn(
        self, name: str, draw: Callable[[np.random.Generator, int], NDArray[Any]]
    ) -> NDArray[Any]:
        """Draws for the places of history, and apart from them for the unseen ones.

        Args:
            name: Of what is drawn.
            draw: Draws for that many places.
        """
        known = draw(generator(self.seed, name), self.num_places)
        if not self.num_unseen:
            return known
        return np.concatenate([known, draw(generator(self.seed, "unseen", name), self.num_unseen)])

    @cached_property
    def background(self) -> NDArray[np.float32]:
        """Draws stripes of two colors ``[P, 32, 32, 3]``, with a period and an angle of its own."""
        return self._drawn("place-background", _stripes).astype(np.float32)

    @cached_property
    def _lights(self) -> Lights:
        """Draws lights that tell a way of naming and a mirror, as where places are systematic."""

        def way(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
            return rng.permutation(count) % self.num_namings

        def unit(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
            return rng.uniform(size=(count, 2))

        def is_dim(rng: np.random.Generator, count: int) -> NDArray[np.bool_]:
            return rng.permutation(count) % 2 == 1

        return Lights(
            num_namings=self.num_namings,
            way=self._drawn("light-way", way),
            is_dim=self._drawn("light-dim", is_dim),
            unit=self._drawn("light-unit", unit),
        )

    @cached_property
    def light(self) -> NDArray[np.float32]:
        """``[P, 3]``: gain of each color."""
        if self.systematic:
            return self._lights.gain
        return self._drawn(
            "place-light", lambda rng, count: rng.uniform(0.7, 1.1, (count, 3))
        ).astype(np.float32)

    def light_in(self, place: NDArray[np.int64], slot: NDArray[np.int64]) -> NDArray[np.float32]:
        """Gives the light ``[k, 3]`` that clips show: a segment opens with that of slot 0.

        Args:
            place: ``[k]``, where they are taken.
            slot: ``[k]``, of the clip in its segment.
        """
        light = self.light[place]
        if not self.white_balance:
            return light
        balanced = light + self.white_balance * (BALANCED - light)
        return np.where(slot[:, None] == 0, light, balanced).astype(np.float32)

    @cached_property
    def noise_share(self) -> NDArray[np.float32]:
        """``[P]``: standard deviation of the camera's noise."""
        draws = self._drawn("place-noise", lambda rng, count: rng.uniform(0.5, 1.5, count))
        return (self.noise * draws).astype(np.float32)

    @cached_property
    def flicker_share(self) -> NDArray[np.float32]:
        """``[P]``: the gain of a color of the background in a frame is uniform in 1 ± this."""
        draws = self._drawn("place-flicker", lambda rng, count: rng.uniform(0.7, 1.3, count))
        return np.minimum(self.flicker * draws, 1.0).astype(np.float32)

    @cached_property
    def is_blurred(self) -> NDArray[np.bool_]:
        """``[P]``: whether the lens is out of focus."""
        return self._drawn("place-blur", lambda rng, count: rng.uniform(size=count)) < 0.3

    def _mixture(self, name: str, size: int) -> NDArray[np.float64]:
        """``[P, size]``, rows sum to 1."""
        draws = self._drawn(f"place-{name}", lambda rng, count: rng.normal(size=(count, size)))
        weights = np.exp(self.mix * draws)
        return weights / weights.sum(1, keepdims=True)

    @cached_property
    def digit_mix(self) -> NDArray[np.float64]:
        """``[P, 10]``."""
        return self._mixture("digits", NUM_DIGITS)

    @cached_property
    def motion_mix(self) -> NDArray[np.float64]:
        """``[P, 3]``: left, still, right."""
        return self._mixture("motions", NUM_MOTIONS)

    @cached_property
    def question_mix(self) -> NDArray[np.float64]:
        """``[P, 5]``: the types of questions."""
        return self._mixture("questions", NUM_TYPES)

    @cached_property
    def is_systematic(self) -> NDArray[np.bool_]:
        """``[P]``: where names and mirrors follow from the light; the exact share, but rounding."""
        return self._drawn(
            "place-systematic",
            lambda rng, count: rng.permutation(count) < round(self.systematic * count),
        )

    @cached_property
    def _naming_by_chance(self) -> NDArray[np.int64]:
        """``[P]``: ways of naming that nothing tells."""
        return self._drawn(
            "place-naming",
            lambda rng, count: rng.permutation(count) % min(self.num_namings, count),
        )

    @cached_property
    def naming(self) -> NDArray[np.int64]:
        """``[P]``: which way of naming a place has."""
        if not self.systematic:
            return self._naming_by_chance
        return np.where(self.is_systematic, self._lights.way, self._naming_by_chance)

    @cached_property
    def names(self) -> NDArray[np.int64]:
        """Draws words of digits ``[P, 10]``, of ten; the first naming is the order of digits."""
        ways = [np.arange(NUM_DIGITS)]
        for way in range(1, self.num_namings):
            ways.append(generator(self.seed, "naming", way).permutation(NUM_DIGITS))
        return np.stack(ways)[self.naming]

    @cached_property
    def is_mirrored(self) -> NDArray[np.bool_]:
        """Tells whether left in the picture is right in the place ``[P]``.

        By chance the first naming never is; where all name alike no place is.
        """
        draws = generator(self.seed, "naming-mirror").uniform(size=self.num_namings) < 0.5
        draws[0] = False
        by_chance = draws[self._naming_by_chance]
        if not self.systematic or self.num_namings == 1:
            return by_chance
        return np.where(self.is_systematic, self._lights.is_dim, by_chance)


def _stripes(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Draws stripes of two colors for some places."""
    size = CELL * SIDE
    colors = rng.uniform(0.0, 0.4, (count, 2, 3))
    angle = rng.uniform(0, np.pi, count)
    period = rng.uniform(4, 16, count)
    y, x = np.mgrid[:size, :size]
    along = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * along / period[:, None, None])
    return colors[:, 0, None, None] * wave[..., None] + colors[:, 1, None, None] * (
        1 - wave[..., None]
    )
