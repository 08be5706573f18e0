"""Between the links and the devices: who reports."""

from dataclasses import dataclass

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.saveable import (
    Arrays,
    Saved,
    part_of,
    prefixed,
    restore_fields,
    saved_fields,
)
from cdc_flower.devices.app import segment_of
from cdc_flower.simulations.chain import Ends
from cdc_flower.simulations.deployment import Nodes
from cdc_flower.simulations.grids.through import Through
from cdc_flower.simulations.links.accounting import sizes_of
from cdc_flower.simulations.requests.setup import Requests
from cdc_flower.tasks.sensing import Floats, Ints
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import Group, groups_of


@dataclass(frozen=True)
class WithRequests:
    """Lets a policy decide which devices report.

    Attributes:
        requests: Of one run of a strategy; without a policy nothing is put anywhere.
    """

    requests: Requests

    def ends(self, nodes: Nodes) -> Ends:
        """Makes the device end."""
        if self.requests.policy is None:
            return Ends()
        return Ends(
            device=lambda devices: RequestGrid(
                devices, self.requests, nodes.node_ids, nodes.device_ids
            )
        )


class RequestGrid(Through):
    """Hands a request for a report only to the devices that a policy says; all else goes through.

    Args:
        inner: The devices.
        requests: With a policy, whose ``max_bytes`` up and down end the reports of a device.
        node_ids: ``[n]``.
        device_ids: ``[n]``, of the same devices, ascending.
    """

    _saved_as = "requests"

    def __init__(
        self,
        inner: Grid,
        requests: Requests,
        node_ids: NDArray[np.uint64],
        device_ids: NDArray[np.int64],
    ) -> None:
        super().__init__(inner)
        if requests.policy is None:
            raise ValueError("requests must have a policy, got none")
        self.policy = requests.policy
        self.node_ids, self.device_ids = node_ids, device_ids
        limit = self.policy.max_bytes
        self.max_bytes = np.inf if limit is None else limit
        self._row = {int(node_id): row for row, node_id in enumerate(node_ids)}
        self.spent_bytes = np.zeros(len(node_ids))
        self.policy.start(requests.devices(self._ask))

    def to_arrays(self) -> Arrays:
        """Takes what devices have spent, and what the policy remembers."""
        own = saved_fields(self, ("spent_bytes",))
        return {**super().to_arrays(), **own, **prefixed("policy", self.policy.to_arrays())}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with saved memories."""
        super().from_arrays(arrays)
        restore_fields(self, ("spent_bytes",), arrays)
        self.policy.from_arrays(part_of(arrays, "policy"))

    def down(self, batch: MessageBatch) -> list[MessageBatch]:
        """Hands requests to those devices that want to answer; the others stay silent."""
        rows = self._rows(batch)
        self.spent_bytes[rows] += sizes_of(batch.without(records.INSTRUMENTS))[0]
        if batch.message_type == records.TRAIN_REPORT:
            wants = self._decided(rows, segment_of(batch))
            wants = wants & (self.spent_bytes[rows] < self.max_bytes)
            batch = batch if wants.all() else batch.select(wants)
        return [batch]

    def _decided(self, rows: Ints, segment: int) -> NDArray[np.bool_]:
        """Asks the policy, whose class may be a user's own.

        Raises:
            UserError: If it gives anything but a truth value for each device.
        """
        wants = np.asarray(self.policy.decide(self.device_ids[rows], segment))
        if wants.dtype != np.bool_ or wants.shape != rows.shape:
            raise UserError(
                f"policy: {type(self.policy).__name__}.decide must give a truth value for each of "
                f"the {len(rows)} devices that are asked, got {wants.dtype} {list(wants.shape)}"
            )
        return wants

    def up(self, batch: MessageBatch) -> list[Group]:
        """Counts what the replies take."""
        if len(batch):
            self.spent_bytes[self._rows(batch)] += sizes_of(batch.without(records.INSTRUMENTS))[0]
        return super().up(batch)

    def _ask(self, device_ids: Ints, segment: int) -> Floats:
        """Asks devices how unsure they are: between a device and itself, so no link sees it."""
        rows = np.searchsorted(self.device_ids, device_ids)
        uncertainty = np.zeros(len(self.device_ids))
        asked = MessageBatch(
            records.QUERY_UNCERTAINTY,
            self.node_ids[rows],
            configs={records.CLOCK: {records.SEGMENT: int(segment)}},
        )
        for replies, _ in groups_of(self._inner.send_and_receive(asked)):
            uncertainty[self._rows(replies)] = replies.metrics[records.SCORES][records.UNCERTAINTY]
        return uncertainty[rows]

    def _rows(self, batch: MessageBatch) -> NDArray[np.int64]:
        return np.array([self._row[int(node_id)] for node_id in batch.node_ids], np.int64)
