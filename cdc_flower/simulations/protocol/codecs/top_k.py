"""The largest numbers of an array alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.options import option
from cdc_flower.simulations.protocol.codecs.codec import About, ArrayCodec, Parts, codecs

INDEX = "index"


@codecs.register("top_k", stage="selection", is_lossy=True)
@dataclass(frozen=True)
class TopK(ArrayCodec):
    """Sends the numbers that are largest in magnitude, and where they are; the others are 0."""

    share: float = option(
        0.1, above=0, most=1, neutral=1, doc="of the numbers of each array that top_k sends"
    )

    def encode(self, value: NDArray, about: About) -> tuple[NDArray, Parts]:
        """Selects the largest numbers, at least one, in the order of their places."""
        flat = value.reshape(len(value), -1)
        size = flat.shape[1]
        count = max(1, int(np.ceil(self.share * size)))
        where = np.sort(np.argpartition(-np.abs(flat), count - 1, 1)[:, :count], 1)
        return np.take_along_axis(flat, where, 1), {INDEX: where.astype(index_dtype(size))}

    def decode(self, value: NDArray, about: About) -> NDArray:
        """Puts the numbers in their places."""
        flat = np.zeros((len(value), int(np.prod(about.shape))), np.float32)
        np.put_along_axis(flat, about.parts[INDEX].astype(np.int64), value, 1)
        return flat.reshape(len(value), *about.shape)


def index_dtype(size: int) -> type[np.unsignedinteger]:
    """Tells the smallest type that holds every index below ``size``."""
    if size <= 2**8:
        return np.uint8
    return np.uint16 if size <= 2**16 else np.uint32
