"""Puts replies of devices together, in the order of the messages, whatever their schemas."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import overload

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray

from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.join import SchemaError

#: Messages of one schema, with their positions ``[k]`` among all that were sent.
Group = tuple[MessageBatch, NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class MessageBatches(Sequence[Message]):
    """Holds messages of several schemas: a batch for each, with the positions of its messages.

    Iterate or index it and it gives Flower messages, in the order of their positions.

    Attributes:
        groups: Batches with positions, which together are 0 to ``n - 1`` without repeats.
    """

    groups: tuple[Group, ...] = ()

    @classmethod
    def of(cls, messages: Iterable[Message | MessageBatch]) -> "MessageBatches":
        """Groups any messages by schema; batches stay as they are."""
        return messages if isinstance(messages, cls) else cls(tuple(MessageBatch.group(messages)))

    @classmethod
    def ranked(cls, groups: Iterable[Group]) -> "MessageBatches":
        """Takes groups whose positions have gaps, and closes them."""
        listed = [(batch, where) for batch, where in groups if len(batch)]
        # Twice: the order of positions, and then the place of each in that order.
        rank = np.argsort(np.argsort(_positions(listed), kind="stable"), kind="stable")
        ends = np.cumsum([len(batch) for batch, _ in listed])
        return cls(
            tuple(
                (batch, rank[end - len(batch) : end])
                for (batch, _), end in zip(listed, ends, strict=True)
            )
        )

    def __len__(self) -> int:
        return sum(len(batch) for batch, _ in self.groups)

    def __iter__(self) -> Iterator[Message]:
        flat = list(chain.from_iterable(batch for batch, _ in self.groups))
        return (flat[place] for place in np.argsort(_positions(self.groups), kind="stable"))

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> "MessageBatches": ...
    def __getitem__(self, index: int | slice) -> "Message | MessageBatches":
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        row = range(len(self))[index]
        return next(
            batch[int(np.flatnonzero(where == row)[0])]
            for batch, where in self.groups
            if row in where
        )

    def select(self, rows: NDArray[np.int64]) -> "MessageBatches":
        """Takes the messages of these rows ``[k]``, without repeats, in their order."""
        place = np.full(len(self), -1)
        place[rows] = np.arange(len(rows))
        kept = [(batch, place[where]) for batch, where in self.groups]
        return MessageBatches(
            tuple((batch.select(at >= 0), at[at >= 0]) for batch, at in kept if (at >= 0).any())
        )

    def map(self, change: Callable[[MessageBatch], MessageBatch]) -> "MessageBatches":
        """Changes each batch, message by message."""
        return MessageBatches(tuple((change(batch), where) for batch, where in self.groups))

    def ok(self) -> "MessageBatches":
        """Keeps the messages that carry content."""
        rows = [(batch, where, batch.ok_rows()) for batch, where in self.groups]
        return MessageBatches.ranked(
            (b.select(ok) if b.errors else b, where[ok]) for b, where, ok in rows
        )

    def concat(self) -> MessageBatch:
        """Puts all messages into one batch, in their order.

        Raises:
            SchemaError: If their schemas differ.
            ValueError: If there are none.
        """
        whole = concat([batch for batch, _ in self.groups])
        order = np.argsort(_positions(self.groups), kind="stable")
        return whole if (order == np.arange(len(order))).all() else whole.select(order)


#: One batch where all replies are alike, else one for each schema.
Replies = MessageBatch | MessageBatches


def _positions(groups: Sequence[Group]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *(where for _, where in groups)])


def groups_of(messages: Iterable[Message | MessageBatch]) -> list[Group]:
    """Groups messages of any schemas into batches, each with their positions ``[k]``."""
    return list(MessageBatches.of(messages).groups)


def unshared(batch: MessageBatch) -> MessageBatch:
    """Gives each message its own row of every array; shared ones become read-only views."""
    arrays = {
        name: {
            key: batch.array(name, key)
            for key in (*batch.arrays.get(name, {}), *batch.shared.get(name, {}))
        }
        for name in batch.array_names()
    }
    return replace(batch, arrays=arrays, shared={})


def concat(batches: Sequence[MessageBatch]) -> MessageBatch:
    """Puts the messages of all batches one after the other, whatever they share.

    Raises:
        SchemaError: If they differ in schema.
        ValueError: If there are no batches.
    """
    try:
        return MessageBatch.concat(batches)
    except SchemaError:
        if not any(batch.shared for batch in batches):
            raise  # what differs is not what they share
        return MessageBatch.concat([unshared(batch) for batch in batches])


def joined(parts: Iterable[tuple[Iterable[Message], NDArray[np.int64]]]) -> Replies:
    """Puts all replies in the order of their positions.

    They are one batch if they are alike, else one for each schema.

    Args:
        parts: Replies, each with the positions ``[k]`` of the messages that they answer.
    """
    groups: list[Group] = []
    for replies, where in parts:
        groups += [(batch, where[at]) for batch, at in groups_of(replies)]
    if len(groups) == 1 and (np.diff(groups[0][1]) > 0).all():
        return groups[0][0]
    whole = MessageBatches.ranked(groups)
    if not whole.groups:
        return groups[0][0] if groups else whole
    try:
        return whole.concat()
    except SchemaError:
        return whole


def ok_replies(replies: Iterable[Message]) -> MessageBatch | None:
    """Keeps the replies that carry content, as one batch; None if there are none.

    Raises:
        SchemaError: If their schemas differ.
    """
    answered = MessageBatches.of(replies).ok()
    return answered.concat() if answered.groups else None
