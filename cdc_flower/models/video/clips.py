"""Clips and what is asked of them, as a device holds them: pixels or features, and words. No answer is here."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Clips(Protocol):
    """Clips by number, and queries (questions or captions) by number. The same calls give the same arrays."""

    num_clips: int
    num_queries: int
    num_frames: int  # n, of each clip
    frame_shape: tuple[int, ...]  # (height, width, 3) of uint8 pixels, or (F,) of features
    num_words: int  # words are 1..num_words - 1; 0 is padding
    num_tokens: int  # W, the length of a query

    def frames(self, clip_ids: NDArray[np.int64]) -> NDArray[Any]:
        """``[k, n, *frame_shape]``, uint8 pixels or float32 features."""

    def clip_of(self, query_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """``[k]``, the clip that each query is about."""

    def tokens(self, query_ids: NDArray[np.int64]) -> NDArray[np.int32]:
        """``[k, W]`` words of each query, padded on the right with 0."""
