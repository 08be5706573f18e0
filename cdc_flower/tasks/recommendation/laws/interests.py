"""Lets readers know the law of shifting interests; the law itself is ``population.py``.

With the context known the chance of each item is exact. A reader of a window has particles:
contexts of devices that no stream has. Four things are not exact there: the particles' number, the
number of events of a segment (its mean), gradual shifts (the dominant context), and what may not
return (it is left out of the prediction, not of the likelihood).
"""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cdc_flower.tasks.data.shifting_interests import InterestsOptions
from cdc_flower.tasks.recommendation.laws.known import Floats, Ints, Moments
from cdc_flower.tasks.recommendation.laws.law import NO_DEVICE, NUM_PARTICLES
from cdc_flower.tasks.recommendation.laws.window import (
    Hypotheses,
    Timeline,
    aligned,
    posterior,
    predicted,
)
from cdc_flower.tasks.recommendation.population import Population, topic_weights
from cdc_flower.tasks.shift import ShiftSchedule


@dataclass(frozen=True)
class InterestsLaw:
    """Knows the law of shifting interests.

    Attributes:
        options: Checked.
        num_segments: Of the stream.
        seed: Of the run.
    """

    options: InterestsOptions
    num_segments: int
    seed: int

    @property
    def population(self) -> Population:
        """Gives the law of items and contexts."""
        return Population.of(self.options, self.seed)

    @property
    def memory(self) -> int:
        """Counts the items that may not return yet, at least the one that is followed."""
        return max(1, self._num_held_back)

    @property
    def _num_held_back(self) -> int:
        most = self.options.num_items // self.options.num_topics - 1
        return min(self.options.no_repeat, most)

    def expected(self, at: Moments, items: NDArray[np.int32]) -> Floats:
        """Tells the chance ``[T, C]`` of items, the context known; see :class:`KnownLaw`."""
        options, population = self.options, self.population
        devices, row = np.unique(at.device_ids, return_inverse=True)
        schedule = ShiftSchedule(
            options.shift, self.num_segments, options.num_contexts, options.period, self.seed
        )
        weights = schedule.weights(devices)[:, at.segment]
        allowed = np.ones((len(row), options.num_items + 1))
        if self._num_held_back:
            allowed[np.arange(len(row))[:, None], at.past] = 0
        allowed[:, 0] = 0
        last = population.item_topics()[at.last]
        parts = [(np.ones(len(devices)), weights)] if schedule.blends else _one_by_one(weights)
        none = np.zeros_like(weights)
        table = options.noise * _chances(population, devices, row, none, last, allowed)
        for share, blend in parts:
            if share.any():
                clean = _chances(population, devices, row, blend, last, allowed)
                table += (1 - options.noise) * share[row, None] * clean
        return np.take_along_axis(table, items.astype(np.int64), axis=1)

    def forecast(self, at: Moments, items: NDArray[np.int32]) -> Floats:
        """Tells the chance ``[T, C]`` of items to a reader of a window; see :class:`KnownLaw`."""
        hypotheses = _hypotheses(self)
        chances = np.zeros(items.shape)
        for slot in np.unique(at.slots):
            rows = np.flatnonzero(at.slots == slot)
            timelines = self._timelines(at.segment, int(slot), at.past.shape[1])
            weights = posterior(hypotheses, timelines, at.past[rows])
            chances[rows] = predicted(hypotheses, weights, at.last[rows], items[rows])
        if not self._num_held_back:
            return chances
        recent = aligned(at.past)[:, -self.memory :]
        return np.where((items[:, :, None] == recent[:, None, :]).any(-1), 0.0, chances)

    def _timelines(self, segment: int, slot: int, length: int) -> list[tuple[float, Timeline]]:
        """Lists what may have happened in a window, with the chance of each.

        Args:
            segment: Of the next event.
            slot: Of it.
            length: Of the window.
        """
        options = self.options
        segments = segment + (slot + np.arange(-length, 1)) // options.events_per_segment
        still = options.shift == "none" or options.num_contexts == 1
        found: Counter[Timeline] = Counter()
        for phase in range(1 if still else options.period):
            links = segments * 0 if still else (segments + phase) // options.period
            size = length + 1
            found[Timeline(tuple(links - links[0]), (0.0,) * size, (True,) * size)] += 1
        return [(number / found.total(), timeline) for timeline, number in found.items()]


@lru_cache(maxsize=2)
def _hypotheses(law: InterestsLaw) -> Hypotheses:
    """Draws contexts of devices that no stream has; every segment needs them again."""
    population, count = law.population, NUM_PARTICLES
    devices, weights = NO_DEVICE + np.arange(count), np.zeros((count, population.num_contexts))
    weights[:, 0] = 1
    class_of, num_topics = population.item_topics(), population.num_topics
    chances = np.zeros((num_topics + 1, population.num_items + 1, count), np.float32)
    for topic in range(num_topics + 1):
        last = np.full(count, topic if topic < num_topics else -1)
        chances[topic] = population.probabilities(devices, weights, last).T
    return Hypotheses(chances, np.where(class_of < 0, num_topics, class_of))


def _one_by_one(weights: Floats) -> list[tuple[Floats, Floats]]:
    """Lists the share ``[n]`` of each context, with weights ``[n, contexts]`` of it alone."""
    each = np.eye(weights.shape[1])
    return [(weights[:, k], np.broadcast_to(each[k], weights.shape)) for k in range(len(each))]


def _chances(
    population: Population, devices: Ints, row: Ints, weights: Floats, last: Ints, allowed: Floats
) -> Floats:
    """Tells the chance of every item ``[T, num_items + 1]`` without noise.

    Args:
        population: The law.
        devices: ``[n]``.
        row: ``[T]``, of each event's device among them.
        weights: ``[n, contexts]``, how contexts blend; all 0: popularity alone.
        last: ``[T]``, the last topic; -1 if there is none.
        allowed: ``[T, num_items + 1]``, 0 for what may not come.
    """
    mass = population.popularity()[population.topic_items()].sum(axis=1)
    interests, habits = population.interests(devices)[row], population.habits(devices)[row]
    topic = topic_weights(population, mass, interests, habits, weights[row], last)
    taste = np.einsum("nc,ncd->nd", weights, population.tastes(devices))
    item = (population.popularity() * np.exp(taste @ population.item_places().T))[row] * allowed
    one_hot = (population.item_topics()[:, None] == np.arange(population.num_topics)).astype(float)
    within = item / np.maximum((item @ one_hot) @ one_hot.T, 1e-300)
    chances: Floats = within * ((topic / topic.sum(axis=1, keepdims=True)) @ one_hot.T)
    return chances
