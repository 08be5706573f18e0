"""Zstandard, as Arrow has it."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cdc_flower.simulations.protocol.codecs.codec import BytesCodec, codecs


@codecs.register("zstd", stage="bytes")
@dataclass(frozen=True)
class Zstd(BytesCodec):
    """Compresses all bytes of a message, without loss."""

    def compress(self, raw: NDArray[np.uint8]) -> list[bytes]:
        """Compresses each message by itself."""
        codec = pa.Codec("zstd")
        return [codec.compress(row.tobytes(), asbytes=True) for row in raw]

    def expand(self, blobs: list[bytes], size: int) -> list[bytes]:
        """Makes the bytes of each message again."""
        codec = pa.Codec("zstd")
        return [codec.decompress(blob, size, asbytes=True) for blob in blobs]
