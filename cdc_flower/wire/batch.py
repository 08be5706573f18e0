"""Messages to or from many nodes, held as stacked arrays.

A Flower message costs some 260 microseconds to make and to read, whatever is in it. A batch holds
what differs between messages as arrays with one row a message, and what does not once. It is a
sequence of ordinary Flower messages all the same: iterate it or index it, and each message is made
when it is asked for.
"""

import operator
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np
from flwr.app import DEFAULT_TTL, Message
from numpy.typing import ArrayLike, NDArray

from cdc_flower.core.saveable import Arrays, Saved
from cdc_flower.wire import check, sizes
from cdc_flower.wire.build import build_messages
from cdc_flower.wire.check import Configs, ConfigValue, Records
from cdc_flower.wire.identity import Identity, current_identity
from cdc_flower.wire.join import joined_parts, picked_parts, same_messages
from cdc_flower.wire.parse import group_messages
from cdc_flower.wire.save import batch_arrays, batch_parts

__all__ = ["ConfigValue", "Configs", "MessageBatch", "Records"]


@dataclass(frozen=True, eq=False)
class MessageBatch(Sequence[Message]):
    """Messages to (or from) ``n`` nodes, as stacked arrays. Iterate or index it and it gives Flower messages.

    A record may hold both arrays of each device and shared ones; its messages have those of the
    device first. Two batches are equal if their messages are, however the arrays are held; what an
    error row holds does not count.

    Attributes:
        message_type: Flower's type of all messages, such as ``"train"``.
        node_ids: ``[n]``, the device's end: destination of an instruction, source of a reply.
        arrays: Array record -> array -> ``[n, ...]``, one row a message.
        shared: Array record -> array -> ``[...]``, the same in all messages and held once.
        metrics: Metric record -> key -> ``[n]`` or ``[n, k]`` (a list each); int64 or float64, or
            uint64.
        configs: Config record -> key -> one value for all, or ``[n]`` numbers.
        is_reply: Whether the devices send them.
        message_ids: The id of each message; None before a grid has sent them.
        reply_to: The ids of the instructions that the replies answer.
        group_id: Flower's label for a group of messages.
        ttl_s: For how long a message is valid, in seconds: one number or ``[n]``.
        created_at_s: Unix time in seconds: one number or ``[n]``; now, unless given.
        errors: Row -> code and reason, for replies that carry an error and no content.
        cloud: The cloud's end of all messages; this process, unless given.

    Raises:
        ValueError: If row counts, types or names do not agree.
    """

    message_type: str
    node_ids: NDArray
    arrays: Records = field(default_factory=dict)
    shared: Records = field(default_factory=dict)
    metrics: Records = field(default_factory=dict)
    configs: Configs = field(default_factory=dict)
    is_reply: bool = False
    message_ids: list[str] | None = None
    reply_to: list[str] | None = None
    group_id: str = ""
    ttl_s: float | NDArray[np.float64] = float(DEFAULT_TTL)
    created_at_s: float | NDArray[np.float64] = field(default_factory=time.time)
    errors: dict[int, tuple[int, str]] = field(default_factory=dict)
    cloud: Identity = field(default_factory=current_identity)

    def __post_init__(self) -> None:
        node_ids = check.node_id_column(self.node_ids)
        n = len(node_ids)
        parts = {
            "node_ids": node_ids,
            "arrays": check.array_records(self.arrays, n),
            "shared": check.shared_records(self.shared),
            "metrics": check.metric_records(self.metrics, n),
            "configs": check.config_records(self.configs, n),
            "message_ids": check.id_list(self.message_ids, "message_ids", n),
            "reply_to": check.id_list(self.reply_to, "reply_to", n),
            "ttl_s": check.seconds(self.ttl_s, "ttl_s", n),
            "created_at_s": check.seconds(self.created_at_s, "created_at_s", n),
            "errors": check.error_rows(self.errors, n),
        }
        for name, value in parts.items():
            object.__setattr__(self, name, value)
        check.check_names(self.arrays, self.shared, self.metrics, self.configs)

    def __len__(self) -> int:
        return len(self.node_ids)

    @property
    def num_messages(self) -> int:
        """How many messages there are."""
        return len(self)

    def __iter__(self) -> Iterator[Message]:
        return build_messages(self, np.arange(len(self)))

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> "MessageBatch": ...
    def __getitem__(self, index: int | slice) -> "Message | MessageBatch":
        if isinstance(index, slice):
            return replace(self, **picked_parts(self, index))
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
        """Batches of messages of any schemas, each with the positions ``[k]`` of its messages among all of them.

        A batch among the messages stays as it is and counts as its number of messages. Texts and
        lists in a config, lengths of lists, dtypes and shapes belong to a schema. An error joins a
        batch of its message type.

        Args:
            messages: Messages, batches, or both. A batch alone comes back as it is.
            is_reply: Whether the messages come from devices; None finds out from each.
        """
        if isinstance(messages, MessageBatch):
            return [(messages, np.arange(len(messages)))]
        groups, single, positions, start = [], [], [], 0
        for item in messages:
            if isinstance(item, MessageBatch):
                groups.append((item, np.arange(start, start + len(item))))
                start += len(item)
            else:
                single.append(item)
                positions.append(start)
                start += 1
        where = np.array(positions, dtype=np.int64)
        groups += [(cls(**parts), where[rows]) for parts, rows in group_messages(single, is_reply)]
        return sorted(groups, key=lambda group: group[1][0] if len(group[1]) else start)

    @classmethod
    def from_messages(
        cls, messages: "Iterable[Message | MessageBatch]", *, is_reply: bool | None = None
    ) -> "MessageBatch":
        """One batch of messages that have one schema; see :meth:`group`.

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
        """The messages of all batches, in order.

        Raises:
            ValueError: If there are no batches, they differ in schema, or their shared arrays
                differ in value.
        """
        listed = list(batches)
        return listed[0] if len(listed) == 1 else cls(**joined_parts(listed))

    def select(self, rows: ArrayLike) -> "MessageBatch":
        """The messages of these rows, in their order. Shared arrays stay the same objects.

        Args:
            rows: Positions ``[k]`` or a bool mask ``[n]``. Neighbors in order give views.
        """
        positions = check.as_rows(rows, len(self))
        if len(positions) and (np.diff(positions) == 1).all():
            return self[int(positions[0]) : int(positions[-1]) + 1]
        return replace(self, **picked_parts(self, positions))

    def ok_rows(self) -> NDArray[np.int64]:
        """``[k]``, the rows that carry no error, ascending."""
        is_ok = np.ones(len(self), dtype=bool)
        is_ok[list(self.errors)] = False
        return np.flatnonzero(is_ok)

    def array_names(self) -> list[str]:
        """Names of the array records: those with rows of each device first, then those that are all shared."""
        return list(dict.fromkeys((*self.arrays, *self.shared)))

    def record_names(self) -> list[str]:
        """Names of all records."""
        return [*self.array_names(), *self.metrics, *self.configs]

    def only(self, names: Collection[str]) -> "MessageBatch":
        """With these records and no others; a name that is not there is no error."""
        parts: dict[str, Any] = {
            kind: {name: record for name, record in getattr(self, kind).items() if name in names}
            for kind in ("arrays", "shared", "metrics", "configs")
        }
        return replace(self, **parts)

    def without(self, names: Collection[str]) -> "MessageBatch":
        """Without these records; a name that is not there is no error."""
        return self.only([name for name in self.record_names() if name not in names])

    def with_records(
        self,
        *,
        arrays: Mapping[str, Mapping[str, ArrayLike]] | None = None,
        shared: Mapping[str, Mapping[str, ArrayLike]] | None = None,
        metrics: Mapping[str, Mapping[str, ArrayLike]] | None = None,
        configs: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> "MessageBatch":
        """With these records as well; each takes the place of one of its name in the same attribute."""
        added = {"arrays": arrays, "shared": shared, "metrics": metrics, "configs": configs}
        parts: dict[str, Any] = {
            kind: {**getattr(self, kind), **(more or {})} for kind, more in added.items()
        }
        return replace(self, **parts)

    def array(self, record: str, name: str) -> NDArray:
        """``[n, ...]``, an array of each device. A shared one comes as a read-only view that repeats it.

        Raises:
            KeyError: If there is no such array.
        """
        column = self.arrays.get(record, {}).get(name)
        if column is not None:
            return column
        shared = self.shared.get(record, {}).get(name)
        if shared is None:
            raise KeyError(f"{record}/{name}")
        return np.broadcast_to(shared, (len(self), *shared.shape))

    def reply(
        self,
        *,
        arrays: Mapping[str, Mapping[str, ArrayLike]] | None = None,
        shared: Mapping[str, Mapping[str, ArrayLike]] | None = None,
        metrics: Mapping[str, Mapping[str, ArrayLike]] | None = None,
        configs: Mapping[str, Mapping[str, Any]] | None = None,
        rows: ArrayLike | None = None,
        errors: Mapping[int, tuple[int, str]] | None = None,
        created_at_s: float | NDArray[np.float64] | None = None,
    ) -> "MessageBatch":
        """The devices' replies to these instructions. As with Flower, a reply expires with its instruction.

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
        """``[n]``, each message's records as protobuf, exactly as Flower serializes them; 0 for an error."""
        return sizes.content_bytes(self)

    def wire_bytes(self) -> NDArray[np.int64]:
        """``[n]``, each message as protobuf with the ids of a deployment.

        0 if the batch has no records, as nothing would be sent; an error row counts its envelope
        and error.
        """
        return sizes.wire_bytes(self)

    def payload_bytes(self) -> NDArray[np.int64]:
        """``[n]``, the raw numbers and texts: items of arrays, 8 bytes a metric or config number, 1 a bool."""
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
        """Memory that the arrays hold, in bytes."""
        return sizes.held_bytes(self)
