"""Links in virtual time around any grid.

``LinkGrid`` sees every message, measures it as it would be on the wire, moves the clock of each link, and
tells the devices when what they get arrives. Nothing here knows a strategy or opens a payload, and no time
comes from this computer's clock.

Segment ``r`` lasts from T(r) to T(r+1). A device's upload starts at T(r) (after its work, if it trains); the
cloud answers when it has the report and has done its own work; parameters arrive when the downlink has moved
them. What arrives after T(r+1) waits on the link and is handed to the device in the segment in which it
arrives. If two payloads arrive in one segment, the device gets the newer one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from cdc_flower import records
from cdc_flower.batch import MessageBatch
from cdc_flower.device import segment_of
from cdc_flower.simulations.fleet import Fleet, send
from cdc_flower.simulations.grids import in_order

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Usage:
    """What the links saw in one segment, a row for each of ``n`` devices.

    ``latency_s`` is the time from the start of the segment in which parameters were asked for to their use;
    NaN where nothing arrived. ``staleness_s`` is the mean age, over the segment, of the parameters in use.
    """

    bytes_up: NDArray[np.int64]
    bytes_down: NDArray[np.int64]
    payload_bytes_up: NDArray[np.int64]
    payload_bytes_down: NDArray[np.int64]
    latency_s: Floats
    staleness_s: Floats
    compute_cloud_s: Floats
    compute_device_s: Floats
    num_labels: NDArray[np.int64]

    @staticmethod
    def zeros(num_devices: int) -> "Usage":
        """Nothing sent, nothing arrived."""
        counts = [np.zeros(num_devices, np.int64) for _ in range(5)]
        times = [np.full(num_devices, np.nan), *(np.zeros(num_devices) for _ in range(3))]
        return Usage(*counts[:4], *times, counts[4])


#: Called after each segment: segment, rows of the devices that answered, their replies, and the usage.
Observer = Callable[[int, NDArray[np.int64], MessageBatch, Usage], None]


@dataclass
class InFlight:
    """Payloads on their way to devices: one message a device, when each arrives and when it was asked for."""

    batch: MessageBatch
    rows: NDArray[np.int64]
    arrival_s: Floats
    made_s: Floats


class LinkGrid(Grid):
    """Any grid, with each device behind a link.

    Args:
        inner: Where the devices are played.
        fleet: Links and speeds, in the order of ``inner.get_node_ids()`` or of ``node_ids``.
        segment_starts_s: ``[num_segments + 1]``, virtual time of the decision points.
        waits_for_all: Whether the cloud answers only when the last report is in (as averaging does), or each
            device as soon as its own is.
        observer: Told what was seen, after each segment.
        node_ids: ``[n]``, the node of each device of the fleet; those of the inner grid by default.

    Raises:
        ValueError: If there are not as many links as nodes.
    """

    def __init__(
        self,
        inner: Grid,
        fleet: Fleet,
        segment_starts_s: Floats,
        *,
        waits_for_all: bool = True,
        observer: Observer | None = None,
        node_ids: NDArray[np.uint64] | None = None,
    ) -> None:
        self.inner, self.fleet, self.starts_s = inner, fleet, np.asarray(segment_starts_s, np.float64)
        self.waits_for_all, self.observer = waits_for_all, observer
        self.node_ids = np.array(list(inner.get_node_ids()) if node_ids is None else node_ids, np.uint64)
        if len(self.node_ids) != len(fleet):
            raise ValueError(f"fleet must have one link a node, got {len(fleet)} links for {len(self.node_ids)} nodes")
        self._order = np.argsort(self.node_ids)
        n = len(fleet)
        self._up_free_s, self._down_free_s = np.zeros(n), np.zeros(n)
        self._in_cloud_s = np.full(n, -np.inf)  # when the cloud has what the device told in this segment
        self._own_s = np.full(n, -np.inf)  # when parameters that the device makes itself are ready
        self._own_made_s = np.full(n, self.starts_s[0])  # when it began to make them
        self._made_s = np.full(n, self.starts_s[0])  # age of the parameters in use
        self._in_flight: list[InFlight] = []
        self.usage = Usage.zeros(n)

    def set_run(self, run: Any) -> None:
        """Flower's; the inner grid's."""
        self.inner.set_run(run)

    @property
    def run(self) -> Any:
        """Flower's; the inner grid's."""
        return self.inner.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Flower's; the inner grid's."""
        return self.inner.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> list[int]:
        """Node ids in the order of the fleet."""
        return [int(node_id) for node_id in self.node_ids]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Flower's; not measured. Strategies use :meth:`send_and_receive`."""
        return self.inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Flower's; not measured."""
        return self.inner.pull_messages(message_ids)

    def rows(self, node_ids: NDArray[Any]) -> NDArray[np.int64]:
        """Rows of these nodes in the fleet."""
        return self._order[np.searchsorted(self.node_ids, np.asarray(node_ids, np.uint64), sorter=self._order)]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send over the links, play, and send the replies back; see the module's description."""
        groups = MessageBatch.group(messages)
        if not groups:
            return []
        replies = []
        for batch, _ in groups:
            category = batch.message_type.split(".")[0]
            if category == "evaluate":
                replies.append(self._evaluate(batch, timeout))
            elif category == "train":
                replies.append(self._train(batch, timeout))
            else:
                replies.append(self._play(batch, timeout))
        if self.waits_for_all:
            self._in_cloud_s[:] = self._in_cloud_s.max()
        return in_order(replies, [positions for _, positions in groups])

    def _play(self, batch: MessageBatch, timeout: float | None) -> MessageBatch:
        """Replies of the inner grid in the order of the messages, those that failed left out."""
        replies = MessageBatch.group(self.inner.send_and_receive(batch, timeout=timeout))
        whole = MessageBatch.concat([reply for reply, _ in replies if not reply.errors])
        place = np.argsort(batch.node_ids.astype(np.uint64), kind="stable")
        found = np.searchsorted(batch.node_ids.astype(np.uint64), whole.node_ids.astype(np.uint64), sorter=place)
        return whole.select(np.argsort(place[found], kind="stable"))

    def _train(self, batch: MessageBatch, timeout: float | None) -> MessageBatch:
        segment, rows, fleet = segment_of(batch), self.rows(batch.node_ids), self.fleet
        start_s = self.starts_s[segment]
        down = batch.without(records.INSTRUMENTS)
        self._count(rows, "down", down)
        arrival_s, self._down_free_s[rows] = send(
            np.full(len(rows), start_s),
            self._down_free_s[rows],
            down.wire_bytes(),
            fleet.rate_down_bps[rows],
            fleet.rtt_s[rows],
        )
        replies = self._play(batch, timeout)
        answered = self.rows(replies.node_ids)
        ready_s = np.full(len(fleet), start_s)
        ready_s[rows] = arrival_s
        work_s = self._work(replies)
        up = replies.without(records.INSTRUMENTS)
        self._count(answered, "up", up)
        sent = up.wire_bytes()
        in_cloud_s, self._up_free_s[answered] = send(
            ready_s[answered] + work_s,
            self._up_free_s[answered],
            sent,
            fleet.rate_up_bps[answered],
            fleet.rtt_s[answered],
        )
        self._in_cloud_s[answered] = np.where(sent > 0, in_cloud_s, -np.inf)
        began = (sent == 0) & (work_s > 0)
        self._own_s[answered[began]] = (ready_s[answered] + work_s)[began]
        self._own_made_s[answered[began]] = start_s
        return replies

    def _evaluate(self, batch: MessageBatch, timeout: float | None) -> MessageBatch:
        segment, rows, fleet = segment_of(batch), self.rows(batch.node_ids), self.fleet
        start_s, end_s = self.starts_s[segment], self.starts_s[segment + 1]
        payload = batch.without(records.INSTRUMENTS)
        self._count(rows, "down", payload)
        cloud_s = flops_of(batch) / fleet.cloud_flops_per_s
        self.usage.compute_cloud_s[rows] += cloud_s
        ready_s = np.maximum(start_s, self._in_cloud_s[rows]) + cloud_s
        wire_bytes = payload.wire_bytes()
        arrival_s, self._down_free_s[rows] = send(
            ready_s, self._down_free_s[rows], wire_bytes, fleet.rate_down_bps[rows], fleet.rtt_s[rows]
        )
        arrival_s = np.where(wire_bytes > 0, arrival_s, np.inf)

        late = (wire_bytes > 0) & (arrival_s >= end_s)
        parts = self._land(batch, rows, ~late & (wire_bytes > 0), arrival_s, end_s)
        if late.any():
            self._in_flight.append(
                InFlight(payload.select(late), rows[late], arrival_s[late], np.full(late.sum(), start_s))
            )
        replies = []
        for part, part_rows, part_arrival_s in parts:
            clock = {
                records.SEGMENT: segment,
                records.ARRIVAL_S: part_arrival_s,
                records.FLOPS_PER_S: fleet.device_flops_per_s[part_rows],
            }
            reply = self._play(part.with_records(configs={**part.configs, records.CLOCK: clock}), timeout)
            ready_s = np.full(len(fleet), -np.inf)
            ready_s[part_rows] = part_arrival_s
            ready_s[self.rows(reply.node_ids)] += self._work(reply)
            self._age(part_rows, ready_s[part_rows], start_s, end_s)
            replies.append(reply.without({records.WORK}))
        self._in_cloud_s[:] = -np.inf
        whole = MessageBatch.concat(replies)
        place = np.argsort(self.rows(whole.node_ids), kind="stable")
        whole = whole.select(place)
        if self.observer is not None:
            self.observer(segment, self.rows(whole.node_ids), whole, self.usage)
        self.usage = Usage.zeros(len(fleet))
        return whole

    def _work(self, replies: MessageBatch) -> Floats:
        """Seconds ``[n]`` of the work that devices declare, which are counted with their labels."""
        rows = self.rows(replies.node_ids)
        work_s = flops_of(replies) / self.fleet.device_flops_per_s[rows]
        self.usage.compute_device_s[rows] += work_s
        num_labels = replies.configs.get(records.WORK, {}).get(records.NUM_LABELS, 0)
        self.usage.num_labels[rows] += np.asarray(num_labels, np.int64)
        return work_s

    def _land(
        self, batch: MessageBatch, rows: NDArray[np.int64], in_time: NDArray[np.bool_], arrival_s: Floats, end_s: float
    ) -> list[tuple[MessageBatch, NDArray[np.int64], Floats]]:
        """Batches to play: who gets what was sent now, who gets what was sent earlier, who gets nothing."""
        parts = []
        self._latency_from = np.full(len(self.fleet), self.starts_s[np.searchsorted(self.starts_s, end_s) - 1])
        if in_time.any():
            parts.append((batch.select(in_time), rows[in_time], arrival_s[in_time]))
        served = np.zeros(len(self.fleet), bool)
        served[rows[in_time]] = True
        still: list[InFlight] = []
        for flight in reversed(self._in_flight):
            lands = (flight.arrival_s < end_s) & np.isin(flight.rows, rows)
            newest = lands & ~served[flight.rows]
            if newest.any():
                parts.append((flight.batch.select(newest), flight.rows[newest], flight.arrival_s[newest]))
                served[flight.rows[newest]] = True
                self._latency_from[flight.rows[newest]] = flight.made_s[newest]
            if (~lands).any():
                rest = ~lands
                still.append(
                    InFlight(flight.batch.select(rest), flight.rows[rest], flight.arrival_s[rest], flight.made_s[rest])
                )
        self._in_flight = still[::-1]
        nothing = ~served[rows]
        if nothing.any():
            own = rows[nothing][np.isfinite(self._own_s[rows[nothing]])]
            self._latency_from[own] = self._own_made_s[own]
            quiet = batch.select(nothing).only(records.INSTRUMENTS)
            parts.append((quiet, rows[nothing], self._own_s[rows[nothing]]))
        return parts

    def _age(self, rows: NDArray[np.int64], arrival_s: Floats, start_s: float, end_s: float) -> None:
        """Latency, and staleness: the mean over the segment of now minus when the parameters were asked for."""
        arrived = np.isfinite(arrival_s) & (arrival_s < end_s)
        made_s = self._latency_from[rows]
        self.usage.latency_s[rows[arrived]] = arrival_s[arrived] - made_s[arrived]
        switch_s = np.where(arrived, np.clip(arrival_s, start_s, end_s), end_s)
        middle_s = (start_s + end_s) / 2
        share_old = (switch_s - start_s) / (end_s - start_s)
        made = share_old * self._made_s[rows] + (1 - share_old) * made_s
        self.usage.staleness_s[rows] = middle_s - made
        self._made_s[rows[arrived]] = made_s[arrived]
        self._own_s[rows[arrived]] = -np.inf

    def _count(self, rows: NDArray[np.int64], way: str, batch: MessageBatch) -> None:
        getattr(self.usage, f"bytes_{way}")[rows] += batch.wire_bytes()
        getattr(self.usage, f"payload_bytes_{way}")[rows] += batch.payload_bytes()


def flops_of(batch: MessageBatch) -> Floats:
    """``[n]``: the work that messages declare; 0 where they declare none."""
    flops = batch.configs.get(records.WORK, {}).get(records.FLOPS, 0.0)
    return np.broadcast_to(np.asarray(flops, np.float64), len(batch)).copy()
