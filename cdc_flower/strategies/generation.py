"""What strategies share in which the cloud answers each device's report with adaptive layers made for it.

A device reports its last items; the cloud makes layers from that report alone and sends them back. Nothing is
averaged, no label goes up, and no gradient runs once the cloud is trained.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid

from cdc_flower import records
from cdc_flower.batch import MessageBatch
from cdc_flower.replies import answers
from cdc_flower.strategies.base import CloudStrategy, to_every_node

#: Devices for which layers are generated in one product.
DEVICES_PER_CHUNK = 256


class GenerationStrategy(CloudStrategy):
    """The cloud answers reports. A method says what to answer, and how it is trained.

    Attributes:
        report_lag: How many events before the segment the report ends: 0 is the present, 1 the *stale* arm of the
            published protocol, in which parameters come from what the device looked like one event earlier.
    """

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
        """Every device reports its recent items."""
        return to_every_node(grid, records.TRAIN_REPORT, server_round)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Answer each report."""
        reports = answers(replies)
        self._down = () if reports is None else tuple(self.answer(reports))
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """To each device that reported, its answer; the others go on with what they have."""
        everyone = to_every_node(grid, records.EVALUATE, server_round)
        down = [batch.with_records(configs={**batch.configs, **everyone.configs}) for batch in self._down]
        told = np.concatenate([np.asarray(batch.node_ids, np.uint64) for batch in down] or [np.empty(0, np.uint64)])
        silent = ~np.isin(everyone.node_ids, told)
        parts: list[Any] = [*down, everyone.select(silent)] if silent.any() or not down else down
        return parts[0] if len(parts) == 1 else parts


def parameters_message(node_ids: Any, parameters: dict[str, Any], flops: float) -> MessageBatch:
    """Full adaptive layers ``[n, ...]`` for ``n`` devices, and the work that they took the cloud."""
    return MessageBatch(
        records.EVALUATE,
        np.asarray(node_ids, np.uint64),
        arrays={records.PARAMETERS: parameters},
        configs={records.WORK: {records.FLOPS: flops}},
    )
