"""FedAvg: Flower's, with devices sampled by the run's seed and averaged in the order of nodes.

With a ``rule`` other than the mean it holds against some hostile devices; see README.md.

McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, AISTATS
2017, arXiv 1602.05629. With ``fine_tuning_steps`` each device goes on from every new global model
on its own data (FedAvg + fine-tuning).
"""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg as FlowerFedAvg

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import option
from cdc_flower.core.seeds import generator
from cdc_flower.devices.state import Settings
from cdc_flower.strategies.base import count_events, to_record
from cdc_flower.strategies.fedavg.aggregation import Layout
from cdc_flower.strategies.fedavg.options import RuleOptions
from cdc_flower.strategies.fedavg.rules.clipping import clipped
from cdc_flower.strategies.labelled_steps import layers_option
from cdc_flower.strategies.papers import paper
from cdc_flower.strategies.registry import Look, strategies
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import ok_replies

log = logging.getLogger("cdc_flower")

FEDAVG = paper(
    "FedAvg",
    key="mcmahan2017communication",
    author="McMahan, Brendan",
    title="Communication-Efficient Learning of Deep Networks from Decentralized Data",
    venue="Proceedings of AISTATS",
    year=2017,
    arxiv="1602.05629",
)
FEDPROX = paper(
    "FedProx",
    key="li2020fedprox",
    author="Li, Tian",
    title="Federated Optimization in Heterogeneous Networks",
    venue="Proceedings of Machine Learning and Systems (MLSys)",
    year=2020,
    arxiv="1812.06127",
)


@strategies.register(
    "fedavg",
    paper=FEDAVG,
    color="#56B4E9",
    up="model or head",
    down="model or head",
    labels="those of sampled devices",
    variants={"fedprox": Look(FEDPROX, "#CC79A7")},
    tiny={"num_train_devices": 3, "steps": 2, "rate": 0.03, "max_examples": 8},
)
@dataclass(eq=False, repr=False)
class FedAvg(RuleOptions, FlowerFedAvg):
    """Averages what sampled devices trained, by their examples, and sends it to every device.

    Devices are sampled by the seed of the run.

    Raises:
        ValueError: If a value is out of its range.
    """

    waits_for_all = True
    carried = (*RuleOptions.carried, "_last_update")
    passing = frozenset({"_has_news", "_order", "_sent"})

    layers: str = layers_option("all")
    num_train_devices: int = option(
        100,
        least=0,
        neutral=0,
        changes_training=False,
        doc="devices sampled for a round, at most all; 0 is static",
    )
    optimizer: str = option(
        "adam", choices=("adam", "sgd"), changes_training=False, doc="on each sampled device"
    )
    proximal_mu: float = option(
        0.0,
        least=0,
        below=math.inf,
        neutral=0,
        changes_training=False,
        doc="weight of FedProx's term ½‖w - wᵗ‖²; 0 is FedAvg",
    )
    fine_tuning_steps: int = option(
        0,
        least=0,
        neutral=0,
        changes_training=False,
        doc="gradient steps of each device on the adaptive layers of each new model; 0 is FedAvg",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        FlowerFedAvg.__init__(self, min_train_nodes=1, min_evaluate_nodes=1, min_available_nodes=1)
        self._has_news = False

    def initial_arrays(self) -> ArrayRecord:
        """Gives the adaptive layers, or the whole model; a rule forgets the rounds before."""
        self._sent = Layout({})
        if self.combines.remembers:
            self._last_update = np.zeros(0)
        model = self.deployment()
        names = self.cloud.model.adaptive if self.how.layers == "head" else model
        return to_record({name: model[name] for name in names})

    def settings(self) -> Settings:
        """Says how to train, deployed once beside the model."""
        return {**self.how.to_settings(), records.FINE_TUNING_STEPS: self.fine_tuning_steps}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Sends the global model to the devices of this round.

        Args:
            server_round: From 1; the segment is the one before.
            arrays: The global model, which is sent.
            config: Of Flower's round; not read.
            grid: Of the nodes.
        """
        self._has_news = False
        if not self.num_train_devices:
            return []
        node_ids = np.array(list(grid.get_node_ids()), np.uint64)
        order = generator(self.cloud.seed, "fedavg", server_round).permutation(len(node_ids))
        chosen = order[: self.num_train_devices]
        self._check_enough(len(chosen))
        self._order = {int(node_id): k for k, node_id in enumerate(node_ids)}
        self._sent = Layout({name: value.numpy() for name, value in arrays.items()})
        return self._to_nodes(records.TRAIN, node_ids[np.sort(chosen)], server_round, arrays)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Averages: Σ num_examples · parameters / Σ num_examples, in the order of the nodes.

        With another rule, or a limit of norms, it makes one update of those of all devices that
        had an example.
        """
        batch = ok_replies(replies)
        if batch is None:
            return None, None
        batch = batch.select(
            np.argsort([self._order[int(node_id)] for node_id in batch.node_ids], kind="stable")
        )
        weights = np.asarray(batch.metrics[records.METRICS][records.NUM_EXAMPLES], np.float64)
        if not weights.sum():
            return None, None
        made = (
            weighted_mean(batch, weights)
            if self.is_plain_mean
            else self._combined(batch.select(weights > 0), weights[weights > 0])
        )
        self._has_news = made is not None
        if made is None:
            return None, None
        return to_record(made), MetricRecord({records.NUM_EXAMPLES: int(weights.sum())})

    def _combined(self, batch: MessageBatch, weights: np.ndarray) -> Arrays | None:
        """Lets the rule make a new model; None, with a warning, where too few devices answered.

        A device cannot use more than ``max_examples``, so no more of those it claims count.

        Args:
            batch: Of devices with an example, in the order of the nodes.
            weights: ``[n]``, their examples.
        """
        least = self.combines.least_devices
        if len(batch) < least:
            log.warning(
                "rule=%s needs %d devices that trained, got %d: the model stays as it was",
                *(self.rule, least, len(batch)),
            )
            return None
        last = getattr(self, "_last_update", np.zeros(0))
        last = last if len(last) else np.zeros(self._sent.num_numbers)
        share = np.minimum(weights, self.max_examples)
        updates = clipped(self._sent.updates(batch), self.clip_norm)
        update = self.combines.combine(updates, share / share.sum(), last)
        if self.combines.remembers:
            self._last_update = update
        return self._sent.applied(update)

    def check_count(self, num_devices: int) -> None:
        """Refuses a fleet in which no round could have enough devices for the rule.

        Raises:
            UserError: If it is too small.
        """
        if self.num_train_devices:
            self._check_enough(min(self.num_train_devices, num_devices))

    def _check_enough(self, num_devices: int) -> None:
        """Refuses a rule that could make nothing of so many devices in a round.

        Raises:
            UserError: If there are too few.
        """
        least = self.combines.least_devices
        if num_devices < least:
            of = "" if self.num_hostile is None else f" with num_hostile={self.num_hostile}"
            raise UserError(
                f"rule={self.rule}{of} must have at least {least} devices in a round, "
                f"got {num_devices}"
            )

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Sends the new global model to every device; nothing if it is not new.

        Args:
            server_round: From 1; the segment is the one before.
            arrays: The global model, which is sent.
            config: Of Flower's round; not read.
            grid: Of the nodes.
        """
        node_ids = np.array(list(grid.get_node_ids()), np.uint64)
        return self._to_nodes(
            records.EVALUATE, node_ids, server_round, arrays if self._has_news else None
        )

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Counts the events scored on all devices; metrics are collected for the results."""
        return count_events(replies)

    def summary(self) -> None:
        """Logs nothing: the resolved configuration is in the run folder."""

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
    """Averages the devices' arrays ``[n, ...]``, weighted, in double precision."""
    share = weights / weights.sum()
    names = [*batch.arrays.get(records.ARRAYS, {}), *batch.shared.get(records.ARRAYS, {})]
    arrays = {name: batch.array(records.ARRAYS, name) for name in names}
    return {
        name: np.tensordot(share, value, axes=1).astype(value.dtype)
        for name, value in arrays.items()
    }
