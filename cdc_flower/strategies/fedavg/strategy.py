"""FedAvg: Flower's, with devices sampled by our seeded generator and averaged in the order of their nodes.

McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, AISTATS
2017, arXiv 1602.05629. With ``fine_tuning_steps`` each device goes on from every new global model
on its own data (FedAvg + fine-tuning).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg as FlowerFedAvg

from cdc_flower.core.seeds import generator
from cdc_flower.strategies.base import OnDevices, count_events, to_record
from cdc_flower.training.fit import LocalTraining
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import ok_replies


class FedAvg(OnDevices, FlowerFedAvg):
    """Averages what sampled devices trained, weighted by their examples, and sends it to every device.

    Args:
        layers: ``head`` trains and sends the adaptive layers only, ``all`` the whole model.
        num_train_devices: Devices sampled for each round, at most all. 0 is ``static``.
        steps: Gradient steps on each sampled device.
        rate: Learning rate; ``optimizer``: ``sgd`` or ``adam``.
        max_examples: Labels that a sampled device may use; ``num_negatives``: for each.
        proximal_mu: FedProx's term (Li et al., MLSys 2020). 0 is FedAvg.
        fine_tuning_steps: Gradient steps of each device on its own examples, on the adaptive layers
            of each new global model. 0 is FedAvg.
        seed: Of the sampling.

    Raises:
        ValueError: If a value is out of its range.
    """

    waits_for_all = True
    passing = frozenset({"_has_news", "_order"})

    def __init__(
        self,
        layers: str = "all",
        num_train_devices: int = 100,
        steps: int = 5,
        rate: float = 1e-3,
        optimizer: str = "adam",
        max_examples: int = 64,
        num_negatives: int = 4,
        proximal_mu: float = 0.0,
        fine_tuning_steps: int = 0,
        seed: int = 0,
    ) -> None:
        if num_train_devices < 0:
            raise ValueError(f"num_train_devices must be >= 0, got {num_train_devices}")
        if fine_tuning_steps < 0:
            raise ValueError(f"fine_tuning_steps must be >= 0, got {fine_tuning_steps}")
        self.fine_tuning_steps = fine_tuning_steps
        super().__init__(min_train_nodes=1, min_evaluate_nodes=1, min_available_nodes=1)
        self.how = LocalTraining(
            layers, steps, rate, optimizer, max_examples, num_negatives, proximal_mu
        )
        self.num_train_devices, self.seed = num_train_devices, seed
        self._has_news = False

    def initial_arrays(self) -> ArrayRecord:
        """The adaptive layers, or the whole model."""
        model = self.deployment()
        names = self.cloud.model.adaptive if self.how.layers == "head" else model
        return to_record({name: model[name] for name in names})

    def settings(self) -> dict[str, Any]:
        """How to train, deployed once beside the model."""
        return {**self.how.to_settings(), records.FINE_TUNING_STEPS: self.fine_tuning_steps}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The global model to the devices of this round."""
        self._has_news = False
        if not self.num_train_devices:
            return []
        node_ids = np.array(list(grid.get_node_ids()), np.uint64)
        chosen = generator(self.seed, "fedavg", server_round).permutation(len(node_ids))[
            : self.num_train_devices
        ]
        self._order = {int(node_id): k for k, node_id in enumerate(node_ids)}
        return self._to_nodes(records.TRAIN, node_ids[np.sort(chosen)], server_round, arrays)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Σ num_examples · parameters / Σ num_examples, in the order of the nodes."""
        batch = ok_replies(replies)
        if batch is None:
            return None, None
        batch = batch.select(
            np.argsort([self._order[int(node_id)] for node_id in batch.node_ids], kind="stable")
        )
        weights = np.asarray(batch.metrics[records.METRICS][records.NUM_EXAMPLES], np.float64)
        if not weights.sum():
            return None, None
        self._has_news = True
        return to_record(weighted_mean(batch, weights)), MetricRecord(
            {records.NUM_EXAMPLES: int(weights.sum())}
        )

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The new global model to every device; nothing if it is not new."""
        node_ids = np.array(list(grid.get_node_ids()), np.uint64)
        return self._to_nodes(
            records.EVALUATE, node_ids, server_round, arrays if self._has_news else None
        )

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Events scored on all devices; the metrics themselves are collected for the results table."""
        return count_events(replies)

    def summary(self) -> None:
        """Flower's: logs the settings. The resolved configuration is in the run folder."""

    def _to_nodes(
        self, message_type: str, node_ids: np.ndarray, server_round: int, arrays: ArrayRecord | None
    ) -> MessageBatch:
        shared = (
            {}
            if arrays is None
            else {records.ARRAYS: {name: value.numpy() for name, value in arrays.items()}}
        )
        clock = {records.CLOCK: {records.SEGMENT: server_round - 1}}
        return MessageBatch(message_type, node_ids, shared=shared, configs=clock)


def weighted_mean(batch: MessageBatch, weights: np.ndarray) -> Arrays:
    """The mean of the devices' arrays ``[n, ...]``, weighted; in double precision."""
    share = weights / weights.sum()
    names = [*batch.arrays.get(records.ARRAYS, {}), *batch.shared.get(records.ARRAYS, {})]
    arrays = {name: batch.array(records.ARRAYS, name) for name in names}
    return {
        name: np.tensordot(share, value, axes=1).astype(value.dtype)
        for name, value in arrays.items()
    }
