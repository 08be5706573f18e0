"""Replies of devices put together: in the order of the messages, or only those that carry content."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray

from cdc_flower.wire.batch import MessageBatch

#: One batch where all replies are alike, else single messages.
Replies = MessageBatch | list[Message]


def unshared(batch: MessageBatch) -> MessageBatch:
    """The same messages with no array held for all of them at once; shared ones become read-only views."""
    arrays = {
        name: {
            key: batch.array(name, key)
            for part in (batch.arrays, batch.shared)
            for key in part.get(name, {})
        }
        for name in batch.array_names()
    }
    return replace(batch, arrays=arrays, shared={})


def concat(batches: Sequence[MessageBatch]) -> MessageBatch:
    """The messages of all batches, in order, whatever they share.

    Raises:
        ValueError: If there are no batches, or they differ in schema.
    """
    try:
        return MessageBatch.concat(batches)
    except ValueError:
        if not any(batch.shared for batch in batches):
            raise
        return MessageBatch.concat([unshared(batch) for batch in batches])


def joined(parts: Sequence[tuple[Replies, NDArray[np.int64]]]) -> Replies:
    """All replies in the order of their positions.

    Args:
        parts: Replies, each with the positions ``[k]`` of the messages that they answer.
    """
    if not parts:
        return []
    positions = np.concatenate([where for _, where in parts])
    order = np.argsort(positions, kind="stable")
    batches = [replies for replies, _ in parts if isinstance(replies, MessageBatch)]
    if len(batches) == len(parts):
        try:
            whole = concat(batches)
            return whole if (order == np.arange(len(order))).all() else whole.select(order)
        except ValueError:  # of several schemas: a batch cannot hold them
            pass
    flat = [message for replies, _ in parts for message in replies]
    return [flat[k] for k in order]


def answers(replies: Iterable[Message]) -> MessageBatch | None:
    """The replies that carry content, as one batch; None if there are none.

    Raises:
        ValueError: If their schemas differ.
    """
    groups = [
        batch.select(batch.ok_rows()) if batch.errors else batch
        for batch, _ in MessageBatch.group(replies)
    ]
    groups = [batch for batch in groups if len(batch)]
    return concat(groups) if groups else None
