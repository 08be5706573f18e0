"""The base of laws with hidden contexts: what draws events and says the chance of each next one."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cdc_flower.core.seeds import hashed_uniform
from cdc_flower.tasks.data.contexts import ContextOptions
from cdc_flower.tasks.recommendation.laws.jumps import Jumps

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
#: (context ``[n]``, last item ``[n]`` or 0 where nothing came before, uniform draws ``[n, 3]``) ->
#: the next items ``[n]``.
Drawer = Callable[[Ints, Ints, Floats], Ints]


@dataclass(frozen=True)
class ContextLaw(ABC):
    """Draws the next item of a device from the one before it and the context of the moment.

    Attributes:
        options: Checked.
        seed: Of the run.
    """

    options: ContextOptions
    seed: int

    @property
    def jumps(self) -> Jumps:
        """Gives the contexts of devices in time."""
        return Jumps(self.options, self.seed)

    @abstractmethod
    def drawer(self, device_ids: Ints) -> Drawer:
        """Makes what draws the next items of these devices, once for all of their events."""

    @abstractmethod
    def chances(
        self, device_ids: Ints, weights: Floats, last: Ints, items: NDArray[np.int32]
    ) -> Floats:
        """Tells the exact chance ``[T, C]`` that each of some items comes next.

        Args:
            device_ids: ``[T]``.
            weights: ``[T, contexts]``, as :meth:`Jumps.weights` gives them.
            last: ``[T]`` items; 0 where nothing came before.
            items: ``[T, C]``.
        """

    def segments(self, device_ids: Ints, segments: Ints) -> NDArray[np.int32]:
        """Draws all events ``[n, S, events_per_segment]`` of neighboring segments.

        Args:
            device_ids: ``[n]``.
            segments: ``[S]``, of which the first is the oldest of the device.
        """
        size = self.options.events_per_segment
        old, new, share = self.jumps.contexts(device_ids, segments)
        draw, last = self.drawer(device_ids), np.zeros(len(device_ids), np.int64)
        drawn = np.zeros((len(device_ids), len(segments), size), np.int32)
        for block, segment in enumerate(segments):
            draws = event_draws(self.seed, device_ids[:, None], segment, np.arange(size))
            is_new = draws[..., 0] < share[:, block, None]
            for slot in range(size):
                context = np.where(is_new[:, slot], new[:, block], old[:, block])
                last = draw(context, last, draws[:, slot, 1:])
                drawn[:, block, slot] = last
        return drawn


def event_draws(seed: int, device: ArrayLike, segment: ArrayLike, slot: ArrayLike) -> Floats:
    """Draws four uniform numbers ``[..., 4]`` of each event: context, and three for the item.

    Args:
        seed: Of the run.
        device: ``[...]``, and so are ``segment`` and ``slot``: they broadcast.
        segment: Of any sign.
        slot: Of the event in the segment.
    """
    indices = [np.asarray(index, np.int64)[..., None] for index in (device, segment, slot)]
    return hashed_uniform(seed, "context-event", *indices, np.arange(4))


def picked(cumulated: Floats, draws: Floats) -> Ints:
    """Picks a place of each row of cumulated chances ``[n, k]`` by a uniform number ``[n]``."""
    threshold = np.minimum(draws * cumulated[..., -1], np.nextafter(cumulated[..., -1], 0))
    return (cumulated <= threshold[..., None]).sum(axis=-1)
