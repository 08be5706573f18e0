"""The cloud end of the quarantine, next to the strategy: what devices tell and train.

It sees what a deployment's cloud would see, after the codecs. Only replies of which nothing is
wrong go on to the strategy, and who is set aside is not asked.
"""

from collections.abc import Iterable

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid
from numpy.typing import NDArray

from cdc_flower.core.saveable import Arrays, Saveable, Saved, nested, restore_nested
from cdc_flower.simulations.deployment import Nodes
from cdc_flower.simulations.grids.base import without_repeats
from cdc_flower.simulations.grids.strategy import segment_or_none
from cdc_flower.simulations.grids.through import Through, all_of
from cdc_flower.simulations.quarantine import reasons
from cdc_flower.simulations.quarantine.book import NEVER, Book
from cdc_flower.simulations.quarantine.bounds import Known
from cdc_flower.simulations.quarantine.identity import Judged, Rows
from cdc_flower.simulations.quarantine.options import QuarantineOptions
from cdc_flower.simulations.quarantine.payload import (
    blame_counts,
    blame_ids,
    blame_runs,
    not_finite,
    squared_change,
)
from cdc_flower.simulations.quarantine.schema import (
    Agreements,
    Schema,
    difference,
    schema_of,
)
from cdc_flower.simulations.quarantine.sent import Sent
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.finite import is_finite
from cdc_flower.wire.replies import Group, groups_of, joined


class CloudEnd(Through):
    """Checks what devices tell and train, before the strategy has it.

    Args:
        inner: The links, or what stands before them.
        nodes: Of the run.
        book: Of both ends, which this end saves.
        known: Of the data.
        options: Of the quarantine.
    """

    _saved_as = "quarantine"

    def __init__(
        self, inner: Grid, nodes: Nodes, book: Book, known: Known, options: QuarantineOptions
    ) -> None:
        super().__init__(inner)
        self._nodes = nodes
        self._book = book
        self._known = known
        self._options = options
        self._rows = Rows(nodes.node_ids)
        self._agreements = Agreements()

    def _parts(self) -> dict[str, Saveable]:
        return {"book": self._book, "agreed": self._agreements}

    def to_arrays(self) -> Arrays:
        """Takes the book, and what most devices have had in common."""
        return {**super().to_arrays(), **nested(self._parts())}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with a saved book."""
        super().from_arrays(arrays)
        restore_nested(self._parts(), arrays)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Asks all but those who are set aside, and gives replies without a fault."""
        groups = [batch for batch, _ in without_repeats(groups_of(messages))]
        segments = [segment_or_none(batch) for batch in groups]
        self._book.open()
        self._book.segment = max(
            [each for each in segments if each is not None], default=self._book.segment
        )
        sent = [part for batch in groups if len(part := self._asked(batch))]
        if not sent:
            return []
        self._look_at(sent)
        replies = groups_of(self._inner.send_and_receive(all_of(sent), timeout=timeout))
        judged = [Judged(batch, where, self._rows.of(batch.node_ids)) for batch, where in replies]
        return joined(self._passed([each for each in judged if len(each.batch)], sent))

    def _asked(self, batch: MessageBatch) -> MessageBatch:
        """Leaves out who is set aside, of messages that train or ask for a report."""
        if not is_training(batch.message_type):
            return batch
        aside = self._book.is_aside(self._rows.of(batch.node_ids))
        return batch.select(~aside) if aside.any() else batch

    def _look_at(self, sent: list[MessageBatch]) -> None:
        """Notes from when on a strategy sends what is not finite."""
        if self._book.not_finite.segment not in (NEVER, self._book.segment):
            return
        for batch in sent:
            finite = np.ones(len(batch), np.bool_)
            for name in payload_names(batch):
                for column in batch.arrays.get(name, {}).values():
                    finite &= is_finite(column)
                for value in batch.shared.get(name, {}).values():
                    finite &= is_finite(value[None])
            if not finite.all():
                self._book.not_finite.note(self._book.segment, int((~finite).sum()))

    def _passed(self, judged: list[Judged], sent: list[MessageBatch]) -> list[Group]:
        """Gives the replies that go on."""
        for kind in dict.fromkeys(each.batch.message_type for each in judged):
            if is_training(kind):
                mine = [each for each in judged if each.batch.message_type == kind]
                self._blame(mine, kind, sent)
        passed: list[Group] = []
        answered = [np.empty(0, np.int64)]
        for each in judged:
            kept = each.ok & ~self._book.marked[each.rows]
            for reason in dict.fromkeys(each.wrong[~each.ok].tolist()):
                self._book.leave_out(each.rows[each.wrong == reason], reason)
            answered.append(each.rows[kept & each.has_content])
            if kept.all():
                passed.append((each.batch, each.where))
            elif kept.any():
                passed.append((each.batch.select(kept), each.where[kept]))
        if any(is_training(batch.message_type) for batch in sent):
            self._book.judge(np.concatenate(answered))
        return passed

    def _blame(self, mine: list[Judged], kind: str, sent: list[MessageBatch]) -> None:
        """Blames replies of one message type that trains or reports.

        Args:
            mine: The replies.
            kind: Their message type.
            sent: All messages of the exchange.
        """
        models = Sent.of(sent, self._rows, self._nodes.model)
        self._blame_schema(mine, kind, models)
        fine = [each for each in mine if self._open(each).any()]
        for each in fine:
            names = payload_names(each.batch)
            blame_counts(each, names)
            blame_ids(each, names, self._known.bounds.ids)
            blame_runs(each, self._known)
        self._blame_not_finite(fine)
        if self._options.max_norm is not None:
            for each in fine:
                self._blame_norm(each, models, self._options.max_norm)

    def _open(self, each: Judged) -> NDArray[np.bool_]:
        """Tells which replies ``[k]`` are still to be judged."""
        return each.ok & each.has_content & ~self._book.marked[each.rows]

    def _blame_schema(self, mine: list[Judged], kind: str, models: Sent) -> None:
        """Blames what is not as it was sent, or not as most devices have it."""
        votes: list[tuple[Judged, Schema]] = []
        for each in mine:
            is_open = self._open(each)
            if not is_open.any():
                continue
            schema = schema_of(each.batch, payload_names(each.batch))
            reason = models.difference(schema)
            if reason:
                each.blame(is_open, reason)
            else:
                votes.append((each, models.without(schema)))
        if not votes:
            return
        counted = [(schema, int(self._open(each).sum())) for each, schema in votes]
        agreed = self._agreements.of(kind, counted)
        for each, schema in votes:
            reason = difference(schema, agreed)
            if reason:
                each.blame(self._open(each), reason)

    def _blame_not_finite(self, mine: list[Judged]) -> None:
        """Blames numbers that are not finite, unless most devices have them.

        Then it is the strategy that diverges, and the table shall tell.
        """
        found = [(each, not_finite(each.batch, payload_names(each.batch))) for each in mine]
        num_wrong = sum(int((wrong & self._open(each)).sum()) for each, wrong in found)
        num_replies = sum(int(self._open(each).sum()) for each in mine)
        if num_replies > 1 and 2 * num_wrong > num_replies:
            return
        for each, wrong in found:
            each.blame(wrong, reasons.NOT_FINITE)

    def _blame_norm(self, each: Judged, models: Sent, max_norm: float) -> None:
        """Blames a device that changed more of its model than is allowed."""
        for where, sent in models.of_rows(each.rows):
            own = each.batch.select(where)
            if records.ARRAYS not in {*sent.arrays, *sent.shared}.intersection(own.array_names()):
                continue
            wrong = np.zeros(len(each.batch), np.bool_)
            with np.errstate(over="ignore", invalid="ignore"):
                change = squared_change(own, sent, records.ARRAYS)
            wrong[where] = ~(change <= max_norm**2)
            each.blame(wrong & self._open(each), reasons.NORM)


def is_training(message_type: str) -> bool:
    """Tells whether messages train or ask for a report."""
    return message_type.split(".")[0] == records.TRAIN


def payload_names(batch: MessageBatch) -> list[str]:
    """Names the records that a deployment would send."""
    beside = (*records.INSTRUMENTS, records.PADDING)
    return [name for name in batch.record_names() if name not in beside]
