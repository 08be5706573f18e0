"""The base of strategies whose cloud answers each report with adaptive layers made for it.

A device reports its recent data (its last items, or the frames of a clip); the cloud makes layers
from that report alone and sends them back. Nothing is averaged, no label goes up, and no gradient
runs once the cloud is trained.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from numpy.typing import ArrayLike, NDArray

from cdc_flower.core.options import option
from cdc_flower.devices.decoders.protocol import names_of
from cdc_flower.devices.state import Settings
from cdc_flower.devices.told import Told
from cdc_flower.models.base import DeviceModel
from cdc_flower.strategies.base import Cloud, CloudStrategy, to_every_node, with_the_others
from cdc_flower.strategies.past import ReportedPast
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import ok_replies

#: What ``n`` devices told of their recent data, ``[n, ...]`` by name.
Report = Mapping[str, NDArray]

#: Devices for which layers are generated in one product.
DEVICES_PER_CHUNK = 256


@dataclass(eq=False, repr=False)
class GenerationStrategy(CloudStrategy):
    """The cloud answers reports. A method says what to answer, and how it is trained.

    Attributes:
        reads: Each method declares it; see :class:`~cdc_flower.strategies.base.OnDevices`.
    """

    reads: ClassVar[frozenset[str]]

    personal = True
    passing = frozenset({"_down"})

    report_lag: int = option(
        0,
        least=0,
        neutral=0,
        changes_training=False,
        doc="events before the segment with which a report ends; 0 is the present, 1 the stale arm "
        "of the published protocol",
    )
    report_length: int | None = option(
        None,
        least=1,
        doc="items that a device tells, from its log; null: as many as its model reads",
    )
    report_stride: int = option(
        1,
        least=1,
        neutral=1,
        doc="events from one of them to the next, counted back from the newest; 1 leaves none out",
    )
    report_reads: str = option(
        "items",
        choices=("items", "pairs"),
        neutral="items",
        doc="of a report, in the cloud; items: the state of each, as in the papers; pairs: the "
        "state of an item beside that of the one that followed",
    )
    max_lag: int | Literal["auto"] = option(
        "auto",
        least=0,
        neutral=0,
        doc="in training reports are up to so many events old, as on a device that was adapted a "
        "while ago; auto: the median events of a device and segment; 0 is the papers'",
    )
    _down: tuple[MessageBatch, ...] = field(default=(), init=False)

    @abstractmethod
    def answer(self, reports: MessageBatch) -> list[MessageBatch]:
        """Makes messages of type ``evaluate`` without a clock, at most one a device.

        Args:
            reports: What devices told, one row a device; see ``train.report`` of the device app.
        """

    def settings(self) -> Settings:
        """Says what reports are of, deployed once beside the model; nothing for the present."""
        lag = {records.LAG: self.report_lag} if self.report_lag else {}
        return {**lag, **self.told.to_settings()}

    @property
    def told(self) -> Told:
        """Says which items of its log a device tells."""
        return Told(self.report_length, self.report_stride)

    def past(self, cloud: Cloud) -> ReportedPast:
        """Makes the reports of historical examples, as old and as long as those of devices."""
        return ReportedPast.of(cloud, self.told, self.max_lag)

    def input_width(self, model: DeviceModel) -> int:
        """Counts the numbers that a sequence encoder reads at a step."""
        return model.width * (2 if self.report_reads == "pairs" else 1)

    def num_steps(self, model: DeviceModel) -> int:
        """Counts the steps of a sequence encoder: items or frames that are told."""
        return self.told.num_items(model.history_length)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Asks every device for a report of its recent data.

        Args:
            server_round: From 1; the segment is the one before.
            arrays: The global model, which stays in the cloud.
            config: Of Flower's round; not read.
            grid: Of the nodes.
        """
        return to_every_node(grid, records.TRAIN_REPORT, server_round)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Answers each report."""
        reports = ok_replies(replies)
        self._down = () if reports is None else tuple(self.answer(reports))
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Sends each device that reported its answer; the others go on with what they have.

        Args:
            server_round: From 1; the segment is the one before.
            arrays: The global model, which stays in the cloud.
            config: Of Flower's round; not read.
            grid: Of the nodes.
        """
        everyone = to_every_node(grid, records.EVALUATE, server_round)
        return with_the_others(everyone, self._down)


def report_of(reports: MessageBatch) -> Report:
    """Gives what ``n`` devices told, whether each has its own or all told the same."""
    return {name: reports.array(records.REPORT, name) for name in names_of(reports, records.REPORT)}


def in_parts(report: Report, num_devices: int) -> Iterator[Report]:
    """Cuts what ``n`` devices told into parts of at most so many devices, to bound the memory."""
    for start in range(0, len(next(iter(report.values()))), num_devices):
        yield {name: value[start : start + num_devices] for name, value in report.items()}


def parameters_message(node_ids: ArrayLike, parameters: Arrays, flops: float) -> MessageBatch:
    """Makes the message of full adaptive layers for ``n`` devices.

    Args:
        node_ids: ``[n]``.
        parameters: ``[n, ...]`` by name.
        flops: Work in the cloud for each device.
    """
    return MessageBatch(
        records.EVALUATE,
        np.asarray(node_ids, np.uint64),
        arrays={records.PARAMETERS: parameters},
        configs={records.WORK: {records.FLOPS: flops}},
    )
