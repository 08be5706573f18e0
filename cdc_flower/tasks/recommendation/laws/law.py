"""The base of laws with hidden contexts: what draws events and says the chance of each next one."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cdc_flower.core.seeds import hashed_uniform
from cdc_flower.tasks.data.contexts import ContextOptions
from cdc_flower.tasks.recommendation.laws.jumps import Jumps, links_of, phases_of
from cdc_flower.tasks.recommendation.laws.known import Moments
from cdc_flower.tasks.recommendation.laws.window import (
    Hypotheses,
    Timeline,
    posterior,
    predicted,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
#: Devices that no stream has: their contexts are draws of what a device may have.
NO_DEVICE = 2**40
NUM_PARTICLES = 400
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

    @abstractmethod
    def classes(self) -> tuple[Ints, Ints]:
        """Gives the class of each item, and an item of each class, by which chances differ.

        Returns:
            ``[num_items + 1]``, the last class for the padding; and ``[classes + 1]``, 0 for that.
        """

    @property
    def memory(self) -> int:
        """Counts the items before an event on which its chance depends, the context given."""
        return 1

    def expected(self, at: Moments, items: NDArray[np.int32]) -> Floats:
        """Tells the chance ``[T, C]`` of items, the context known; see :class:`KnownLaw`."""
        devices, row = np.unique(at.device_ids, return_inverse=True)
        segments, column = np.unique(self._segments(at.places), return_inverse=True)
        weights = self.jumps.weights(devices, segments)[row, column]
        return self.chances(at.device_ids, weights, at.last, items)

    def forecast(self, at: Moments, items: NDArray[np.int32]) -> Floats:
        """Tells the chance ``[T, C]`` of items to a reader of a window; see :class:`KnownLaw`."""
        chances = np.zeros(items.shape)
        segments = self._segments(at.places)
        for segment in np.unique(segments):
            hypotheses = self.hypotheses(int(segment))
            for slot in range(self.options.events_per_segment):
                own = at.places % self.options.events_per_segment == slot
                rows = np.flatnonzero((segments == segment) & own)
                if not len(rows):
                    continue
                timelines = self._timelines(int(segment), slot, at.past.shape[1])
                weights = posterior(hypotheses, timelines, at.past[rows])
                chances[rows] = predicted(hypotheses, weights, at.last[rows], items[rows])
        return chances

    def hypotheses(self, segment: int) -> Hypotheses:
        """Lists the contexts that the segment may have: all of them, or draws of devices' own."""
        late = self.options.unseen_from
        return _hypotheses(self, is_late=late is not None and segment >= late)

    def contexts_to_tell(self, *, is_late: bool) -> Hypotheses:
        """Lists the contexts of history, or the unseen ones."""
        options = self.options
        first = options.num_contexts if is_late else 0
        if options.contexts == "own":
            devices, context = NO_DEVICE + np.arange(NUM_PARTICLES), np.full(NUM_PARTICLES, first)
        else:
            context = first + np.arange(options.num_unseen if is_late else options.num_contexts)
            devices = np.zeros(len(context), np.int64)
        weights = np.eye(options.num_all_contexts)[context]
        class_of, examples = self.classes()
        every = np.arange(1, options.num_items + 1, dtype=np.int32)
        items = np.broadcast_to(every, (len(context), len(every)))
        chances = np.zeros((len(examples), len(every) + 1, len(context)), np.float32)
        for number, example in enumerate(examples):
            last = np.full(len(context), example)
            chances[number, 1:] = self.chances(devices, weights, last, items).T
        return Hypotheses(chances, class_of)

    def _segments(self, places: Ints) -> Ints:
        """Finds the segments of events by their places among all of their device."""
        return places // self.options.events_per_segment - self.options.num_past

    def _timelines(self, segment: int, slot: int, length: int) -> list[tuple[float, Timeline]]:
        """Lists what may have happened in a window, with the chance of each.

        Args:
            segment: Of the next event.
            slot: Of it.
            length: Of the window.
        """
        options = self.options
        back = np.arange(-length, 1)
        segments = segment + (slot + back) // options.events_per_segment
        counts = np.ones(len(segments), np.bool_)
        if options.unseen_from is not None:  # what came before tells nothing of unseen contexts
            counts = (segments >= options.unseen_from) == (segment >= options.unseen_from)
        found: Counter[Timeline] = Counter()
        for phase in phases_of(options):
            links, shares = links_of(options, phase, segments)
            found[Timeline(tuple(links - links[0]), tuple(shares), tuple(counts))] += 1
        total = found.total()
        return [(number / total, timeline) for timeline, number in found.items()]

    def simulated(self, num_draws: int, length: int) -> NDArray[np.int32]:
        """Draws windows ``[contexts, num_draws, length]`` that each context made on its own."""
        count = self.options.num_all_contexts
        context = np.repeat(np.arange(count), num_draws)
        devices = NO_DEVICE + np.tile(np.arange(num_draws), count)
        draw, last = self.drawer(devices), np.zeros(len(context), np.int64)
        drawn = np.zeros((len(context), length), np.int32)
        for place in range(-1, length):  # the first one follows nothing, and is left out
            indices = devices, context, place + 1
            last = draw(context, last, event_draws(self.seed, *indices)[:, 1:])
            if place >= 0:
                drawn[:, place] = last
        return drawn.reshape(count, num_draws, length)

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


@lru_cache(maxsize=4)
def _hypotheses(law: ContextLaw, *, is_late: bool) -> Hypotheses:
    """Keeps the tables, which every segment and part of the devices needs again."""
    return law.contexts_to_tell(is_late=is_late)


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
