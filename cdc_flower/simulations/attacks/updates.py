"""Attacks on averaging: what a hostile device adds to the model that it was sent.

They need an update, so they do nothing to strategies whose devices send none.
"""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.saveable import Arrays
from cdc_flower.simulations.attacks.attack import Exchange, HostileAttack
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Updates:
    """Updates ``trained - sent`` of one exchange, a row of numbers for each device.

    Attributes:
        own: ``[m, P]``, those that hostile devices would have sent.
        honest: ``[h, P]``, those of the others; those of all where there is no other.
        draws: Of the exchange.
    """

    own: Floats
    honest: Floats
    draws: np.random.Generator

    @property
    def num_devices(self) -> int:
        """Counts the devices of the exchange."""
        return len(self.own) + len(self.honest)


@dataclass(eq=False)
class UpdateAttack(HostileAttack):
    """Changes the updates of hostile devices."""

    @abstractmethod
    def made(self, updates: Updates) -> Floats:
        """Makes the updates ``[m, P]`` that hostile devices send."""

    def attacked(self, exchange: Exchange) -> MessageBatch:
        """Puts other updates in the place of those that hostile devices trained."""
        replies = exchange.replies
        hostile = exchange.is_hostile
        names = [
            *replies.arrays.get(records.ARRAYS, {}),
            *replies.shared.get(records.ARRAYS, {}),
        ]
        if not names or not exchange.sent:
            return replies
        trained = {name: replies.array(records.ARRAYS, name) for name in names}
        rows = rows_of(trained, exchange.sent)
        honest = rows if hostile.all() else rows[~hostile]
        made = self.made(Updates(rows[hostile], honest, exchange.draws))
        return with_updates(replies, trained, exchange, made)


def rows_of(trained: Arrays, sent: Arrays) -> Floats:
    """Makes ``trained - sent`` ``[k, P]`` in double precision.

    Args:
        trained: ``[k, ...]`` by name.
        sent: Likewise.
    """
    return np.concatenate(
        [
            (value.astype(np.float64) - sent[name]).reshape(len(value), -1)
            for name, value in trained.items()
        ],
        axis=1,
    )


def with_updates(
    replies: MessageBatch, trained: Arrays, exchange: Exchange, made: Floats
) -> MessageBatch:
    """Puts updates ``[m, P]`` into the replies of hostile devices, as large as their type holds.

    Args:
        replies: ``[k]``.
        trained: What they hold, ``[k, ...]`` by name.
        exchange: With what was sent.
        made: Of the hostile ones.
    """
    hostile = np.flatnonzero(exchange.is_hostile)
    ends = np.cumsum([value[0].size for value in trained.values()])
    arrays = {}
    for (name, value), part in zip(trained.items(), np.split(made, ends[:-1], axis=1), strict=True):
        whole = exchange.sent[name][hostile] + part.reshape(len(hostile), *value.shape[1:])
        largest = np.finfo(value.dtype).max
        arrays[name] = np.array(value)
        arrays[name][hostile] = np.clip(whole, -largest, largest)
    return replies.without({records.ARRAYS}).with_records(arrays={records.ARRAYS: arrays})
