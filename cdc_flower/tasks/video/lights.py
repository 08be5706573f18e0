"""Lights that tell how things are named, and whether cameras are mirrored.

The circle of hues is cut into as many arcs as there are ways of naming, and a light is bright or
dim. Which arc stands for which way is the same everywhere, so it can be learned at some places and
used at others. Lights of one arc differ.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

#: By how much the gains of the colors of a light differ, as a share of the largest.
TINT = 0.9
#: Share of an arc in whose middle hues are.
WITHIN = 0.5
#: Least gain of bright and of dim lights, and the width of either range.
BRIGHT, DIM, RANGE = 0.9, 0.45, 0.1


@dataclass(frozen=True)
class Lights:
    """Lights of ``P`` places.

    Attributes:
        num_namings: Arcs of the circle of hues.
        way: ``[P]``, the way of naming that a light tells.
        is_dim: ``[P]``, which tells a mirror.
        unit: ``[P, 2]`` in [0, 1): where a hue is within its arc, and a gain within its range.
    """

    num_namings: int
    way: NDArray[np.int64]
    is_dim: NDArray[np.bool_]
    unit: NDArray[np.float64]

    @cached_property
    def hue(self) -> NDArray[np.float64]:
        """``[P]`` in [0, 1): 0 is red, a third green, two thirds blue."""
        return (self.way + 0.5 + WITHIN * (self.unit[:, 0] - 0.5)) / self.num_namings

    @cached_property
    def gain(self) -> NDArray[np.float32]:
        """``[P, 3]``: of each color, at most 1, so that white shows the hue."""
        brightness = np.where(self.is_dim, DIM, BRIGHT) + RANGE * self.unit[:, 1]
        wave = np.cos(2 * np.pi * (self.hue[:, None] - np.arange(3) / 3))
        color = 1 - TINT / 2 * (1 - wave)
        return (brightness[:, None] * color).astype(np.float32)
