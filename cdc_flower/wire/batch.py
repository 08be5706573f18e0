"""Holds messages to or from many nodes as stacked arrays.

A Flower message costs some 260 microseconds to make and to read, whatever is in it. A batch holds
what differs between messages as arrays with one row a message, and what does not once. It is a
sequence of ordinary Flower messages all the same: iterate it or index it, and each message is made
when it is asked for.
"""

import operator
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
from flwr.app import Message
from numpy.typing import ArrayLike, NDArray

from cdc_flower.core.saveable import Arrays, Saved
from cdc_flower.wire import check, sizes
from cdc_flower.wire.build import build_messages
from cdc_flower.wire.check import Configs, ConfigValue, Records
from cdc_flower.wire.join import concatenated, picked, same_messages
from cdc_flower.wire.parse import group_messages
from cdc_flower.wire.parts import BatchParts, GivenConfigs, GivenRecords
from cdc_flower.wire.save import batch_arrays, batch_parts

__all__ = ["ConfigValue", "Configs", "MessageBatch", "Records"]


@dataclass(frozen=True, eq=False)
class MessageBatch(BatchParts, Sequence[Message]):
    """Holds messages to (or from) ``n`` nodes; iterate or index it and it gives Flower messages.

    Its attributes are those of :class:`~cdc_flower.wire.parts.BatchParts`. A record may hold both
    arrays of each device and shared ones; its messages have those of the device first. Two batches
    are equal if their messages are, however the arrays are held; what an error row holds does not
    count.
    """

    @property
    def num_messages(self) -> int:
        """Counts the messages."""
        return len(self)

    def __iter__(self) -> Iterator[Message]:
        return build_messages(self, np.arange(len(self)))

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> "MessageBatch": ...
    def __getitem__(self, index: int | slice) -> "Message | MessageBatch":
        if isinstance(index, slice):
            return picked(self, index)
        row = operator.index(index)
        if not -len(self) <= row < len(self):
            raise IndexError(f"index must be below {len(self)}, got {row}")
        return next(build_messages(self, np.array([row % len(self)])))

    def __eq__(self, other: object) -> bool:
        return same_messages(self, other) if isinstance(other, MessageBatch) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def group(
        cls, messages: "Iterable[Message | MessageBatch]", *, is_reply: bool | None = None
    ) -> "list[tuple[MessageBatch, NDArray[np.int64]]]":
        """Groups messages by schema, each batch with the positions ``[k]`` of its messages.

        A batch among the messages stays as it is and counts as its number of messages. Texts and
        lists in a config, lengths of lists, dtypes and shapes belong to a schema. An error joins a
        batch of its message type.

        Args:
            messages: Messages, batches, or both. A batch alone comes back as it is.
            is_reply: Whether the messages come from devices; None finds out from each.
        """
        if isinstance(messages, MessageBatch):
            return [(messages, np.arange(len(messages)))]
        groups: list[tuple[MessageBatch, NDArray[np.int64]]] = []
        single: list[Message] = []
        positions: list[int] = []
        start = 0
        for item in messages:
            if isinstance(item, MessageBatch):
                groups.append((item, np.arange(start, start + len(item))))
                start += len(item)
            else:
                single.append(item)
                positions.append(start)
                start += 1
        where = np.array(positions, dtype=np.int64)
        groups += [(batch, where[rows]) for batch, rows in group_messages(cls, single, is_reply)]
        # An empty batch has no first position: it goes to the end.
        return sorted(groups, key=lambda group: group[1][0] if len(group[1]) else start)

    @classmethod
    def from_messages(
        cls, messages: "Iterable[Message | MessageBatch]", *, is_reply: bool | None = None
    ) -> "MessageBatch":
        """Makes one batch of messages that have one schema; see :meth:`group`.

        An array that is the same in all messages is held once, unless there is only one message.

        Raises:
            ValueError: If there are no messages, or they differ in schema.
        """
        groups = cls.group(messages, is_reply=is_reply)
        if not groups:
            raise ValueError("messages must not be empty, got none")
        if len(groups) == 1:
            return groups[0][0]
        order = np.argsort(np.concatenate([positions for _, positions in groups]))
        return cls.concat([batch for batch, _ in groups]).select(order)

    @classmethod
    def concat(cls, batches: "Iterable[MessageBatch]") -> "MessageBatch":
        """Puts the messages of all batches one after the other.

        Raises:
            ValueError: If there are no batches, they differ in schema, or their shared arrays
                differ in value.
        """
        listed = list(batches)
        return listed[0] if len(listed) == 1 else concatenated(listed)

    def select(self, rows: ArrayLike) -> "MessageBatch":
        """Takes the messages of these rows, in their order. Shared arrays stay the same objects.

        Args:
            rows: Positions ``[k]`` or a bool mask ``[n]``. Neighbors in order give views.
        """
        positions = check.as_rows(rows, len(self))
        if len(positions) and (np.diff(positions) == 1).all():
            return self[int(positions[0]) : int(positions[-1]) + 1]
        return picked(self, positions)

    def reply(
        self,
        *,
        arrays: GivenRecords | None = None,
        shared: GivenRecords | None = None,
        metrics: GivenRecords | None = None,
        configs: GivenConfigs | None = None,
        rows: ArrayLike | None = None,
        errors: Mapping[int, tuple[int, str]] | None = None,
        created_at_s: float | NDArray[np.float64] | None = None,
    ) -> "MessageBatch":
        """Makes the devices' replies to these instructions.

        As with Flower, a reply expires with its instruction.

        Args:
            arrays: As in the class, with one row a reply; likewise the other kinds of record.
            shared: Arrays that all replies have.
            metrics: Numbers of each reply.
            configs: Values of all replies, or numbers of each.
            rows: Which instructions are answered, positions ``[k]`` or a mask ``[n]``; None is all
                of them.
            errors: Row among the replies -> code and reason.
            created_at_s: Unix time of the replies; None is now.
        """
        head = self.only(())
        asked = head if rows is None else head.select(rows)
        now_s = time.time() if created_at_s is None else created_at_s
        answer = replace(
            asked,
            is_reply=True,
            message_ids=None,
            reply_to=asked.message_ids,
            ttl_s=asked.created_at_s + asked.ttl_s - now_s,
            created_at_s=now_s,
            errors=dict(errors or {}),
        )
        return answer.with_records(arrays=arrays, shared=shared, metrics=metrics, configs=configs)

    def content_bytes(self) -> NDArray[np.int64]:
        """Counts each message's records as protobuf ``[n]``, exactly as Flower serializes them.

        0 for an error.
        """
        return sizes.content_bytes(self)

    def wire_bytes(self) -> NDArray[np.int64]:
        """Counts each message as protobuf ``[n]``, with the ids of a deployment.

        0 if the batch has no records, as nothing would be sent; an error row counts its envelope
        and error.
        """
        return sizes.wire_bytes(self)

    def payload_bytes(self) -> NDArray[np.int64]:
        """Counts the raw numbers and texts ``[n]`` of each message.

        These are items of arrays, 8 bytes a metric or config number, and 1 a bool.
        """
        return sizes.payload_bytes(self)

    def to_arrays(self) -> Arrays:
        """Takes the batch as plain arrays; see :meth:`from_arrays`."""
        return batch_arrays(self)

    @classmethod
    def from_arrays(cls, arrays: Saved) -> "MessageBatch":
        """Makes the batch that :meth:`to_arrays` took, with its ids and times.

        Raises:
            UserError: If something is missing.
        """
        return cls(**batch_parts(arrays))

    @property
    def nbytes(self) -> int:
        """Adds up the memory that the arrays hold, in bytes."""
        return sizes.held_bytes(self)
