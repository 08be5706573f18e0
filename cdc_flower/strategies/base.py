"""Bases of the strategies: what is deployed before the first round, and quiet defaults.

A strategy is Flower's. ``prepare`` trains its cloud side on historical data, ``deployment`` is the
model that every device gets once, and from then on Flower's four verbs run the rounds: one round a
segment.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.core.options import check_options
from cdc_flower.devices.decoders.deployment import paths_of
from cdc_flower.devices.decoders.protocol import Decoder
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.layers import Parameters
from cdc_flower.training.checkpoints import Checkpoints, Resume
from cdc_flower.training.fit import fit
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import answers


class History(Protocol):
    """Historical data in the cloud: labelled, and from before the stream begins."""

    def batches(
        self,
        batch_size: int,
        epoch: int,
        seed: int,
        num_negatives: int,
        *,
        first: int = 0,
        stop: int | None = None,
    ) -> Iterable[Any]:
        """Batches ``first`` to ``stop`` of an epoch, with ``rows`` [B], ``history`` [B, L] and ``candidates`` [B, C].

        The true candidate comes first.
        """

    def batch(self, rows: NDArray[np.int64], epoch: int, seed: int, num_negatives: int) -> Any:
        """These examples, as a batch of that epoch."""

    def lagged(self, rows: NDArray[np.int64], lag: NDArray[np.int64]) -> NDArray[np.int32]:
        """The histories ``[B, L]`` that the same devices would tell, ``lag`` examples earlier."""

    @property
    def num_examples(self) -> int:
        """How many examples there are."""


def no_progress(_: str, __: int) -> Callable[[], None]:
    """A progress bar that shows nothing."""
    return lambda: None


@dataclass(frozen=True)
class Cloud:
    """What a strategy's cloud side starts from.

    Attributes:
        model: The device model.
        parameters: The base model, trained on historical data: static and adaptive layers.
        train: Historical data to train on; ``validation``: historical data held out for choices.
        seed: Of the run.
        batch_size: For training; ``num_negatives``: for each true item.
        patience: Epochs without a better validation loss after which training stops; None never
            stops early.
        examples_per_epoch: Of what strategies train; None for all of them once. Where they are
            fewer, passes go on from epoch to epoch, so that a large history is validated more often
            than once a pass.
        identity: A fingerprint of everything that the base model depends on; "" if it is not known.
        checkpoints: Where trained parameters are kept; nowhere by default.
        progress: (text, steps) -> a function to call after each step.
    """

    model: DeviceModel
    parameters: Parameters
    train: History
    validation: History
    seed: int
    batch_size: int = 1024
    num_negatives: int = 4
    patience: int | None = None
    examples_per_epoch: int | None = None
    identity: str = ""
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    progress: Callable[[str, int], Callable[[], None]] = field(default=no_progress)

    def arrays(self, parameters: Parameters | None = None) -> Arrays:
        """Parameters (the base model's by default) as arrays."""
        chosen = self.parameters if parameters is None else parameters
        return {name: value.detach().numpy().copy() for name, value in chosen.items()}

    def num_batches(self) -> int:
        """Batches of an epoch."""
        whole = -(-self.train.num_examples // self.batch_size)
        if self.examples_per_epoch is None:
            return whole
        return max(1, min(whole, -(-self.examples_per_epoch // self.batch_size)))

    def batches(self, epoch: int) -> Iterable[Any]:
        """Historical batches of an epoch; see ``examples_per_epoch``."""
        whole, count = -(-self.train.num_examples // self.batch_size), self.num_batches()
        next_batch, end = epoch * count, (epoch + 1) * count
        while next_batch < end:
            done, first = divmod(next_batch, whole)
            stop = min(whole, first + end - next_batch)
            yield from self.train.batches(
                self.batch_size, done, self.seed, self.num_negatives, first=first, stop=stop
            )
            next_batch += stop - first

    def held_out(self) -> Iterable[Any]:
        """The batches of the validation part."""
        return self.validation.batches(self.batch_size, 0, self.seed, self.num_negatives)

    def fit(
        self,
        what: str,
        settings: Mapping[str, Any],
        kept: Mapping[str, Tensor],
        leaves: Iterable[Tensor],
        loss: Callable[[Any], Tensor],
        *,
        epochs: int,
        rate: float,
        batches: Callable[[int], Iterable[Any]] | None = None,
        held_out: Callable[[], Iterable[Any]] | None = None,
        num_batches: int | None = None,
    ) -> list[float]:
        """Train one stage on historical data, or take it from the checkpoints.

        Args:
            what: Name of the stage, and ``settings``: all that it depends on beside the base model,
                as plain values.
            kept: Tensors that make the result, changed in place; ``leaves``: those of them that are
                trained.
            loss: Mean loss of a batch.
            epochs: At most; 0 leaves everything as it is. ``rate``: learning rate of Adam.
            batches: Epoch number -> batches; those of the whole history by default, as is
                ``held_out``.
            num_batches: Of an epoch, for the progress bar.

        Returns:
            Validation loss before training and after each epoch.
        """
        steps = epochs * (self.num_batches() if num_batches is None else num_batches)
        key = {"what": what, "base": self.identity, "settings": dict(settings)}
        step = self.progress(what, steps)

        def train(resume: Resume) -> list[float]:
            return fit(
                loss,
                leaves,
                batches or self.batches,
                held_out or self.held_out,
                epochs=epochs,
                rate=rate,
                patience=self.patience,
                on_batch=step,
                resume=resume,
            )

        checkpoints = self.checkpoints if self.identity else Checkpoints()
        return checkpoints.trained(key, kept, train)


class OnDevices:
    """Declares what is deployed on devices before the first round, and what goes over the wire.

    A mix-in beside one of Flower's strategies. A method is a dataclass whose fields are its options;
    see :func:`~cdc_flower.core.options.option`.
    """

    #: Names of what devices may tell of their recent data that the method can read, any one of
    #: which is enough to play a task; empty where it asks for no such report, and so plays every
    #: task.
    reads: ClassVar[frozenset[str]] = frozenset()
    #: Whether the cloud answers only when the last report is in, as averaging does.
    waits_for_all: ClassVar[bool] = False

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

    def deployment(self) -> Arrays:
        """Gives the device model, static and adaptive layers; the base model by default."""
        return self.cloud.arrays()

    def initial_arrays(self) -> ArrayRecord:
        """Gives Flower's ``start`` the global model: the adaptive layers by default."""
        model = self.deployment()
        return to_record({name: model[name] for name in self.cloud.model.adaptive})

    def settings(self) -> dict[str, Any]:
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


def deployed_settings(strategy: Any) -> dict[str, Any]:
    """Takes a strategy's settings, and beside them the import paths of its decoders, if it has any.

    Raises:
        UserError: If a decoder cannot be imported by its path.
    """
    settings: dict[str, Any] = strategy.settings()
    decoders = strategy.decoders() if hasattr(strategy, "decoders") else ()
    return {**settings, records.DECODERS: paths_of(decoders)} if decoders else settings


class CloudStrategy(OnDevices, Strategy):
    """A strategy in which nothing is averaged. By default it sends nothing at all."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Asks nobody for anything."""
        return []

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Learns nothing."""
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Lets every device predict the segment with what it has."""
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
    batch = answers(replies)
    if batch is None:
        return MetricRecord({records.NUM_EXAMPLES: 0})
    told = batch.metrics.get(records.METRICS, {}).get(records.NUM_EXAMPLES)
    return None if told is None else MetricRecord({records.NUM_EXAMPLES: int(told.sum())})


def to_record(arrays: Arrays) -> ArrayRecord:
    """Makes Flower's record of arrays by name."""
    return ArrayRecord({name: Array(np.ascontiguousarray(value)) for name, value in arrays.items()})
