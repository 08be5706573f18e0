"""Jumps of devices from context to context: when, how suddenly, and to which.

Contexts of a device follow each other in a chain of links ``..., c(-1), c(0), c(1), ...``. In each
period one link ends: the device jumps to the next. ``share`` is the chance that an event is already
drawn by the next link's context. Segments may be negative: then they are historical.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cdc_flower.core.seeds import hashed_integers, hashed_uniform
from cdc_flower.tasks.data.contexts import ContextOptions

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def links_of(options: ContextOptions, phase: ArrayLike, segments: ArrayLike) -> tuple[Ints, Floats]:
    """Finds the link of the chain at some segments, and the share of the next one.

    Args:
        options: Of the law.
        phase: Segments from a jump to segment 0, ``[...]``.
        segments: Of any sign, ``[...]``; both broadcast.
    """
    link, place = np.divmod(np.asarray(segments) + np.asarray(phase), options.period)
    if options.shift == "abrupt":
        return link, np.zeros(link.shape)
    if options.shift == "blended":
        return link, place / options.period
    hold = max(1, options.period // 2)
    return link, np.maximum(place - hold + 1, 0) / (options.period - hold + 1)


def phases_of(options: ContextOptions) -> Ints:
    """Lists the phases that a device may have, each as likely as another.

    None of them jumps at segment 0, so that the first jump of a stream lies inside it.
    """
    if options.phase == "shared":
        return np.array([options.period // 2])
    return np.arange(1, options.period) if options.period > 1 else np.zeros(1, np.int64)


@dataclass(frozen=True)
class Jumps:
    """Gives contexts, by the options, the seed, the device and the segment alone.

    Attributes:
        options: Of the law.
        seed: Of the run.
    """

    options: ContextOptions
    seed: int

    def contexts(self, device_ids: ArrayLike, segments: ArrayLike) -> tuple[Ints, Ints, Floats]:
        """Finds the context of each segment, the next one, and the share of it, ``[n, S]`` each.

        Contexts that no historical event follows have the numbers from ``num_contexts`` on.

        Args:
            device_ids: ``[n]``.
            segments: ``[S]``, of any sign.
        """
        options = self.options
        device = np.asarray(device_ids, np.int64)[:, None]
        segment = np.asarray(segments, np.int64)[None, :]
        phases = phases_of(options)
        phase = phases[hashed_integers(self.seed, "jump-phase", device, high=len(phases))]
        link, share = links_of(options, phase, segment)
        old, new = self._seen(device, link)
        if options.unseen_from is not None:
            late = np.broadcast_to(segment >= options.unseen_from, link.shape)
            late_old, late_new = self._chain("unseen", device, link, options.num_unseen)
            old = np.where(late, options.num_contexts + late_old, old)
            new = np.where(late, options.num_contexts + late_new, new)
        return old, new, share

    def weights(self, device_ids: ArrayLike, segments: ArrayLike) -> Floats:
        """Weighs the contexts by which events are drawn: ``[n, S, contexts]``, rows sum to 1."""
        old, new, share = self.contexts(device_ids, segments)
        number = np.arange(self.options.num_all_contexts)
        from_old = (1 - share)[..., None] * (old[..., None] == number)
        return from_old + share[..., None] * (new[..., None] == number)

    def context_id(self, device_ids: ArrayLike, segments: ArrayLike) -> Ints:
        """Finds the dominant context ``[n, S]``; at equal shares, the older one."""
        old, new, share = self.contexts(device_ids, segments)
        return np.where(share > 0.5, new, old)

    def is_shift(self, device_ids: ArrayLike, segments: ArrayLike) -> NDArray[np.bool_]:
        """Tells ``[n, S]`` whether the dominant context differs from the segment's before."""
        segments = np.asarray(segments, np.int64)
        before = self.context_id(device_ids, segments - 1)
        return self.context_id(device_ids, segments) != before

    def _seen(self, device: Ints, link: Ints) -> tuple[Ints, Ints]:
        """Finds the contexts of a link and of the next among those that a device visits."""
        options = self.options
        num_visited = options.num_visited or options.num_contexts
        old, new = self._chain("seen", device, link, num_visited)
        if options.num_visited is None:
            return old, new
        draws = hashed_uniform(self.seed, "jump-visited", device, np.arange(options.num_contexts))
        visited = np.argsort(draws, axis=1)
        return np.take_along_axis(visited, old, 1), np.take_along_axis(visited, new, 1)

    def _chain(self, pool: str, device: Ints, link: Ints, size: int) -> tuple[Ints, Ints]:
        """Walks the chain to each link: two neighbors differ wherever there are two to choose from.

        Args:
            pool: Name of the contexts.
            device: ``[n, 1]``.
            link: ``[n, S]``.
            size: Contexts in the pool.
        """
        low, high = min(int(link.min(initial=0)), 0), max(int(link.max(initial=0)) + 1, 1)
        links = np.arange(low + 1, high + 1)[None, :]
        name = f"jump-{pool}"
        steps = 1 + hashed_integers(self.seed, name, device, links, high=max(size - 1, 1))
        chain = np.concatenate([np.zeros_like(device), np.cumsum(steps, axis=1)], axis=1)
        first = hashed_integers(self.seed, f"{name}-first", device, high=size)
        chain += first - chain[:, -low, None]
        old = np.take_along_axis(chain, link - low, axis=1)
        new = np.take_along_axis(chain, link - low + 1, axis=1)
        return old % size, new % size
