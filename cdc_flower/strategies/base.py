"""Bases of the strategies: what is deployed before the first round, and quiet defaults.

A strategy is Flower's. ``prepare`` trains its cloud side on historical data, ``deployment`` is the
model that every device gets once, and from then on Flower's four verbs run the rounds: one round a
segment.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import check_options
from cdc_flower.core.packing import packed, unpacked
from cdc_flower.core.saveable import Saved, part_of, prefixed
from cdc_flower.devices.decoders.deployment import paths_of
from cdc_flower.devices.decoders.protocol import Decoder
from cdc_flower.devices.state import Settings
from cdc_flower.training.cloud import Cloud as Cloud
from cdc_flower.training.cloud import History as History
from cdc_flower.training.cloud import Stage as Stage
from cdc_flower.training.cloud import no_progress as no_progress
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import ok_replies


class OnDevices:
    """Declares what is deployed on devices before the first round, and what goes over the wire.

    A mix-in beside one of Flower's strategies. A method is a dataclass whose fields are its
    options; see :func:`~cdc_flower.core.options.option`.
    """

    #: Names of what devices may tell of their recent data that the method can read, any one of
    #: which is enough to play a task; empty where it asks for no such report, and so plays every
    #: task.
    reads: ClassVar[frozenset[str]] = frozenset()
    #: Whether it makes adaptive layers of what devices tell, which must then be a chain of linear
    #: layers; see ``can_be_generated`` of a device model.
    generates: ClassVar[bool] = False
    #: Whether the cloud makes layers for each device by itself, so that controls are played beside
    #: it: its devices with the mean of all, and each with those of another.
    personal: ClassVar[bool] = False
    #: Whether the cloud answers only when the last report is in, as averaging does.
    waits_for_all: ClassVar[bool] = False

    #: Names of attributes that a round reads and an earlier one wrote, so that a saved run needs
    #: them; those of Flower's own optimizers by default, where a strategy has them. They are made
    #: of numbers, texts, arrays, records, and lists and dicts of these.
    carried: ClassVar[tuple[str, ...]] = ("current_arrays", "momentum_vector", "m_t", "v_t")
    #: Names of attributes that rounds write and no later round reads.
    passing: ClassVar[frozenset[str]] = frozenset()

    #: The only records that its devices send up.
    uplink: ClassVar[frozenset[str]] = records.UPLINK

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If one has another type or is out of its range.
        """
        check_options(self)

    def prepare(self, cloud: Cloud) -> None:
        """Trains the cloud side on historical data. By default there is none to train."""
        self.cloud = cloud

    def check_count(self, num_devices: int) -> None:
        """Refuses a run of too few devices, before anything is trained. By default any will do.

        Raises:
            UserError: If there are too few.
        """

    def deployment(self) -> Arrays:
        """Gives the device model, static and adaptive layers; the base model by default."""
        return self.cloud.arrays()

    def initial_arrays(self) -> ArrayRecord:
        """Gives Flower's ``start`` the global model: the adaptive layers by default."""
        model = self.deployment()
        return to_record({name: model[name] for name in self.cloud.model.adaptive})

    def settings(self) -> Settings:
        """Lists what is deployed beside the model; nothing by default."""
        return {}

    def decoders(self) -> tuple[type[Decoder], ...]:
        """Lists decoders of its own payload records, deployed by import path. None by default."""
        return ()

    def downlink_records(self) -> frozenset[str]:
        """Lists the only records that it sends down: shared ones, and its decoders'."""
        return records.DOWNLINK.union(*(decoder.reads for decoder in self.decoders()))

    def state(self) -> Arrays:
        """Gives what the cloud learned while the stream went on, by name; a run folder keeps it."""
        return {}

    def set_state(self, state: Saved) -> None:
        """Goes on from what :meth:`state` gave; a strategy that has a state says how.

        Raises:
            TypeError: If it has one and does not say.
            UserError: If it has none.
        """
        if type(self).state is not OnDevices.state:
            raise TypeError(f"{type(self).__name__} must have set_state, as it has state")
        if state:
            name = next(iter(state))
            raise UserError(f"a saved strategy must be {type(self).__name__}, got one with {name}")

    def to_arrays(self) -> Arrays:
        """Takes everything that rounds have changed since the deployment and later ones read."""
        saved = prefixed("state", self.state())
        for name in self.carried:
            if name in vars(self):
                saved |= prefixed(name, packed(vars(self)[name]))
        return saved

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on from what :meth:`to_arrays` took, once it is prepared and deployed.

        Raises:
            UserError: If something is missing, or is of another strategy.
        """
        known = {"state", *(name for name in self.carried if name in vars(self))}
        unknown = sorted({key.partition("/")[0] for key in arrays} - known)
        if unknown:
            raise UserError(f"a saved strategy must be {type(self).__name__}, got {unknown[0]} too")
        self.set_state(part_of(arrays, "state"))
        for name in self.carried:
            if name in vars(self):
                vars(self)[name] = unpacked(part_of(arrays, name))


class HasSettings(Protocol):
    """A strategy that deploys settings beside the model."""

    def settings(self) -> Settings:
        """Lists what is deployed beside the model."""


def deployed_settings(strategy: HasSettings) -> dict[str, object]:
    """Takes a strategy's settings, and beside them the import paths of its decoders, if it has any.

    Raises:
        UserError: If a decoder cannot be imported by its path.
    """
    settings: dict[str, object] = dict(strategy.settings())
    decoders = strategy.decoders() if hasattr(strategy, "decoders") else ()
    return {**settings, records.DECODERS: paths_of(decoders)} if decoders else settings


class CloudStrategy(OnDevices, Strategy):
    """A strategy in which nothing is averaged. By default it sends nothing at all."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Asks nobody for anything.

        Args:
            server_round: From 1; the segment is the one before.
            arrays: The global model, which stays in the cloud.
            config: Of Flower's round; not read.
            grid: Of the nodes.
        """
        return []

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Learns nothing."""
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Lets every device predict the segment with what it has.

        Args:
            server_round: From 1; the segment is the one before.
            arrays: The global model, which stays in the cloud.
            config: Of Flower's round; not read.
            grid: Of the nodes.
        """
        return to_every_node(grid, records.EVALUATE, server_round)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Counts the events scored on all devices; metrics are collected for the results."""
        return count_events(replies)

    def summary(self) -> None:
        """Logs nothing: the resolved configuration is in the run folder."""


def to_every_node(grid: Grid, message_type: str, server_round: int) -> MessageBatch:
    """Makes one message to each node, with nothing in it but the number of the segment.

    Args:
        grid: Of the nodes.
        message_type: Which of the device app's functions answers.
        server_round: From 1; the segment is the one before.
    """
    node_ids = np.array(list(grid.get_node_ids()), np.uint64)
    return MessageBatch(
        message_type, node_ids, configs={records.CLOCK: {records.SEGMENT: server_round - 1}}
    )


def with_the_others(everyone: MessageBatch, down: Sequence[MessageBatch]) -> Iterable[Message]:
    """Joins messages to some devices with those to the others, which have nothing in them.

    Args:
        everyone: A message to each device, from :func:`to_every_node`.
        down: Messages of the same type to some of them, without a clock.

    Returns:
        One batch where one is enough, else several, as grids take them too.
    """
    batches = [batch.with_records(configs={**batch.configs, **everyone.configs}) for batch in down]
    told = [np.asarray(batch.node_ids, np.uint64) for batch in down]
    is_silent = ~np.isin(everyone.node_ids, np.concatenate([np.empty(0, np.uint64), *told]))
    if is_silent.any() or not batches:
        batches.append(everyone.select(is_silent))
    return batches[0] if len(batches) == 1 else cast(Iterable[Message], batches)


def count_events(replies: Iterable[Message]) -> MetricRecord | None:
    """Counts the events scored on the devices that answered; None where devices do not tell."""
    batch = ok_replies(replies)
    if batch is None:
        return MetricRecord({records.NUM_EXAMPLES: 0})
    told = batch.metrics.get(records.METRICS, {}).get(records.NUM_EXAMPLES)
    return None if told is None else MetricRecord({records.NUM_EXAMPLES: int(told.sum())})


def to_record(arrays: Arrays) -> ArrayRecord:
    """Makes Flower's record of arrays by name."""
    return ArrayRecord({name: Array(np.ascontiguousarray(value)) for name, value in arrays.items()})
