"""The ways up to the cloud and down from it: a device's own link, and the cell that all share."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.saveable import (
    ANY,
    Arrays,
    Saveable,
    Saved,
    nested,
    restore_fields,
    restore_nested,
    saved_fields,
    taken,
)
from cdc_flower.simulations.network.channel import Channel, Fifo
from cdc_flower.simulations.network.rates import Floats, Ints
from cdc_flower.simulations.network.sharing import SharedCapacity

#: A message that has not been sent or has not arrived; one that will never arrive has -inf.
PENDING, DROPPED = np.inf, -np.inf


class Column:
    """Holds numbers by ticket, and grows as tickets are given out."""

    def __init__(self) -> None:
        self._values = np.full(1024, PENDING)
        self.size = 0

    def more(self, count: int) -> Ints:
        """Gives out tickets ``[count]``, pending."""
        tickets = np.arange(self.size, self.size + count)
        self.size += count
        if self.size > len(self._values):
            self._values = np.append(self._values, np.full(max(count, len(self._values)), PENDING))
        return tickets

    def __getitem__(self, tickets: Ints) -> Floats:
        return self._values[tickets]

    def __setitem__(self, tickets: Ints, values: Floats | Ints | float) -> None:
        self._values[tickets] = values

    def to_arrays(self) -> Arrays:
        """Takes the numbers of all tickets so far."""
        return {"values": self._values[: self.size].copy()}

    def from_arrays(self, arrays: Saved) -> None:
        """Sets the numbers to saved ones, of any number of tickets."""
        values = taken(arrays, "values", np.float64, (ANY,))
        self.size = len(values)
        self._values = np.append(values, np.full(max(1024, self.size), PENDING))


@dataclass
class Outbox:
    """Keeps a message for each device that waits for its busy link; ticket -1 where none does."""

    ticket: Ints
    ready_s: Floats
    expiry_s: Floats
    num_bytes: Ints

    @staticmethod
    def empty(n: int) -> "Outbox":
        """Makes one in which nothing waits."""
        return Outbox(np.full(n, -1), np.zeros(n), np.full(n, np.inf), np.zeros(n, np.int64))

    def put(
        self, rows: Ints, tickets: Ints, ready_s: Floats, expiry_s: Floats, num_bytes: Ints
    ) -> None:
        """Puts a message on each of some devices.

        Args:
            rows: ``[k]``, devices on which nothing waits.
            tickets: ``[k]``.
            ready_s: ``[k]``, when each could begin.
            expiry_s: ``[k]``, from when on nobody wants each.
            num_bytes: ``[k]``.
        """
        self.ticket[rows] = tickets
        self.ready_s[rows] = ready_s
        self.expiry_s[rows] = expiry_s
        self.num_bytes[rows] = num_bytes

    def to_arrays(self) -> Arrays:
        """Takes what waits."""
        return saved_fields(self, list(vars(self)))

    def from_arrays(self, arrays: Saved) -> None:
        """Lets wait what was saved."""
        restore_fields(self, list(vars(self)), arrays)


class Path:
    """Moves messages one way: over the links of a channel and, before or after, the shared cell.

    Args:
        channel: The devices' own links.
        cell: What all share; None if nothing is.
        start_s: When time begins.
    """

    def __init__(self, channel: Channel, cell: SharedCapacity | None, start_s: float) -> None:
        self.fifo, self.cell, self.channel = Fifo(channel, start_s), cell, channel
        self.arrival_s = Column()  # by ticket: a time, PENDING or DROPPED
        self.expiry_s, self.rows = Column(), Column()
        self.bytes_again = np.zeros(len(channel), np.int64)
        self.num_dropped = np.zeros(len(channel), np.int64)

    def tickets(self, rows: Ints, expiry_s: Floats) -> Ints:
        """Gives a ticket to each message to be sent."""
        for column in (self.expiry_s, self.rows):
            column.more(len(rows))
        tickets = self.arrival_s.more(len(rows))
        self.expiry_s[tickets], self.rows[tickets] = expiry_s, rows
        return tickets

    def drop(self, tickets: Ints) -> None:
        """Drops messages, and counts them."""
        if len(tickets):
            self.arrival_s[tickets] = DROPPED
            np.add.at(self.num_dropped, self.rows[tickets].astype(np.int64), 1)

    def _parts(self) -> dict[str, Saveable]:
        """Everything that has a state of its own."""
        columns = {"arrival_s": self.arrival_s, "expiry_s": self.expiry_s, "rows": self.rows}
        cell = {} if self.cell is None else {"cell": self.cell}
        return {"fifo": self.fifo, **columns, **cell}

    def to_arrays(self) -> Arrays:
        """Takes the messages so far, what is on the links and in the cell, and the counts."""
        return {**nested(self._parts()), **saved_fields(self, ("bytes_again", "num_dropped"))}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with saved messages."""
        restore_nested(self._parts(), arrays)
        restore_fields(self, ("bytes_again", "num_dropped"), arrays)

    def _on_links(self, tickets: Ints, rows: Ints, ready_s: Floats, num_bytes: Ints) -> Floats:
        """Sends on the devices' own links: arrivals at the other ends, -inf for nothing sent."""
        arrival_s, again, sent = self.fifo.send(rows, ready_s, num_bytes, self.expiry_s[tickets])
        self.bytes_again[rows] += again
        arrival_s[~sent] = DROPPED
        return arrival_s

    def _arrived(self, tickets: Ints, arrival_s: Floats) -> None:
        """Takes messages that left the last stage; those that expired or never come are dropped."""
        in_time = (arrival_s <= self.expiry_s[tickets]) & np.isfinite(arrival_s)
        self.arrival_s[tickets[in_time]] = arrival_s[in_time]
        self.drop(tickets[~in_time])


class UpPath(Path):
    """From devices to the cloud: the device's own link, then the cell."""

    def __init__(self, channel: Channel, cell: SharedCapacity | None, start_s: float) -> None:
        super().__init__(channel, cell, start_s)
        self.outbox = Outbox.empty(len(channel))

    def _parts(self) -> dict[str, Saveable]:
        return {**super()._parts(), "outbox": self.outbox}

    def send(
        self, rows: Ints, num_bytes: Ints, ready_s: Floats, expiry_s: Floats, replaces: bool
    ) -> tuple[Ints, NDArray[np.bool_]]:
        """Gives messages to the links.

        Args:
            rows: ``[k]``, without repeats.
            num_bytes: ``[k]``, above 0.
            ready_s: ``[k]``.
            expiry_s: ``[k]``, from when on nobody wants each.
            replaces: Whether a message that waits for a busy link gives way to the next one of its
                device.

        Returns:
            Tickets ``[k]``, and whether a waiting message was replaced ``[k]``.
        """
        tickets = self.tickets(rows, expiry_s)
        self.start_waiting(rows, ready_s)
        waiting = self.outbox.ticket[rows]
        old = waiting >= 0
        replaced = np.zeros(len(rows), bool)
        if old.any():
            if replaces:
                self.drop(waiting[old])
                self.outbox.ticket[rows[old]] = -1
                replaced = old
            else:
                self.start_waiting(rows, np.full(len(rows), np.inf))
        busy = self.fifo.free_s[rows] > ready_s
        holds = busy if replaces else np.zeros(len(rows), bool)
        self.outbox.put(
            rows[holds], tickets[holds], ready_s[holds], expiry_s[holds], num_bytes[holds]
        )
        now = ~holds
        self._begin(tickets[now], rows[now], ready_s[now], num_bytes[now])
        return tickets, replaced

    def start_waiting(self, rows: Ints, until_s: Floats) -> None:
        """Begins what waits on these devices where the link is free by ``until_s`` ``[k]``."""
        box = self.outbox
        has = box.ticket[rows] >= 0
        go = rows[has & (self.fifo.free_s[rows] <= until_s)]
        if len(go):
            tickets, box.ticket[go] = box.ticket[go], -1
            self._begin(tickets, go, box.ready_s[go], box.num_bytes[go])

    def run(self, until_s: float, targets: Ints | None = None) -> None:
        """Goes on until a time, or until the last of the targets has come if that is earlier."""
        if targets is None:
            self.start_waiting(np.arange(len(self.channel)), np.full(len(self.channel), until_s))
        else:
            self.start_waiting(self.rows[targets].astype(np.int64), np.full(len(targets), until_s))
        if self.cell is not None:
            left = self.cell.run(until_s, targets)
            self._arrived(left.ids, left.times_s)

    def _begin(self, tickets: Ints, rows: Ints, ready_s: Floats, num_bytes: Ints) -> None:
        arrival_s = self._on_links(tickets, rows, ready_s, num_bytes)
        if self.cell is None:
            self._arrived(tickets, arrival_s)
            return
        comes = np.isfinite(arrival_s)
        self.drop(tickets[~comes])
        self.cell.add(tickets[comes], arrival_s[comes], num_bytes[comes])


class DownPath(Path):
    """From the cloud to devices: the cell, then the device's own link."""

    def __init__(self, channel: Channel, cell: SharedCapacity | None, start_s: float) -> None:
        super().__init__(channel, cell, start_s)
        self._num_bytes = Column()

    def _parts(self) -> dict[str, Saveable]:
        return {**super()._parts(), "num_bytes": self._num_bytes}

    def send(self, tickets: Ints, num_bytes: Ints, ready_s: Floats) -> None:
        """Gives messages to the cell, or to the links.

        Args:
            tickets: ``[k]``, of :meth:`tickets`.
            num_bytes: ``[k]``.
            ready_s: ``[k]``.
        """
        self._num_bytes.more(self.arrival_s.size - self._num_bytes.size)
        self._num_bytes[tickets] = num_bytes
        if self.cell is None:
            self._begin(tickets, ready_s)
        else:
            self.cell.add(tickets, ready_s, num_bytes)

    def run(self, until_s: float, targets: Ints | None = None) -> None:
        """Goes on until a time, or until the last of the targets has left the cell, if earlier."""
        if self.cell is not None:
            left = self.cell.run(until_s, targets)
            self._begin(left.ids, left.times_s)

    def _begin(self, tickets: Ints, ready_s: Floats) -> None:
        """Sends on the links in the order of ``ready_s``; messages of one device in turn."""
        order = np.lexsort((tickets, ready_s))
        while len(order):
            rows = self.rows[tickets[order]].astype(np.int64)
            _, first = np.unique(rows, return_index=True)
            now = order[first]
            row = rows[first]
            sizes = self._num_bytes[tickets[now]].astype(np.int64)
            self._arrived(tickets[now], self._on_links(tickets[now], row, ready_s[now], sizes))
            order = np.delete(order, first)
