"""Hands updates to Flower's own robust strategies, each with the same weight."""

import numpy as np
from flwr.app import Message
from flwr.serverapp.strategy import FedAvg as FlowerFedAvg

from cdc_flower.core.options import option
from cdc_flower.strategies.fedavg.rules.rule import Floats
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

UPDATE = "update"


def replies_of(updates: Floats) -> list[Message]:
    """Makes a reply of each update ``[n, P]``, as if each device had one example."""
    batch = MessageBatch(
        records.TRAIN,
        np.arange(len(updates)),
        arrays={records.ARRAYS: {UPDATE: updates}},
        metrics={records.METRICS: {records.NUM_EXAMPLES: np.ones(len(updates), np.int64)}},
        is_reply=True,
    )
    return list(batch)


def combined(strategy: FlowerFedAvg, updates: Floats) -> Floats:
    """Lets a strategy of Flower's aggregate updates.

    Args:
        strategy: Such as ``FedMedian()``.
        updates: ``[n, P]``.

    Raises:
        RuntimeError: If it makes nothing of them.
    """
    arrays, _ = strategy.aggregate_train(1, replies_of(updates))
    if arrays is None:
        raise RuntimeError(f"{type(strategy).__name__} made nothing of {len(updates)} updates")
    return arrays[UPDATE].numpy()


def hostile_option() -> int | None:
    """Makes the option of how many devices of a round a rule takes to be hostile."""
    made: int | None = option(
        None,
        changes_training=False,
        least=0,
        doc="f, hostile devices that krum, multi_krum and bulyan expect in a round; null: as many "
        "as each can bear among those that answered",
    )
    return made
