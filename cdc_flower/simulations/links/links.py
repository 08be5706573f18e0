"""The links of a fleet in virtual time: what is on its way, and what the cloud knows when."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.saveable import (
    Arrays,
    Saveable,
    Saved,
    nested,
    restore_fields,
    restore_nested,
    saved_fields,
)
from cdc_flower.simulations.fleet import Fleet
from cdc_flower.simulations.links.accounting import Floats, Ints, Usage, work_of
from cdc_flower.simulations.network.paths import DROPPED, PENDING, DownPath, UpPath
from cdc_flower.simulations.network.sharing import SharedCapacity, Workers
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


@dataclass
class Answers:
    """Messages that the cloud has to send, and the reports that they wait for: one row a message.

    Attributes:
        ticket: Of the message down.
        report: The ticket up of what it answers; -1 if it answers none.
        start_s: When it can begin at the earliest.
        work_s: Seconds of work that it takes.
        num_bytes: Its size.
    """

    ticket: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    report: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    start_s: Floats = field(default_factory=lambda: np.empty(0))
    work_s: Floats = field(default_factory=lambda: np.empty(0))
    num_bytes: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    def select(self, which: NDArray) -> "Answers":
        """Selects some messages."""
        columns = (self.ticket, self.report, self.start_s, self.work_s, self.num_bytes)
        return Answers(*(column[which] for column in columns))

    def and_also(self, other: "Answers") -> "Answers":
        """Puts others behind these."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Answers(*(np.concatenate(pair) for pair in pairs))

    def to_arrays(self) -> Arrays:
        """Takes all rows."""
        return saved_fields(self, list(vars(self)))

    def from_arrays(self, arrays: Saved) -> None:
        """Replaces the rows by saved ones, of any number."""
        restore_fields(self, list(vars(self)), arrays, grows=True)


#: Attributes of links that change, beside their parts.
_CHANGING = ("_reports", "_report_arrival_s", "barrier_s")


class Links:
    """Moves messages: first come, first served on each link; cell and cloud workers are shared.

    Args:
        fleet: Links, speeds and conditions of ``n`` devices.
        start_s: From when on the links are free.
    """

    def __init__(self, fleet: Fleet, start_s: float) -> None:
        self.fleet, n, rules = fleet, len(fleet), fleet.conditions
        up, down = fleet.channels()
        cells = [
            None if rate is None else SharedCapacity(rate, start_s)
            for rate in (rules.cell_up_bps, rules.cell_down_bps)
        ]
        self.up_path, self.down_path = (
            UpPath(up, cells[0], start_s),
            DownPath(down, cells[1], start_s),
        )
        self.workers = Workers(fleet.num_cloud_workers, start_s)
        self.ttl_s = np.inf if rules.ttl_s is None else rules.ttl_s
        self.deadline_s = np.inf if rules.deadline_s is None else rules.deadline_s
        self._waiting, self._served = Answers(), Answers()
        self._reports = np.full(n, -1)  # tickets of this round's reports
        self._report_arrival_s = np.full(
            n, -np.inf
        )  # when the cloud had what each device told last, of those that came
        self.barrier_s = -np.inf

    def _parts(self) -> dict[str, Saveable]:
        """Everything that has a state of its own."""
        paths: dict[str, Saveable] = {"up": self.up_path, "down": self.down_path}
        queues = {"waiting": self._waiting, "served": self._served}
        return {**paths, "workers": self.workers, **queues}

    def to_arrays(self) -> Arrays:
        """Takes the links, all queues, and what the cloud has been told when."""
        return {**nested(self._parts()), **saved_fields(self, _CHANGING)}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with the saved links of the same fleet."""
        restore_nested(self._parts(), arrays)
        restore_fields(self, _CHANGING, arrays)

    def down(
        self, rows: Ints, batch: MessageBatch, start_s: float, usage: Usage, *, is_answer: bool
    ) -> tuple[Ints, Ints]:
        """Sends messages to devices, when the cloud has what these told and has done its work.

        Args:
            rows: ``[k]``, the device of each message.
            batch: The messages, with the work that they took the cloud.
            start_s: When they are sent at the earliest.
            usage: Where bytes and work are counted.
            is_answer: Whether they answer the reports of this round: an answer to a report that is
                lost is not sent.

        Returns:
            Bytes on the wire ``[k]`` and tickets ``[k]``, -1 for a message that costs nothing.
        """
        wire_bytes = usage.add_bytes("down", rows, batch.without(records.INSTRUMENTS))
        flops = work_of(batch).flops
        work_s = flops / self.fleet.cloud_flops_per_s + (flops > 0) * self.fleet.cloud_s_per_device
        usage.compute_cloud_s[rows] += work_s
        usage.flops_cloud[rows] += flops
        go = wire_bytes > 0
        tickets = np.full(len(rows), -1)
        sent = rows[go]
        tickets[go] = self.down_path.tickets(sent, np.full(len(sent), np.inf))
        report = self._reports[sent] if is_answer else np.full(len(sent), -1)
        begin_s = np.maximum(
            start_s,
            np.maximum(
                self.barrier_s, np.where(report >= 0, -np.inf, self._report_arrival_s[sent])
            ),
        )
        self._waiting = self._waiting.and_also(
            Answers(tickets[go], report, begin_s, work_s[go], wire_bytes[go])
        )
        return wire_bytes, tickets

    def up(
        self,
        rows: Ints,
        replies: MessageBatch,
        ready_s: Floats,
        usage: Usage,
        *,
        asked_s: float | None = None,
    ) -> tuple[Ints, Ints]:
        """Sends replies to the cloud.

        Args:
            rows: ``[k]``, the device of each reply.
            replies: The replies; errors cost bytes as well.
            ready_s: ``[k]``, when each is ready.
            usage: Where bytes are counted.
            asked_s: When the cloud asked for reports, for the deadline; None: these are no reports.

        Returns:
            Bytes on the wire ``[k]``, and tickets ``[k]``, -1 for a reply that costs nothing.
        """
        wire_bytes = usage.add_bytes("up", rows, replies.without(records.INSTRUMENTS))
        go = (wire_bytes > 0) & np.isfinite(ready_s)
        tickets, sent = np.full(len(rows), -1), rows[go]
        expiry_s = ready_s[go] + self.ttl_s
        if asked_s is not None:
            expiry_s = np.minimum(expiry_s, asked_s + self.deadline_s)
        replaces = asked_s is not None and records.REPORT in replies.record_names()
        tickets[go], _ = self.up_path.send(sent, wire_bytes[go], ready_s[go], expiry_s, replaces)
        if asked_s is not None:
            self._reports[sent] = tickets[go]
            usage.num_reports[sent] += 1
        self._note_arrivals(tickets[go])
        return wire_bytes, tickets

    def work(self, rows: Ints, replies: MessageBatch, usage: Usage) -> Floats:
        """Counts the work, the labels and the events told that devices declare.

        Args:
            rows: ``[k]``, the device of each reply.
            replies: With the work that they took the devices.
            usage: Where they are counted.

        Returns:
            Seconds of work ``[k]``.
        """
        declared = work_of(replies)
        work_s = declared.flops / self.fleet.device_flops_per_s[rows]
        usage.compute_device_s[rows] += work_s
        usage.flops_device[rows] += declared.flops
        usage.num_labels[rows] += declared.num_labels
        usage.num_told[rows] += declared.num_told
        return work_s

    def run(self, until_s: float) -> None:
        """Lets everything that is on its way go on until a time."""
        self.up_path.run(until_s)
        self._answer(until_s)
        self.down_path.run(until_s)

    def deliver(self, tickets: Ints, until_s: float) -> Floats:
        """Goes on until messages are at their devices, or until a time: when each is there ``[k]``.

        A ticket of -1 is NaN. One that does not come by then is dropped and -inf.
        """
        sent = tickets[tickets >= 0]
        if len(sent):
            self._answer(np.inf)
            self.down_path.run(until_s, sent)
            self.down_path.drop(sent[self.down_path.arrival_s[sent] == PENDING])
        return self.arrival_s(tickets)

    def collect(self, tickets: Ints, asked_s: float = np.inf) -> Floats:
        """Goes on until reports are in the cloud, or their deadline: when each is there ``[k]``.

        From here on the cloud acts only when the last of them is in, or at the deadline if one is
        missing. Without a deadline it does not wait for what will never come. A ticket of -1 is
        NaN, a report that is missing -inf.

        Args:
            tickets: ``[k]``, of :meth:`up`.
            asked_s: When they were asked for; inf: there is no deadline.
        """
        sent = tickets[tickets >= 0]
        if len(sent):
            deadline_s = asked_s + self.deadline_s
            self.up_path.run(deadline_s, sent)
            self.up_path.drop(sent[self.up_path.arrival_s[sent] == PENDING])
            report_arrival_s = self.up_path.arrival_s[sent]
            expiry_s = self.up_path.expiry_s[sent]
            expiry_s = np.where(np.isfinite(expiry_s), expiry_s, -np.inf)
            self.barrier_s = max(
                self.barrier_s,
                float(np.where(report_arrival_s == DROPPED, expiry_s, report_arrival_s).max()),
            )
        return self.report_arrival_s(tickets)

    def report_arrival_s(self, tickets: Ints) -> Floats:
        """Tells when the cloud has reports ``[k]``: NaN: ticket -1, inf: not yet, -inf: never."""
        return np.where(tickets >= 0, self.up_path.arrival_s[np.maximum(tickets, 0)], np.nan)

    def arrival_s(self, tickets: Ints) -> Floats:
        """Tells when messages are at devices ``[k]``: NaN: ticket -1, inf: not yet, -inf: never."""
        return np.where(tickets >= 0, self.down_path.arrival_s[np.maximum(tickets, 0)], np.nan)

    def end_round(self, usage: Usage) -> None:
        """Counts what was dropped and sent again since the last round, and begin a new one."""
        self._note_arrivals(self._reports[self._reports >= 0])
        self._reports[:] = -1
        for path in (self.up_path, self.down_path):
            usage.num_dropped[:] += path.num_dropped
            usage.bytes_again[:] += path.bytes_again
            path.num_dropped[:], path.bytes_again[:] = 0, 0

    def _note_arrivals(self, tickets: Ints) -> None:
        report_arrival_s, rows = (
            self.up_path.arrival_s[tickets],
            self.up_path.rows[tickets].astype(np.int64),
        )
        came = np.isfinite(report_arrival_s)
        self._report_arrival_s[rows[came]] = report_arrival_s[came]

    def _answer(self, until_s: float) -> None:
        """Does the cloud's work on what it has by then, and sends what is ready by then."""
        waiting = self._waiting
        if len(waiting.ticket):
            report_arrival_s = np.where(
                waiting.report >= 0, self.up_path.arrival_s[np.maximum(waiting.report, 0)], -np.inf
            )
            lost = (waiting.report >= 0) & (report_arrival_s == DROPPED)
            self.down_path.arrival_s[waiting.ticket[lost]] = (
                DROPPED  # the loss of its report was counted
            )
            enter_s = np.maximum(waiting.start_s, report_arrival_s)
            now = ~lost & (enter_s <= until_s) & (enter_s < PENDING)
            order = np.flatnonzero(now)[np.lexsort((waiting.ticket[now], enter_s[now]))]
            entering = waiting.select(order)
            works = entering.work_s > 0
            done_s = enter_s[order].copy()
            done_s[works] = self.workers.serve(done_s[works], entering.work_s[works])
            entering.start_s = done_s
            self._waiting = waiting.select(~now & ~lost)
            self._served = self._served.and_also(entering)
        ready = self._served.start_s <= until_s
        if ready.any():
            leaving = self._served.select(ready)
            self._served = self._served.select(~ready)
            self.down_path.expiry_s[leaving.ticket] = leaving.start_s + self.ttl_s
            self.down_path.send(leaving.ticket, leaving.num_bytes, leaving.start_s)
