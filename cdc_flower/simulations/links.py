"""The links of a fleet in virtual time: when each is free, and what the cloud knows when."""

import numpy as np

from cdc_flower import records
from cdc_flower.batch import MessageBatch
from cdc_flower.simulations.fleet import Fleet, send
from cdc_flower.simulations.usage import Floats, Ints, Usage, work_of


class Links:
    """First come, first served on each link.

    Args:
        fleet: Links and speeds of ``n`` devices.
        start_s: From when on the links are free.
    """

    def __init__(self, fleet: Fleet, start_s: float) -> None:
        self.fleet, n = fleet, len(fleet)
        self._up_free_s, self._down_free_s = np.full(n, start_s), np.full(n, start_s)
        self._told_s = np.full(n, -np.inf)  # when the cloud has what each device told last

    def down(self, rows: Ints, batch: MessageBatch, start_s: float, usage: Usage) -> tuple[Ints, Floats]:
        """Send messages to devices. They leave when the cloud has what these told, and has done its work.

        Args:
            rows: ``[k]``, the device of each message.
            batch: The messages, with the work that they took the cloud.
            start_s: When they are sent at the earliest.
            usage: Where bytes and work are counted.

        Returns:
            Bytes on the wire ``[k]`` and arrival ``[k]``; ``start_s`` for a message that costs nothing.
        """
        wire_bytes = usage.add_bytes("down", rows, batch.without(records.INSTRUMENTS))
        work_s = work_of(batch)[0] / self.fleet.cloud_flops_per_s
        usage.compute_cloud_s[rows] += work_s
        ready_s = np.where(wire_bytes > 0, np.maximum(start_s, self._told_s[rows]) + work_s, start_s)
        arrival_s, self._down_free_s[rows] = send(
            ready_s, self._down_free_s[rows], wire_bytes, self.fleet.rate_down_bps[rows], self.fleet.rtt_s[rows]
        )
        return wire_bytes, arrival_s

    def up(self, rows: Ints, replies: MessageBatch, start_s: Floats, usage: Usage) -> tuple[Ints, Floats]:
        """Send replies to the cloud.

        Args:
            rows: ``[k]``, the device of each reply.
            replies: The replies; errors cost bytes as well.
            start_s: ``[k]``, when each is ready.
            usage: Where bytes are counted.

        Returns:
            Bytes on the wire ``[k]`` and when the cloud has them ``[k]``.
        """
        wire_bytes = usage.add_bytes("up", rows, replies.without(records.INSTRUMENTS))
        told_s, self._up_free_s[rows] = send(
            start_s, self._up_free_s[rows], wire_bytes, self.fleet.rate_up_bps[rows], self.fleet.rtt_s[rows]
        )
        self._told_s[rows] = np.where(wire_bytes > 0, told_s, self._told_s[rows])
        return wire_bytes, told_s

    def work(self, rows: Ints, replies: MessageBatch, usage: Usage) -> Floats:
        """Seconds ``[k]`` of the work that devices declare, which are counted with their labels."""
        flops, num_labels = work_of(replies)
        work_s = flops / self.fleet.device_flops_per_s[rows]
        usage.compute_device_s[rows] += work_s
        usage.num_labels[rows] += num_labels
        return work_s

    def wait_for_all(self) -> None:
        """From here on the cloud acts only when the last device has told what it had to."""
        self._told_s[:] = self._told_s.max()
