"""Tells whose a reply is: it belongs to the message that it answers, and to its node."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cdc_flower.simulations.quarantine import reasons
from cdc_flower.simulations.quarantine.book import NOBODY
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.identity import NAMED_OTHER, UNREADABLE
from cdc_flower.wire.replies import Group

Ints = NDArray[np.int64]


class Rows:
    """Finds the rows of nodes.

    Args:
        node_ids: ``[n]``, of the run.
    """

    def __init__(self, node_ids: NDArray[np.uint64]) -> None:
        ids = np.asarray(node_ids, np.uint64)
        self._order = np.argsort(ids)
        self._ascending = ids[self._order]
        count = np.arange(len(ids), dtype=np.uint64)
        self._are_numbered = bool((ids == ids[:1] + count).all())  # as in our own grids

    def of(self, node_ids: NDArray) -> Ints:
        """Gives the rows ``[k]`` of nodes; :data:`NOBODY` for one that is none of the run."""
        wanted = np.asarray(node_ids).astype(np.uint64, copy=False)
        if self._are_numbered:
            rows = (wanted - self._ascending[0]).astype(np.int64)
            return np.where((rows >= 0) & (rows < len(self._ascending)), rows, NOBODY)
        place = np.minimum(np.searchsorted(self._ascending, wanted), len(self._ascending) - 1)
        return np.where(self._ascending[place] == wanted, self._order[place], NOBODY)


@dataclass
class Judged:
    """Replies of one schema, and what is wrong with each.

    Attributes:
        batch: ``[k]``.
        where: ``[k]``, positions of the replies.
        rows: ``[k]``, of the devices that sent them; :data:`NOBODY` where nobody knows.
        wrong: ``[k]``, the first reason found; "" where there is none.
    """

    batch: MessageBatch
    where: Ints
    rows: Ints
    wrong: NDArray[np.object_] = field(default_factory=lambda: np.empty(0, object))

    def __post_init__(self) -> None:
        if not len(self.wrong):
            self.wrong = np.full(len(self.batch), "", object)

    @property
    def has_content(self) -> NDArray[np.bool_]:
        """Tells which replies ``[k]`` carry no error."""
        has_content = np.ones(len(self.batch), np.bool_)
        has_content[list(self.batch.errors)] = False
        return has_content

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Tells which replies ``[k]`` nothing is wrong with so far."""
        return np.asarray(self.wrong == "", np.bool_)

    def blame(self, which: NDArray[np.bool_], reason: str) -> None:
        """Names what is wrong with some replies ``[k]`` that nothing was wrong with so far."""
        if which.any():
            self.wrong[which & self.ok & self.has_content] = reason


@dataclass(frozen=True)
class Asked:
    """The messages of one exchange.

    Attributes:
        batches: As they were sent.
        rows: Finds the rows of nodes.
    """

    batches: tuple[MessageBatch, ...]
    rows: Rows

    def judged(self, groups: list[Group]) -> list[Judged]:
        """Finds who sent each reply, and which do not belong to the message that they answer."""
        found = [Judged(batch, where, self.rows.of(batch.node_ids)) for batch, where in groups]
        if self._are_in_order(found):
            return found
        sent: dict[str, tuple[int, str]] = {}
        for batch in self.batches:
            kinds = [(row, batch.message_type) for row in self.rows.of(batch.node_ids).tolist()]
            sent |= zip(batch.message_ids or [], kinds, strict=False)
        rows = np.concatenate([self.rows.of(batch.node_ids) for batch in self.batches])
        asked = frozenset(rows.tolist())
        times: dict[int, int] = {}
        for each in found:
            self._blame_by_message(each, sent, asked)
            for row in each.rows[each.ok].tolist():
                times[row] = times.get(row, 0) + 1
        for each in found:
            again = [times.get(row, 0) > 1 for row in each.rows.tolist()]
            each.blame(np.array(again, np.bool_), reasons.TWICE)
        return found

    def _are_in_order(self, found: list[Judged]) -> bool:
        """Tells whether all that was asked was answered, in order and without an error."""
        if len(found) != 1 or len(self.batches) != 1:
            return False
        reply = found[0].batch
        asked = self.batches[0]
        return (
            not reply.errors
            and reply.message_type == asked.message_type
            and len(reply) == len(asked)
            and bool((np.asarray(reply.node_ids) == np.asarray(asked.node_ids)).all())
            and (reply.reply_to is None or reply.reply_to == asked.message_ids)
        )

    def _blame_by_message(
        self, each: Judged, sent: dict[str, tuple[int, str]], asked: frozenset[int]
    ) -> None:
        """Compares replies with the messages that they answer.

        Args:
            each: Replies, whose rows become those of their senders.
            sent: Id of a message -> row of its node and message type.
            asked: Rows of all nodes that were asked.
        """
        batch = each.batch
        for row, (code, _) in batch.errors.items():
            if code in (UNREADABLE, NAMED_OTHER):
                each.wrong[row] = reasons.UNREADABLE if code == UNREADABLE else reasons.OTHER_NAME
        kinds = {kind for _, kind in sent.values()}
        kinds = kinds or {one.message_type for one in self.batches}
        names = batch.reply_to or [""] * len(batch)
        for place, name in enumerate(names):
            row, kind = sent.get(name, (int(each.rows[place]), ""))
            if name in sent and row != each.rows[place]:
                each.rows[place], each.wrong[place] = row, reasons.OTHER_NAME
            elif row == NOBODY or row not in asked:
                each.wrong[place] = reasons.UNKNOWN_NODE
            elif name and sent and name not in sent:
                each.wrong[place] = reasons.STALE
            elif batch.message_type not in ({kind} if kind else kinds):
                each.wrong[place] = each.wrong[place] or reasons.KIND
