"""The device end of the quarantine, behind the links: whose reply it is, and the instruments.

Links move what a device answered whatever it is, so a reply that is left out is not dropped here:
it loses what the simulation would read of it, and is marked for the cloud end. A reply that nobody
asked for, or that came in another's name, is dropped. An evaluation that is left out has scores
of no event.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid
from numpy.typing import NDArray

from cdc_flower.core.saveable import Arrays, Saved, part_of, prefixed
from cdc_flower.simulations.deployment import Nodes
from cdc_flower.simulations.grids.base import BatchedGrid, without_repeats
from cdc_flower.simulations.grids.flower import with_nodes
from cdc_flower.simulations.grids.strategy import segment_or_none
from cdc_flower.simulations.grids.through import Through, all_of, grids_inside
from cdc_flower.simulations.quarantine import reasons
from cdc_flower.simulations.quarantine.book import Book
from cdc_flower.simulations.quarantine.bounds import Known
from cdc_flower.simulations.quarantine.identity import Asked, Judged, Rows
from cdc_flower.simulations.quarantine.payload import not_finite
from cdc_flower.simulations.quarantine.schema import (
    Agreements,
    Schema,
    difference,
    schema_of,
)
from cdc_flower.simulations.quarantine.scores import (
    blame_scores,
    blame_work,
    neutral_scores,
    scoreless,
)
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import Group, groups_of, joined

#: Dropped: there is no link on which they could have come.
NOT_CARRIED = (reasons.UNKNOWN_NODE, reasons.OTHER_NAME, reasons.TWICE, reasons.STALE, reasons.KIND)
#: Records beside the payload.
BESIDE = (*sorted(records.INSTRUMENTS), records.PADDING)


class DeviceEnd(Through):
    """Checks whose replies are and what the simulation reads of them.

    Args:
        inner: The devices.
        nodes: Of the run.
        book: Of both ends.
        known: Of the data.
    """

    _saved_as = "quarantine_of_devices"

    def __init__(self, inner: Grid, nodes: Nodes, book: Book, known: Known) -> None:
        super().__init__(with_nodes(inner, nodes.node_ids))
        self._nodes = nodes
        self._book = book
        self._known = known
        self._rows = Rows(nodes.node_ids)
        self._agreements = Agreements()
        # In Flower's own grid messages get their ids when they are sent.
        self._names = isinstance([*grids_inside(self._inner)][-1], BatchedGrid)

    def to_arrays(self) -> Arrays:
        """Takes what most devices have had in common."""
        agreed = prefixed("agreed", self._agreements.to_arrays())
        return {**super().to_arrays(), **agreed}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with what most devices had in common."""
        super().from_arrays(arrays)
        self._agreements.from_arrays(part_of(arrays, "agreed"))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Sends messages as they are, and gives replies of those that were asked."""
        groups = without_repeats(groups_of(messages))
        sent = tuple(self._named(batch) for batch, _ in groups if len(batch))
        if not sent:
            return []
        segments = [segment_or_none(batch) for batch in sent]
        self._book.segment = max([each for each in segments if each is not None], default=0)
        replies = groups_of(self._inner.send_and_receive(all_of(sent), timeout=timeout))
        judged = Asked(sent, self._rows).judged([group for group in replies if len(group[0])])
        return joined(self._passed(judged, sent))

    def _named(self, batch: MessageBatch) -> MessageBatch:
        """Gives ids to messages that have none, by which replies are told apart."""
        if batch.message_ids is not None or not self._names:
            return batch
        return replace(batch, message_ids=self._new_ids(len(batch)))

    def _passed(self, judged: list[Judged], sent: tuple[MessageBatch, ...]) -> list[Group]:
        """Gives all replies that go on, in parts."""
        passed: list[Group] = []
        for kind in dict.fromkeys(batch.message_type for batch in sent):
            mine = [each for each in judged if each.batch.message_type == kind]
            agreed = self._agreed(kind, mine, whole=not kind.startswith(records.TRAIN))
            for each in mine:
                self._blame(each, kind)
                passed += self._parts(each, kind)
            if kind.split(".")[0] == records.EVALUATE:
                passed += self._without_scores(judged, kind, agreed)
        for each in judged:
            self._leave_out(each)
        return passed

    def _agreed(self, kind: str, mine: list[Judged], *, whole: bool) -> Schema:
        """Finds what most have in common, and blames the others.

        Args:
            kind: Message type.
            mine: Replies of that type.
            whole: Whether the payload is compared here; else the cloud end does it.
        """
        votes = []
        for each in mine:
            names = each.batch.record_names() if whole else BESIDE
            schema = schema_of(each.batch, _without_work(each.batch, names))
            votes.append((each, schema, each.ok & each.has_content))
        counted = [(schema, int(ok.sum())) for _, schema, ok in votes if ok.any()]
        agreed = self._agreements.of(kind, counted)
        for each, schema, ok in votes:
            reason = difference(schema, agreed)
            if reason and ok.any():
                each.blame(ok, reason)
        return agreed

    def _blame(self, each: Judged, kind: str) -> None:
        """Blames values of instruments."""
        if not (each.ok & each.has_content).any():
            return
        blame_work(each)
        if kind.split(".")[0] == records.EVALUATE:
            ids = self._nodes.device_ids[np.maximum(each.rows, 0)]
            endless = blame_scores(each, self._known, ids, self._book.segment)
            if endless:
                self._book.endless.note(self._book.segment, endless)
        elif kind == records.QUERY_UNCERTAINTY:
            each.blame(not_finite(each.batch, [records.SCORES]), reasons.NOT_FINITE)

    def _parts(self, each: Judged, kind: str) -> list[Group]:
        """Gives replies that go on: those of which nothing is wrong as they are."""
        ok = each.ok
        if ok.all():
            return [(each.batch, each.where)]
        parts = [(each.batch.select(ok), each.where[ok])] if ok.any() else []
        carried = np.flatnonzero(~ok & ~np.isin(each.wrong, NOT_CARRIED))
        if len(carried) and kind.startswith(records.TRAIN):
            parts.append((scoreless(each.batch.select(carried)), each.where[carried]))
        return parts

    def _without_scores(self, judged: list[Judged], kind: str, agreed: Schema) -> list[Group]:
        """Gives an evaluation of no event for each device whose own is left out.

        What it sent beside is on its link all the same.

        Args:
            judged: All replies of the exchange.
            kind: Message type of the evaluation.
            agreed: Schema of most replies.
        """
        if not any(record == records.SCORES for _, record, *_ in agreed):
            return []
        mine = [each for each in judged if each.batch.message_type == kind]
        none = np.empty(0, np.int64)
        done = set(np.concatenate([none, *(each.rows[each.ok] for each in mine)]).tolist())
        parts: list[Group] = []
        for each in judged:
            places = []
            for place in np.flatnonzero(~each.ok & (each.wrong != reasons.UNKNOWN_NODE)).tolist():
                if int(each.rows[place]) not in done:
                    done.add(int(each.rows[place]))
                    places.append(place)
            if places:
                parts.append(self._neutral(each, np.array(places), kind, agreed))
        return parts

    def _neutral(self, each: Judged, places: NDArray[np.int64], kind: str, agreed: Schema) -> Group:
        """Makes evaluations of no event.

        Args:
            each: Replies.
            places: ``[k]``, of those that are left out.
            kind: Message type of the evaluation.
            agreed: Schema of most replies.
        """
        rows = each.rows[places]
        metrics, arrays = neutral_scores(agreed, self._nodes.device_ids[rows])
        own = scoreless(each.batch.select(places))
        if own.errors or np.isin(each.wrong[places], NOT_CARRIED).any():
            own = own.without(own.record_names())
        nodes = self._nodes.node_ids[rows]
        own = replace(own, node_ids=nodes, errors={}, message_type=kind)
        return own.with_records(metrics=metrics, arrays=arrays), each.where[places]

    def _leave_out(self, each: Judged) -> None:
        """Counts what is wrong in the book."""
        is_query = each.batch.message_type.startswith("query")
        for reason in dict.fromkeys(each.wrong[~each.ok].tolist()):
            marks = not is_query and reason not in NOT_CARRIED
            self._book.leave_out(each.rows[each.wrong == reason], reason, marks=marks)


def _without_work(batch: MessageBatch, names: Iterable[str]) -> list[str]:
    """Leaves out the work, which devices declare where they do some, unless it is no config."""
    is_config = records.WORK in batch.configs
    return [name for name in names if name != records.WORK or not is_config]
