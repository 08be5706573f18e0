"""All devices in one process."""

from collections.abc import Sequence

import numpy as np
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from cdc_flower.simulations.grids.base import BatchedGrid, States, play_rows
from cdc_flower.wire.replies import Group, Replies


class InlineGrid(BatchedGrid):
    """Plays all devices in this process: the readable twin of ``RayGrid``.

    Args:
        app: As in :class:`~cdc_flower.simulations.grids.base.BatchedGrid`.
        device_ids: ``[n]``, ascending.
    """

    def __init__(self, app: ClientApp, device_ids: Sequence[int] | NDArray[np.int64]) -> None:
        super().__init__(app, device_ids)
        self.states: States = self.fresh_states(self.device_ids)

    def _shard_states(self) -> list[States]:
        return [self.states]

    def _set_shard_states(self, shards: list[States]) -> None:
        (self.states,) = shards

    def _exchange(self, batches: list[Group]) -> list[Replies]:
        states = self.states
        replies = []
        for batch, rows in batches:
            reply, states = play_rows(self.handler, batch, states, rows)
            replies.append(reply)
        self.states = states
        return replies
