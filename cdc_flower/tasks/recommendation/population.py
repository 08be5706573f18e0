"""Law of embedded recommendation data: items, topics, tastes, interests and habits from a seed."""

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cdc_flower.core.seeds import hashed_integers, hashed_uniform
from cdc_flower.tasks.data.shifting_interests import InterestsOptions

_TASTE_SIZE = 4


@dataclass(frozen=True)
class Population:
    """The law that items and devices follow; all of it is a pure function of the seed.

    Args:
        seed: Of the run.
        num_items: Items are 1..num_items.
        num_topics: Topics on the ring, of equal size up to one item.
        num_contexts: Contexts of each device.
        num_habits: A habit is 1..num_habits places on the ring.
        popularity_exponent: Of Zipf's law; 0 makes all items equally popular.
        interest_strength: Spread of the interests; 0 makes all topics equally interesting.
        sequence_strength: How strong the habit is; 0 makes events of a segment independent.
        taste_strength: Spread of the taste; 0 leaves only popularity within a topic.
        noise: Share of events drawn from popularity alone, in [0, 1]; 0 for none.
        no_repeat: An item does not return within this many events of its device, as far as its
            topic holds enough others; 0 lets it.
    """

    seed: int
    num_items: int = 600
    num_topics: int = 12
    num_contexts: int = 3
    num_habits: int = 4
    popularity_exponent: float = 0.5
    interest_strength: float = 1.5
    sequence_strength: float = 2.5
    taste_strength: float = 1.0
    noise: float = 0.1
    no_repeat: int = 10

    @classmethod
    def of(cls, options: InterestsOptions, seed: int) -> "Population":
        """Takes the law from the options of embedded data, which are checked."""
        names = [each.name for each in fields(cls) if each.name != "seed"]
        return cls(seed, **{name: getattr(options, name) for name in names})

    def popularity(self) -> NDArray[np.float64]:
        """``[num_items + 1]``: the share of each item among noise, 0 for the padding."""
        rank = np.argsort(
            np.argsort(hashed_uniform(self.seed, "item-rank", np.arange(1, self.num_items + 1)))
        )
        share = np.concatenate([[0.0], (rank + 1.0) ** -self.popularity_exponent])
        return share / share.sum()

    def topic_items(self) -> NDArray[np.int32]:
        """``[num_topics, size]``: the items of each topic, padded on the right with 0."""
        order = (
            np.argsort(hashed_uniform(self.seed, "item-topic", np.arange(1, self.num_items + 1)))
            + 1
        )
        size = -(-self.num_items // self.num_topics)
        padded = np.concatenate(
            [order, np.zeros(size * self.num_topics - self.num_items, dtype=order.dtype)]
        )
        return padded.reshape(size, self.num_topics).T.astype(np.int32)

    def item_topics(self) -> NDArray[np.int64]:
        """``[num_items + 1]``: the topic of each item, -1 for the padding."""
        topics, table = np.full(self.num_items + 1, -1, dtype=np.int64), self.topic_items()
        topics[table] = np.arange(self.num_topics)[:, None]
        topics[0] = -1
        return topics

    def item_places(self) -> NDArray[np.float64]:
        """``[num_items + 1, 4]``: where each item lies in the space of tastes."""
        return hashed_normal(
            self.seed, "item-place", np.arange(self.num_items + 1)[:, None], np.arange(_TASTE_SIZE)
        )

    def interests(self, device_ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """``[n, num_contexts, num_topics]``: the interest of each context in each topic."""
        contexts, topics = np.arange(self.num_contexts)[:, None], np.arange(self.num_topics)
        return self.interest_strength * hashed_normal(
            self.seed, "interest", device_ids[:, None, None], contexts, topics
        )

    def habits(self, device_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Draws habits ``[n, num_contexts]``: places from the last topic to the next."""
        contexts = np.arange(self.num_contexts)
        return 1 + hashed_integers(
            self.seed, "habit", device_ids[:, None], contexts, high=self.num_habits
        )

    def tastes(self, device_ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Draws ``[n, num_contexts, 4]`` so that ``taste . place`` has its strength."""
        contexts, sizes = np.arange(self.num_contexts)[:, None], np.arange(_TASTE_SIZE)
        tastes = hashed_normal(self.seed, "taste", device_ids[:, None, None], contexts, sizes)
        return self.taste_strength / math.sqrt(_TASTE_SIZE) * tastes

    def probabilities(
        self,
        device_ids: NDArray[np.int64],
        weights: NDArray[np.float64],
        last_topic: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Expects the next item as an oracle of the context; but for ``no_repeat`` none is better.

        Args:
            device_ids: ``[n]``.
            weights: ``[n, num_contexts]``, how the contexts blend; one 1 and else 0 for a single
                context.
            last_topic: ``[n]``, of the item before; -1 if there is none.

        Returns:
            ``[n, num_items + 1]``, rows sum to 1; column 0, the padding, is 0.
        """
        mass = self.popularity()[self.topic_items()].sum(axis=1)
        topic = topic_weights(
            self, mass, self.interests(device_ids), self.habits(device_ids), weights, last_topic
        )
        taste = np.einsum("nc,ncd->nd", weights, self.tastes(device_ids))
        item = self.popularity() * np.exp(taste @ self.item_places().T)
        one_hot = (self.item_topics()[:, None] == np.arange(self.num_topics)).astype(np.float64)
        within = item / np.maximum((item @ one_hot) @ one_hot.T, 1e-300)
        clean = within * ((topic / topic.sum(axis=1, keepdims=True)) @ one_hot.T)
        return (1 - self.noise) * clean + self.noise * self.popularity()


def topic_weights(
    population: Population,
    mass: NDArray[np.float64],
    interests: NDArray[np.float64],
    habits: NDArray[np.int64],
    weights: NDArray[np.float64],
    last_topic: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Weighs the next topic ``[n, num_topics]``, unnormalized.

    Args:
        population: The law.
        mass: ``[num_topics]``, popularity of each topic.
        interests: ``[n, num_contexts, num_topics]``.
        habits: ``[n, num_contexts]``.
        weights: ``[n, num_contexts]``, how the contexts blend.
        last_topic: ``[n]``; -1 if there is none.
    """
    logits = np.einsum("nc,nck->nk", weights, interests)
    bonus = population.sequence_strength * (last_topic >= 0)[:, None] * weights
    rows = np.arange(len(logits))
    for context in range(weights.shape[1]):
        logits[rows, (last_topic + habits[:, context]) % population.num_topics] += bonus[:, context]
    return mass * np.exp(logits)


def hashed_normal(seed: int, name: str, *indices: ArrayLike) -> NDArray[np.float64]:
    """Standard normal numbers, one for each index (Box and Muller, 1958)."""
    radius = np.sqrt(-2 * np.log1p(-hashed_uniform(seed, f"{name}/radius", *indices)))
    return radius * np.cos(2 * np.pi * hashed_uniform(seed, f"{name}/angle", *indices))
