"""Holds clips and what is asked of them, as a device has them: frames and words.

Frames are pixels or features. No answer is here.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Clips(Protocol):
    """Gives clips by number, and queries (questions or captions) by number.

    The same calls give the same arrays.
    """

    num_clips: int
    num_queries: int
    num_frames: int  # n, of each clip
    frame_shape: tuple[int, ...]  # (height, width, 3) of uint8 pixels, or (F,) of features
    num_words: int  # words are 1..num_words - 1; 0 is padding
    num_tokens: int  # W, the length of a query

    def frames(self, clip_ids: NDArray[np.int64]) -> NDArray:
        """Gives frames ``[k, n, *frame_shape]``, uint8 pixels or float32 features."""

    def clip_of(self, query_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Gives the clip ``[k]`` that each query is about."""

    def tokens(self, query_ids: NDArray[np.int64]) -> NDArray[np.int32]:
        """Gives the words ``[k, W]`` of each query, padded on the right with 0."""
