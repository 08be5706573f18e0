"""Whole numbers of eight bits."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.simulations.protocol.codecs.codec import About, ArrayCodec, Parts, codecs

SCALE = "scale"


@codecs.register("int8", stage="numbers", is_lossy=True)
@dataclass(frozen=True)
class Int8(ArrayCodec):
    """Sends whole numbers from -127 to 127, and one scale a channel: a row, or a vector."""

    def encode(self, value: NDArray, about: About) -> tuple[NDArray, Parts]:
        """Divides each channel by its largest magnitude, and rounds to a 127th of it."""
        axes = tuple(range(2, value.ndim)) if value.ndim > 2 else tuple(range(1, value.ndim))
        scale = np.abs(value).max(axes, keepdims=True, initial=0.0) / np.float32(127)
        whole = np.round(value / np.where(scale > 0, scale, 1)).astype(np.int8)
        return whole, {SCALE: scale.astype(np.float32)}

    def decode(self, value: NDArray, about: About) -> NDArray:
        """Multiplies each channel by its scale."""
        return np.asarray(value * about.parts[SCALE])
