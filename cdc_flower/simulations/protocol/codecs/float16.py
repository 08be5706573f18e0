"""Half precision."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.simulations.protocol.codecs.codec import About, ArrayCodec, Parts, codecs

#: Of half precision.
LARGEST_FLOAT16 = 65504.0


@codecs.register("float16", stage="numbers", is_lossy=True)
@dataclass(frozen=True)
class Float16(ArrayCodec):
    """Sends numbers in half precision."""

    def encode(self, value: NDArray, about: About) -> tuple[NDArray, Parts]:
        """Rounds to half precision; what is too large becomes the largest number that there is."""
        return np.clip(value, -LARGEST_FLOAT16, LARGEST_FLOAT16).astype(np.float16), {}

    def decode(self, value: NDArray, about: About) -> NDArray:
        """Gives the numbers in single precision."""
        return value.astype(np.float32)
