"""The outermost grid, which a strategy is given: no instrument of the simulation comes through.

Devices tell the results, the links and the clock more than a deployment would send. All of that
ends here: what comes out to a strategy is payload, and of an evaluation how many examples each
device was scored on. What goes in is a strategy's own: the segment that it is in, and the work that
a message took the cloud. Time goes forward only.
"""

from collections.abc import Iterable

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid

from cdc_flower.core.saveable import Arrays, Saved, restore_fields, saved_fields
from cdc_flower.devices.app import segment_of
from cdc_flower.simulations.grids.through import Through
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import Group, MessageBatches

#: What a strategy may say in instrument records.
SAYS = {records.CLOCK: {records.SEGMENT}, records.WORK: {records.FLOPS}}


class StrategyGrid(Through):
    """Keeps what only the simulation knows from a strategy; it has no way to what is behind it.

    Args:
        grid: The whole stack, with links or without.
    """

    _saved_as = "strategy_grid"

    def __init__(self, grid: Grid) -> None:
        super().__init__(grid)
        self._first_open = 0  # the first segment that is not over

    def to_arrays(self) -> Arrays:
        """Takes which segments are over."""
        return {**super().to_arrays(), **saved_fields(self, ("_first_open",))}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on in the segment in which a run was saved."""
        super().from_arrays(arrays)
        restore_fields(self, ("_first_open",), arrays)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Sends messages of a strategy; replies have no instrument records.

        Raises:
            ValueError: If a message is of a segment that is over, or says more in an instrument
                record than a strategy may.
        """
        sent = MessageBatches.of(messages)
        for batch, _ in sent.groups:
            check_instruments(batch)
        self._pass_time([batch for batch, _ in sent.groups])
        return super().send_and_receive(sent, timeout=timeout)

    def up(self, batch: MessageBatch) -> list[Group]:
        """Takes the instruments out of replies; no array is copied."""
        return super().up(plain_batch(batch))

    def _pass_time(self, sent: list[MessageBatch]) -> None:
        """A message about a segment ends those before it, and an evaluation ends its own."""
        first_open = self._first_open
        for batch in sent:
            segment = segment_or_none(batch)
            if segment is None:
                continue
            if segment < self._first_open:
                raise ValueError(
                    f"segment must be {self._first_open} or later, as those before are over, "
                    f"got {segment}"
                )
            ends = batch.message_type.split(".")[0] == records.EVALUATE
            first_open = max(first_open, segment + ends)
        self._first_open = first_open


def segment_or_none(batch: MessageBatch) -> int | None:
    """Finds the segment that messages are about, if they say."""
    clock = batch.configs.get(records.CLOCK, {})
    config = batch.configs.get(records.CONFIG, {})
    says = records.SEGMENT in clock or records.SERVER_ROUND in config
    return segment_of(batch) if says else None


def check_instruments(batch: MessageBatch) -> None:
    """Refuses what a strategy could not say in a deployment.

    Raises:
        ValueError: If there is more than the segment and the work of the cloud, or that is
            negative.
    """
    for name in records.INSTRUMENTS.intersection(batch.record_names()):
        says = SAYS.get(name, set())
        more = [
            key
            for part in (batch.arrays, batch.shared, batch.metrics)
            for key in part.get(name, {})
        ]
        more += [key for key in batch.configs.get(name, {}) if key not in says]
        if more:
            allowed = ", ".join(sorted(says)) or "nothing"
            raise ValueError(
                f"{name} of a strategy's message must hold {allowed}, got {', '.join(more)}"
            )
    flops = batch.configs.get(records.WORK, {}).get(records.FLOPS, 0.0)
    if not (np.asarray(flops) >= 0).all():
        raise ValueError(f"{records.FLOPS} must be >= 0, got {np.min(flops)}")


def plain_batch(batch: MessageBatch) -> MessageBatch:
    """Takes instrument records out of replies; the number of examples joins Flower's metrics."""
    if records.INSTRUMENTS.isdisjoint(batch.record_names()):
        return batch
    plain = batch.without(records.INSTRUMENTS)
    scores = batch.metrics.get(records.SCORES, {})
    if records.NUM_EXAMPLES not in scores:
        return plain
    own = batch.metrics.get(records.METRICS, {})
    return plain.with_records(
        metrics={records.METRICS: {records.NUM_EXAMPLES: scores[records.NUM_EXAMPLES], **own}}
    )
