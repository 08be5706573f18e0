"""Differences from what the receiver holds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.simulations.protocol.codecs.codec import About, ArrayCodec, Parts, codecs


@codecs.register("delta", stage="difference")
@dataclass(frozen=True)
class Delta(ArrayCodec):
    """Sends the difference from what the receiver holds; of bits, where no codec loses any."""

    def encode(self, value: NDArray, about: About) -> tuple[NDArray, Parts]:
        """Subtracts what the receiver holds, or takes the exclusive or of the bits."""
        if about.reference is None:
            return value, {}
        if about.is_lossy:
            return value - about.reference, {}
        return _bits(value) ^ _bits(about.reference), {}

    def decode(self, value: NDArray, about: About) -> NDArray:
        """Adds what the receiver holds, or turns the bits that differ."""
        if about.reference is None:
            return value
        if about.is_lossy:
            return value + about.reference
        return (value ^ _bits(about.reference)).view(np.float32)


def _bits(value: NDArray) -> NDArray[np.uint32]:
    return np.ascontiguousarray(value).view(np.uint32)
