"""Lets readers know a law: the chance of each next item, to those who may read truth.

``expected`` knows the context of the moment, ``forecast`` only the items that the device's own
model reads. Neither can be beaten by what knows no more.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Holds moments before ``T`` events.

    Attributes:
        device_ids: ``[T]``.
        segment: Of the stream.
        slots: ``[T]``, of each event among those of the segment.
        places: ``[T]``, of each event among all of its device.
        past: ``[T, P]``, the items before it, oldest first, padded on the right with 0; as many as
            the reader knows.
    """

    device_ids: Ints
    segment: int
    slots: Ints
    places: Ints
    past: NDArray[np.int32]

    @property
    def last(self) -> Ints:
        """Gives the items just before ``[T]``; 0 where nothing came before."""
        length = (self.past > 0).sum(axis=1)
        last = self.past[np.arange(len(length)), np.maximum(length - 1, 0)]
        return last.astype(np.int64)


class KnownLaw(Protocol):
    """Knows the law of a stream."""

    @property
    def memory(self) -> int:
        """Counts the items before an event on which its chance depends, the context given."""

    def expected(self, at: Moments, items: NDArray[np.int32]) -> Floats:
        """Tells the chance ``[T, C]`` that each of some items comes next, the context known.

        Args:
            at: With the last ``memory`` items.
            items: ``[T, C]``.
        """

    def forecast(self, at: Moments, items: NDArray[np.int32]) -> Floats:
        """Tells the same chance to one who knows the law and the window, but no context.

        Args:
            at: With the items of the window.
            items: ``[T, C]``.
        """
