"""Links in virtual time around any grid.

``LinkGrid`` sees every message, measures it as it would be on the wire, moves the clock of each
link, and tells the devices when what they get arrives. Nothing here knows a strategy or opens a
payload, and no time comes from this computer's clock.

**Segments.** Segment ``r`` lasts from T(r) to T(r+1). A device's upload starts at T(r) (after its
work, if it trains); the cloud answers when it has the report and has done its own work; parameters
arrive when the downlink has moved them. What arrives after T(r+1) waits on the link and is handed
to the device in the segment in which it arrives. If two payloads arrive in one segment, the device
gets the newer one. The cloud sends nothing that depends on what it does not have yet, and nothing
in answer to a report that is lost.

**Rounds.** Without segments rounds follow one another, as in a synchronous Flower app: an exchange
lasts until the slowest reply is in the cloud, and nothing is held back.
"""

from collections.abc import Callable, Iterable

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid
from numpy.typing import ArrayLike, NDArray

from cdc_flower.core.saveable import (
    Arrays,
    Saveable,
    Saved,
    nested,
    restore_fields,
    restore_nested,
    saved_fields,
)
from cdc_flower.core.words import counted
from cdc_flower.devices.app import segment_of
from cdc_flower.simulations.fleet import Fleet
from cdc_flower.simulations.grids.base import without_repeats
from cdc_flower.simulations.grids.flower import with_nodes
from cdc_flower.simulations.grids.through import Through
from cdc_flower.simulations.links.accounting import Floats, Ints, Round, Rounds, Usage, work_of
from cdc_flower.simulations.links.in_flight import Ages, InFlight, Payload
from cdc_flower.simulations.links.links import Links
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import Group, groups_of, joined

#: Called after each segment or round: its number, the replies to what was evaluated, and the usage.
Observer = Callable[[int, list[MessageBatch], Usage], None]


class LinkGrid(Through):
    """Puts each device of a grid behind a link.

    Args:
        inner: Where the devices are played; Flower's own grid too.
        fleet: Links and speeds, in the order of ``inner.get_node_ids()`` or of ``node_ids``.
        segment_starts_s: ``[num_segments + 1]``, virtual time of the decision points. None: rounds
            follow one another from 0 s on, and each lasts as long as it takes.
        waits_for_all: Whether the cloud answers only when the last report is in (as averaging
            does), or each device as soon as its own is. Without segments it always waits.
        observer: Told what was seen, after each segment or round that was evaluated.
        node_ids: ``[n]``, the node of each device of the fleet; those of the inner grid by default.

    Raises:
        ValueError: If there are not as many links as nodes.
    """

    _saved_as = "links"

    def __init__(
        self,
        inner: Grid,
        fleet: Fleet,
        segment_starts_s: Floats | None = None,
        *,
        waits_for_all: bool = True,
        observer: Observer | None = None,
        node_ids: NDArray[np.uint64] | None = None,
    ) -> None:
        super().__init__(with_nodes(inner, node_ids))
        self.fleet, self.waits_for_all, self.observer = fleet, waits_for_all, observer
        self.starts_s = (
            None if segment_starts_s is None else np.asarray(segment_starts_s, np.float64)
        )
        self.node_ids = np.array(
            list(self._inner.get_node_ids()) if node_ids is None else node_ids, np.uint64
        )
        if len(self.node_ids) != len(fleet):
            raise ValueError(
                "fleet must have one link a node, "
                f"got {counted(len(fleet), 'link')} for {counted(len(self.node_ids), 'node')}"
            )
        self._order = np.argsort(self.node_ids)
        self._now_s = 0.0 if self.starts_s is None else float(self.starts_s[0])
        self._links = Links(fleet, self._now_s)
        self._rounds = Rounds(len(fleet), self._now_s, keeps=observer is None)
        self._ages, self._in_flight = Ages(len(fleet), self._now_s), InFlight()
        self._segment = 0

    def _parts(self) -> dict[str, Saveable]:
        """Everything that has a state of its own."""
        on_links: dict[str, Saveable] = {"queues": self._links, "in_flight": self._in_flight}
        return {**on_links, "rounds": self._rounds, "ages": self._ages}

    def to_arrays(self) -> Arrays:
        """Takes virtual time, the links, what is on its way, and what was counted."""
        own = saved_fields(self, ("_now_s", "_segment"))
        return {**super().to_arrays(), **own, **nested(self._parts())}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on from a saved moment, with the same fleet."""
        super().from_arrays(arrays)
        restore_fields(self, ("_now_s", "_segment"), arrays)
        restore_nested(self._parts(), arrays)

    @property
    def now_s(self) -> float:
        """Virtual time: when the last exchange was done, or the last evaluated segment ended."""
        return self._now_s

    @property
    def rounds(self) -> list[Round]:
        """Rounds (or segments) so far; the last may still be under way.

        With an observer, which is told of each, those that are done are not kept.
        """
        return self._rounds.so_far(self._now_s)

    def get_node_ids(self) -> list[int]:
        """Lists node ids in the order of the fleet."""
        return [int(node_id) for node_id in self.node_ids]

    def rows(self, node_ids: ArrayLike) -> Ints:
        """Finds the rows of these nodes in the fleet.

        Raises:
            ValueError: If there is no such node.
        """
        wanted = np.asarray(node_ids).astype(np.uint64)
        return rows_among(self.node_ids, self._order, wanted)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Sends over the links, plays, and sends the replies back; see the module's description.

        A message that the inner grid does not answer has no reply here.
        """
        groups = without_repeats(groups_of(messages))
        ends = [group for group in groups if group[0].message_type.split(".")[0] == "evaluate"]
        begins = [group for group in groups if group[0].message_type.split(".")[0] != "evaluate"]
        parts: list[Group] = []
        if begins:
            if any(batch.message_type.split(".")[0] == "train" for batch, _ in begins):
                self._rounds.train(self._now_s, one_follows_another=self.starts_s is None)
            parts += self._exchange(begins, timeout)
        if ends:
            played = (
                self._exchange(ends, timeout)
                if self.starts_s is None
                else self._evaluate(ends, timeout)
            )
            self._finish([replies for replies, _ in played])
            parts += played
        return joined(parts)

    def _finish(self, replies: list[MessageBatch]) -> None:
        """Tells the observer, and begins with a new usage."""
        number = self._segment if self.starts_s is not None else self._rounds.num_done
        self._links.end_round(self._rounds.usage)
        usage = self._rounds.close(self._now_s).usage
        if self.observer is not None:
            answered = [
                batch.select(batch.ok_rows()) if batch.errors else batch for batch in replies
            ]
            self.observer(number, [batch for batch in answered if len(batch)], usage)

    def _start_s(self, batch: MessageBatch) -> float:
        """Tells when messages are sent at the earliest: at the start of their segment, or now."""
        if self.starts_s is None:
            return self._now_s
        configs = batch.configs.get(records.CLOCK, {}), batch.configs.get(records.CONFIG, {})
        if records.SEGMENT in configs[0] or records.SERVER_ROUND in configs[1]:
            segment, num_segments = segment_of(batch), len(self.starts_s) - 1
            if not 0 <= segment < num_segments:
                raise ValueError(f"segment must be in 0..{num_segments - 1}, got {segment}")
            self._segment = segment
        self._rounds.start_s = float(self.starts_s[self._segment])
        return self._rounds.start_s

    def _play(self, batch: MessageBatch, timeout: float | None) -> list[Group]:
        """Plays messages: replies of each schema, with the messages ``[k]`` that they answer."""
        node_ids = batch.node_ids.astype(np.uint64)
        order = np.argsort(node_ids)
        groups = groups_of(self._inner.send_and_receive(batch, timeout=timeout))
        return [
            (reply, rows_among(node_ids, order, reply.node_ids.astype(np.uint64)))
            for reply, _ in groups
            if len(reply)
        ]

    def _exchange(
        self, groups: list[Group], timeout: float | None
    ) -> list[tuple[MessageBatch, Ints]]:
        """Sends messages down and replies up; in rounds until the last reply is in the cloud.

        What does not arrive by the deadline is not played, and a reply that is known to be lost is
        not given back.
        """
        told: list[tuple[MessageBatch, Ints, Ints]] = []
        end_s, asked_s, usage = self._now_s, self._now_s, self._rounds.usage
        for batch, positions in groups:
            start_s, rows = self._start_s(batch), self.rows(batch.node_ids)
            asked_s = start_s
            wire_bytes, tickets = self._links.down(rows, batch, start_s, usage, is_answer=False)
            arrival_s = self._links.deliver(tickets, start_s + self._links.deadline_s)
            arrival_s = np.where(wire_bytes > 0, arrival_s, start_s)
            got = arrival_s >= start_s
            if self.starts_s is None and batch.message_type.startswith("evaluate"):
                new = got & (wire_bytes > 0)
                usage.latency_s[rows[new]] = arrival_s[new] - self._rounds.start_s
            end_s = max(end_s, float(np.max(arrival_s, initial=end_s, where=got)))
            if not got.any():
                continue
            sent, where = (
                (batch, np.arange(len(batch)))
                if got.all()
                else (batch.select(got), np.flatnonzero(got))
            )
            for replies, place in self._play(sent, timeout):
                answered, place = rows[where[place]], where[place]
                ready_s = arrival_s[place] + self._links.work(answered, replies, usage)
                up_bytes, reports = self._links.up(
                    answered, replies, ready_s, usage, asked_s=start_s
                )
                makes_own = (up_bytes == 0) & (work_of(replies).flops > 0)
                self._ages.begin_own(answered[makes_own], start_s, ready_s[makes_own])
                end_s = max(end_s, float(np.max(ready_s, initial=end_s, where=up_bytes == 0)))
                told.append((replies, positions[place], reports))
        waits = self.waits_for_all or self.starts_s is None
        tickets = np.concatenate([np.empty(0, np.int64), *(reports for _, _, reports in told)])
        report_arrival_s = (
            self._links.collect(tickets, asked_s)
            if waits
            else self._links.report_arrival_s(tickets)
        )
        if self.starts_s is None:
            self._now_s = max(end_s, self._links.barrier_s)
        lost = tickets[report_arrival_s == -np.inf]
        return [answer for answer in (without_lost(*part, lost) for part in told) if len(answer[0])]

    def _evaluate(
        self, groups: list[Group], timeout: float | None
    ) -> list[tuple[MessageBatch, Ints]]:
        """Lets devices predict a segment: each is handed what arrives in it."""
        played, usage, last = [], self._rounds.usage, []
        sent = []
        for batch, positions in groups:
            start_s, rows = self._start_s(batch), self.rows(batch.node_ids)
            is_answer = not self.waits_for_all
            wire_bytes, tickets = self._links.down(rows, batch, start_s, usage, is_answer=is_answer)
            sent.append((batch, positions, rows, wire_bytes, tickets, start_s))
        end_s = float(self.starts_s[self._segment + 1])  # type: ignore[index]
        self._links.run(end_s)
        for batch, positions, rows, wire_bytes, tickets, start_s in sent:
            arrival_s = np.where(wire_bytes > 0, self._links.arrival_s(tickets), start_s)
            usage.num_late[rows[arrival_s >= end_s]] += 1
            for part, place, part_arrival_s, made_s in self._land(
                batch, rows, tickets, arrival_s, start_s, end_s
            ):
                clock = {
                    records.SEGMENT: self._segment,
                    records.ARRIVAL_S: part_arrival_s,
                    records.FLOPS_PER_S: self.fleet.device_flops_per_s[rows[place]],
                }
                used_s = part_arrival_s.copy()
                for replies, where in self._play(
                    part.with_records(configs={records.CLOCK: clock}), timeout
                ):
                    answered = rows[place[where]]
                    used_s[where] += self._links.work(answered, replies, usage)
                    _, reports = self._links.up(
                        answered, replies, np.clip(used_s[where], start_s, end_s), usage
                    )
                    last.append(reports)
                    played.append((replies.without({records.WORK}), positions[place[where]]))
                self._ages.pass_segment(rows[place], used_s, made_s, start_s, end_s, usage)
            self._now_s = end_s
        if self.waits_for_all and last:
            self._links.collect(np.concatenate(last))
        return played

    def _land(
        self,
        batch: MessageBatch,
        rows: Ints,
        tickets: Ints,
        arrival_s: Floats,
        start_s: float,
        end_s: float,
    ) -> list[tuple[MessageBatch, Ints, Floats, Floats]]:
        """Says what to play: to those who get what was sent now, or before, or nothing.

        Args:
            batch: The messages ``[m]`` of the segment.
            rows: ``[m]``, their devices.
            tickets: ``[m]``, under which they were sent; -1 for what costs nothing.
            arrival_s: ``[m]``.
            start_s: Of the segment.
            end_s: Of the segment.

        Returns:
            Messages ``[k]``, their places in the batch, when each device has what it gets (-inf for
            nothing), and when that was asked for.
        """
        n, place_of = len(self.fleet), np.full(len(self.fleet), -1)
        place_of[rows] = np.arange(len(rows))
        sent, asked, served = tickets >= 0, place_of >= 0, np.zeros(n, bool)
        late, now = sent & (arrival_s >= end_s), sent & (arrival_s < end_s) & (arrival_s > -np.inf)
        made_s = np.full(len(rows), start_s)
        parts = []
        if now.any():
            served[rows[now]] = True
            parts.append((batch.select(now), np.flatnonzero(now), arrival_s[now], made_s[now]))
        for payload in self._in_flight.land(asked, served, end_s, self._links.arrival_s):
            place = place_of[payload.rows]
            content = payload.batch
            message = batch.select(place).only(records.INSTRUMENTS)
            message = message.with_records(
                arrays=content.arrays,
                shared=content.shared,
                metrics=content.metrics,
                configs=content.configs,
            )
            parts.append((message, place, self._links.arrival_s(payload.tickets), payload.made_s))
        if late.any():
            waiting = batch.select(late).without(records.INSTRUMENTS)
            self._in_flight.add(Payload(waiting, rows[late], tickets[late], made_s[late]))
        quiet = np.flatnonzero(~served[rows])
        if len(quiet):
            message = batch.select(quiet).only(records.INSTRUMENTS)
            own = self._ages.own_made_s(rows[quiet])
            parts.append((message, quiet, self._ages.own_ready_s[rows[quiet]], own))
        return parts


def without_lost(
    replies: MessageBatch, positions: Ints, reports: Ints, lost: Ints
) -> tuple[MessageBatch, Ints]:
    """Leaves out replies whose reports were lost.

    Args:
        replies: ``[k]``.
        positions: ``[k]``, of the messages that they answer.
        reports: ``[k]``, tickets.
        lost: Tickets of reports.
    """
    if not len(lost):
        return replies, positions
    kept = np.flatnonzero(~np.isin(reports, lost))
    return replies.select(kept), positions[kept]


def rows_among(node_ids: NDArray[np.uint64], order: Ints, wanted: NDArray[np.uint64]) -> Ints:
    """Finds each wanted node among the nodes.

    Args:
        node_ids: ``[n]``.
        order: ``[n]``, of the nodes when they are sorted.
        wanted: ``[k]``.

    Raises:
        ValueError: If one is not there.
    """
    found = order[np.minimum(np.searchsorted(node_ids, wanted, sorter=order), len(node_ids) - 1)]
    unknown = node_ids[found] != wanted
    if unknown.any():
        raise ValueError(f"node must be one of those asked, got {wanted[unknown][0]}")
    return found
