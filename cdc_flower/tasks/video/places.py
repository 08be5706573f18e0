"""Places where devices are: looks, events and names of things there.

A place is the hidden context of the embedded video. Its looks (background, light, noise, blur,
flicker) are in every pixel; what happens there (which digits, which motions, which questions) sets
the odds of each answer; and its names say which word stands for which digit and whether its cameras
are mirrored. So one frame tells where a device is, and where it is decides how an answer follows
from what is seen.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.seeds import generator

NUM_DIGITS, NUM_TYPES, NUM_MOTIONS = 10, 5, 3
CELL = 8  # pixels of a digit, a side
SIDE = 4  # cells of a frame, a side


@dataclass(frozen=True)
class Places:
    """All places; a pure function of the seed.

    Args:
        seed: Of the run.
        num_places: How many.
        noise: Of the cameras, standard deviation as a share of white, on average over places; 0 for
            none.
        flicker: How much the colored lamps on the walls change from frame to frame, on average; 0
            for none. With more of it one frame tells less of where it was taken.
        mix: How much digits, motions and questions differ in frequency; 0 makes all equally
            frequent everywhere.
        num_namings: Into how many ways to name digits and directions the places fall; 1: all name
            alike.
    """

    seed: int
    num_places: int = 12
    noise: float = 0.06
    flicker: float = 0.8
    mix: float = 0.7
    num_namings: int = 12

    @cached_property
    def background(self) -> NDArray[np.float32]:
        """Stripes of two colors ``[P, 32, 32, 3]``, with a period and an angle of its own."""
        rng, size = generator(self.seed, "place-background"), CELL * SIDE
        colors = rng.uniform(0.0, 0.4, (self.num_places, 2, 3))
        angle = rng.uniform(0, np.pi, self.num_places)
        period = rng.uniform(4, 16, self.num_places)
        y, x = np.mgrid[:size, :size]
        along = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
        wave = 0.5 + 0.5 * np.sin(2 * np.pi * along / period[:, None, None])
        both = colors[:, 0, None, None] * wave[..., None] + colors[:, 1, None, None] * (
            1 - wave[..., None]
        )
        return both.astype(np.float32)

    @cached_property
    def light(self) -> NDArray[np.float32]:
        """``[P, 3]``: gain of each color."""
        return (
            generator(self.seed, "place-light")
            .uniform(0.7, 1.1, (self.num_places, 3))
            .astype(np.float32)
        )

    @cached_property
    def noise_share(self) -> NDArray[np.float32]:
        """``[P]``: standard deviation of the camera's noise."""
        return (
            self.noise * generator(self.seed, "place-noise").uniform(0.5, 1.5, self.num_places)
        ).astype(np.float32)

    @cached_property
    def flicker_share(self) -> NDArray[np.float32]:
        """``[P]``: the gain of a color of the background in a frame is uniform in 1 ± this."""
        draws = generator(self.seed, "place-flicker").uniform(0.7, 1.3, self.num_places)
        return np.minimum(self.flicker * draws, 1.0).astype(np.float32)

    @cached_property
    def is_blurred(self) -> NDArray[np.bool_]:
        """``[P]``: whether the lens is out of focus."""
        return generator(self.seed, "place-blur").uniform(size=self.num_places) < 0.3

    def _mixture(self, name: str, size: int) -> NDArray[np.float64]:
        """``[P, size]``, rows sum to 1."""
        weights = np.exp(
            self.mix * generator(self.seed, f"place-{name}").normal(size=(self.num_places, size))
        )
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
    def naming(self) -> NDArray[np.int64]:
        """``[P]``: which way of naming a place has."""
        order = generator(self.seed, "place-naming").permutation(self.num_places)
        return order % min(self.num_namings, self.num_places)

    @cached_property
    def names(self) -> NDArray[np.int64]:
        """Words of digits ``[P, 10]``, of ten; the first naming is the order of digits."""
        ways = [np.arange(NUM_DIGITS)]
        for way in range(1, self.num_namings):
            ways.append(generator(self.seed, "naming", way).permutation(NUM_DIGITS))
        return np.stack(ways)[self.naming]

    @cached_property
    def is_mirrored(self) -> NDArray[np.bool_]:
        """Whether left in the picture is right in the place ``[P]``; never in the first naming."""
        draws = generator(self.seed, "naming-mirror").uniform(size=self.num_namings) < 0.5
        draws[0] = False
        return draws[self.naming]
