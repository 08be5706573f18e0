"""All devices in one process."""

from collections.abc import Sequence

import numpy as np
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from cdc_flower.simulations.grids.base import BatchedGrid, States, play_rows
from cdc_flower.wire.replies import Group, Replies, joined


class InlineGrid(BatchedGrid):
    """Plays all devices in this process: the readable twin of ``RayGrid``.

    Args:
        app: As in :class:`~cdc_flower.simulations.grids.base.BatchedGrid`.
        device_ids: ``[n]``, ascending.
        shard_devices: How many devices are played together; None: all of them.
    """

    def __init__(
        self,
        app: ClientApp,
        device_ids: Sequence[int] | NDArray[np.int64],
        *,
        shard_devices: int | None = None,
    ) -> None:
        super().__init__(app, device_ids, shard_devices=shard_devices)
        self._states = [self.fresh_states(self.device_ids[rows]) for rows in self.shards.rows]

    @property
    def states(self) -> States:
        """The states of all devices."""
        first, *others = self._states
        return first.joined(others) if others else first

    def _shard_states(self) -> list[States]:
        return self._states

    def _set_shard_states(self, shards: list[States]) -> None:
        self._states = shards

    def _exchange(self, batches: list[Group]) -> list[Replies]:
        states = list(self._states)
        replies = []
        for batch, rows in batches:
            parts = []
            for shard, place, rows_inside in self.shards.parts(rows):
                reply, states[shard] = play_rows(
                    self.handler, batch.select(place), states[shard], rows_inside
                )
                parts.append((reply, place))
            replies.append(joined(parts))
        self._states = states
        return replies
