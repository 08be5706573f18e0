"""What strategies share in which the cloud answers each device's report with adaptive layers made for it.

A device reports its recent data (its last items, or the frames of a clip); the cloud makes layers
from that report alone and sends them back. Nothing is averaged, no label goes up, and no gradient
runs once the cloud is trained.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from numpy.typing import NDArray

from cdc_flower.devices.decoders.protocol import names_of
from cdc_flower.strategies.base import CloudStrategy, to_every_node
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import ok_replies

#: What ``n`` devices told of their recent data, ``[n, ...]`` by name.
Report = Mapping[str, NDArray[Any]]

#: Devices for which layers are generated in one product.
DEVICES_PER_CHUNK = 256


class GenerationStrategy(CloudStrategy):
    """The cloud answers reports. A method says what to answer, and how it is trained.

    Attributes:
        report_lag: How many events before the segment the report ends: 0 is the present, 1 the
            *stale* arm of the published protocol, in which parameters come from what the device
            looked like one event earlier.
        reads: Each method declares it; see :class:`~cdc_flower.strategies.base.OnDevices`.
    """

    reads: ClassVar[frozenset[str]]

    passing = frozenset({"_down"})

    report_lag: int = 0
    _down: tuple[MessageBatch, ...] = ()

    @abstractmethod
    def answer(self, reports: MessageBatch) -> list[MessageBatch]:
        """What goes down: messages of type ``evaluate`` without a clock, at most one a device.

        Args:
            reports: What devices told, one row a device; see ``train.report`` of the device app.
        """

    def settings(self) -> dict[str, Any]:
        """From when reports are, deployed once beside the model; nothing for the present."""
        return {records.LAG: self.report_lag} if self.report_lag else {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Every device reports its recent data."""
        return to_every_node(grid, records.TRAIN_REPORT, server_round)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Answer each report."""
        reports = ok_replies(replies)
        self._down = () if reports is None else tuple(self.answer(reports))
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """To each device that reported, its answer; the others go on with what they have."""
        everyone = to_every_node(grid, records.EVALUATE, server_round)
        down = [
            batch.with_records(configs={**batch.configs, **everyone.configs})
            for batch in self._down
        ]
        told = np.concatenate(
            [np.asarray(batch.node_ids, np.uint64) for batch in down] or [np.empty(0, np.uint64)]
        )
        silent = ~np.isin(everyone.node_ids, told)
        parts: list[Any] = [*down, everyone.select(silent)] if silent.any() or not down else down
        return parts[0] if len(parts) == 1 else parts


def report_of(reports: MessageBatch) -> Report:
    """Gives what ``n`` devices told, whether each has its own or all told the same."""
    return {name: reports.array(records.REPORT, name) for name in names_of(reports, records.REPORT)}


def in_parts(report: Report, num_devices: int) -> Iterator[Report]:
    """Cuts what ``n`` devices told into parts of at most so many devices, to bound the memory."""
    for start in range(0, len(next(iter(report.values()))), num_devices):
        yield {name: value[start : start + num_devices] for name, value in report.items()}


def parameters_message(node_ids: Any, parameters: dict[str, Any], flops: float) -> MessageBatch:
    """Full adaptive layers ``[n, ...]`` for ``n`` devices, and the work that they took the cloud."""
    return MessageBatch(
        records.EVALUATE,
        np.asarray(node_ids, np.uint64),
        arrays={records.PARAMETERS: parameters},
        configs={records.WORK: {records.FLOPS: flops}},
    )
