"""Regimes: each context says which topic follows which.

Topics have ``items_per_topic`` items, with popularity ~ rank ** -popularity_exponent within a
topic. A context is a derangement pi of topics, drawn from the seed (shared) or from the seed and
the device (own):

    p(topic | context, last topic) = follow [topic = pi(last topic)] + (1 - follow) / num_topics
    p(item | topic)                ~ popularity(item)

So one pair of items tells the context, and no item alone tells anything of it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.seeds import hashed_uniform
from cdc_flower.tasks.data.regimes import RegimesOptions
from cdc_flower.tasks.recommendation.laws.law import ContextLaw, Drawer, Floats, Ints, picked


@dataclass(frozen=True)
class Regimes(ContextLaw):
    """Draws the next topic by the regime, then an item of it by popularity.

    Attributes:
        options: Checked.
        seed: Of the run.
    """

    options: RegimesOptions
    seed: int

    def topics(self) -> Ints:
        """Gives the topic of each item ``[num_items + 1]``; -1 for the padding."""
        table = self.topic_items()
        topics = np.full(self.options.num_items + 1, -1, np.int64)
        topics[table] = np.arange(len(table))[:, None]
        return topics

    def topic_items(self) -> Ints:
        """Lists the items of each topic ``[num_topics, items_per_topic]``, most popular first."""
        draws = hashed_uniform(self.seed, "regime-item", np.arange(1, self.options.num_items + 1))
        order = np.argsort(draws) + 1
        return order.reshape(self.options.num_topics, self.options.items_per_topic)

    def classes(self) -> tuple[Ints, Ints]:
        """Gives topics: what comes next depends on the topic of the last item alone."""
        topics = self.topics()
        topics[0] = self.options.num_topics
        return topics, np.append(self.topic_items()[:, 0], 0)

    def popularity(self) -> Floats:
        """Gives the chance of each place within a topic ``[items_per_topic]``."""
        share = (np.arange(self.options.items_per_topic) + 1.0) ** -self.options.popularity_exponent
        return share / share.sum()

    def maps(self, device_ids: Ints) -> Ints:
        """Gives the topic that follows each, ``[n, contexts, num_topics]``; shared ones are alike.

        A permutation that leaves a topic where it is is drawn again.
        """
        is_own = self.options.contexts == "own"
        owner = (device_ids if is_own else np.full(1, -1))[:, None, None]
        context = np.arange(self.options.num_all_contexts)[:, None]
        topic = np.arange(self.options.num_topics)
        found = np.argsort(hashed_uniform(self.seed, "regime", owner, context, 0, topic), axis=-1)
        attempt = 0
        while (wrong := (found == topic).any(-1)).any():
            attempt += 1
            row, place = np.nonzero(wrong)
            indices = owner[row, 0], context[place], attempt, topic
            draws = hashed_uniform(self.seed, "regime", *indices)
            found[row, place] = np.argsort(draws, axis=-1)
        return np.broadcast_to(found, (len(device_ids), *found.shape[1:]))

    def drawer(self, device_ids: Ints) -> Drawer:
        """Draws by the maps of these devices."""
        maps, topics, items = self.maps(device_ids), self.topics(), self.topic_items()
        popularity, num_topics = np.cumsum(self.popularity())[None], self.options.num_topics
        rows = np.arange(len(device_ids))

        def draw(context: Ints, last: Ints, draws: Floats) -> Ints:
            """Draws the next item ``[n]`` of each device, which may follow the topic of the last.

            Args:
                context: ``[n]``, of each device.
                last: ``[n]``, its last item; 0: none.
                draws: ``[n, 3]``, uniform numbers.
            """
            followed = maps[rows, context, topics[last]]
            any_topic = np.minimum((draws[:, 1] * num_topics).astype(np.int64), num_topics - 1)
            follows = (draws[:, 0] < self.options.follow) & (last > 0)
            topic = np.where(follows, followed, any_topic)
            drawn: Ints = items[topic, picked(popularity, draws[:, 2])]
            return drawn

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
        topics, num_topics = self.topics(), self.options.num_topics
        owners, row = np.unique(device_ids, return_inverse=True)
        maps = self.maps(owners)
        followed = maps[row, :, topics[last]]  # [T, contexts]
        chance = np.zeros((len(last), num_topics))
        rows = np.arange(len(last))
        for context in range(weights.shape[1]):
            chance[rows, followed[:, context]] += weights[:, context]
        follow = np.where(last > 0, self.options.follow, 0.0)[:, None]
        chance = follow * chance + (1 - follow) / num_topics
        return np.take_along_axis(chance, topics[items], axis=1) * self._within()[items]

    def _within(self) -> Floats:
        """Gives the chance of each item within its topic ``[num_items + 1]``; 0 for the padding."""
        within = np.zeros(self.options.num_items + 1)
        within[self.topic_items()] = self.popularity()
        return within
