"""Cohorts: each context is a direction of taste among the places of items.

Items have places in R^place_size, standard normal, and a popularity ~ rank ** -popularity_exponent.
A context is a unit direction, drawn from the seed (shared) or from the seed and the device (own):

    p(item | context) ~ popularity(item) * exp(taste_strength * direction . place(item))

Choices of a segment are independent given the context. Directions that history never showed are of
the same kind: what history teaches of places serves there, what it teaches of directions does not.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.seeds import hashed_uniform
from cdc_flower.tasks.data.cohorts import CohortsOptions
from cdc_flower.tasks.recommendation.laws.law import ContextLaw, Drawer, Floats, Ints, picked
from cdc_flower.tasks.recommendation.population import hashed_normal


@dataclass(frozen=True)
class Cohorts(ContextLaw):
    """Draws items by popularity and by how far they lie in the direction of taste.

    Attributes:
        options: Checked.
        seed: Of the run.
    """

    options: CohortsOptions
    seed: int

    def classes(self) -> tuple[Ints, Ints]:
        """Gives one class of all items and one of none: the last item changes nothing."""
        return (np.arange(self.options.num_items + 1) == 0).astype(np.int64), np.array([1, 0])

    def popularity(self) -> Floats:
        """Gives the share of each item without a taste ``[num_items]``."""
        number = np.arange(1, self.options.num_items + 1)
        rank = np.argsort(np.argsort(hashed_uniform(self.seed, "cohort-rank", number)))
        share = (rank + 1.0) ** -self.options.popularity_exponent
        return share / share.sum()

    def places(self) -> Floats:
        """Gives where items lie ``[num_items, place_size]``."""
        item = np.arange(1, self.options.num_items + 1)[:, None]
        return hashed_normal(self.seed, "cohort-place", item, np.arange(self.options.place_size))

    def directions(self, device_ids: Ints) -> Floats:
        """Gives the unit direction of each context ``[n or 1, contexts, place_size]``."""
        owner = device_ids if self.options.contexts == "own" else np.full(1, -1)
        context = np.arange(self.options.num_all_contexts)[:, None]
        size = np.arange(self.options.place_size)
        drawn = hashed_normal(self.seed, "cohort-direction", owner[:, None, None], context, size)
        return drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)

    def tables(self, device_ids: Ints) -> Floats:
        """Gives the chance of each item in each context ``[n or 1, contexts, num_items]``."""
        along = self.directions(device_ids) @ self.places().T
        weight = self.popularity() * np.exp(self.options.taste_strength * along)
        return weight / weight.sum(axis=-1, keepdims=True)

    def drawer(self, device_ids: Ints) -> Drawer:
        """Draws by the tables of these devices."""
        cumulated = np.cumsum(self.tables(device_ids), axis=-1)
        rows = np.arange(len(device_ids)) if len(cumulated) > 1 else np.zeros(1, np.int64)

        def draw(context: Ints, last: Ints, draws: Floats) -> Ints:
            """Draws the next item ``[n]`` of each device.

            Args:
                context: ``[n]``, of each device.
                last: ``[n]``, its last item; 0: none.
                draws: ``[n, 3]``, uniform numbers.
            """
            return 1 + picked(cumulated[rows, context], draws[:, 2])

        return draw

    def chances(
        self, device_ids: Ints, weights: Floats, last: Ints, items: NDArray[np.int32]
    ) -> Floats:
        """Tells exact chances ``[T, C]`` of items.

        Args:
            device_ids: ``[T]``.
            weights: ``[T, contexts]``.
            last: ``[T]`` items; 0 where nothing came before.
            items: ``[T, C]``.
        """
        if self.options.contexts == "shared":
            table = weights @ self.tables(device_ids)[0]
        else:
            owners, row = np.unique(device_ids, return_inverse=True)
            table = np.einsum("tc,tci->ti", weights, self.tables(owners)[row])
        return np.take_along_axis(table, items.astype(np.int64) - 1, axis=1)
