"""Parses Flower messages into batches; what many messages share by identity is parsed once."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from cdc_flower.wire.check import Configs, ConfigValue, Records
from cdc_flower.wire.identity import (
    CLOUD_NODE_ID,
    NUMPY_STYPE,
    UNREADABLE,
    Identity,
    given_id,
)
from cdc_flower.wire.parts import Batch
from cdc_flower.wire.protobuf import npy_header, num_elements, number_column
from cdc_flower.wire.readable import unreadable_in

_CODES: tuple[tuple[type, str], ...] = (
    (bool, "b"),
    (int, "i"),
    (float, "f"),
    (str, "s"),
    (bytes, "y"),
)


def _code(value: object) -> str:
    return next(code for kind, code in _CODES if isinstance(value, kind))


def _metric_schema(value: int | float | list) -> Hashable:
    if isinstance(value, list):
        return "list", _code(value[0]) if value else "f", len(value)
    return _code(value)


def _config_schema(value: ConfigValue) -> Hashable:
    """Reads the schema of a config value: texts and lists are part of it, numbers are not."""
    if isinstance(value, list):
        code = _code(value[0]) if value else ""
        return "list", code, np.array(value).tobytes() if code == "f" else tuple(value)
    code = _code(value)
    return (code, value) if code in "sy" else code


#: Message type, whether it is a reply, group, and the cloud's end.
_Head = tuple[str, bool, str, Identity]


class _SchemaReader:
    """Reads the schema of a content as something hashable.

    Contents and records that were seen are not read again.
    """

    def __init__(self) -> None:
        self._seen: dict[int, Hashable] = {}

    def content(self, content: RecordDict) -> Hashable:
        """Lists names, kinds and shapes of all records, in the order of names."""
        found = self._seen.get(id(content))
        if found is None:
            found = tuple(sorted((name, self._record(record)) for name, record in content.items()))
            self._seen[id(content)] = found
        return found

    def _record(self, record: ArrayRecord | MetricRecord | ConfigRecord) -> Hashable:
        found = self._seen.get(id(record))
        if found is None:
            if isinstance(record, ArrayRecord):
                found = (
                    "a",
                    tuple(sorted((k, a.dtype, tuple(a.shape), a.stype) for k, a in record.items())),
                )
            elif isinstance(record, MetricRecord):
                found = "m", tuple(sorted((k, _metric_schema(v)) for k, v in record.items()))
            else:
                found = "c", tuple(sorted((k, _config_schema(v)) for k, v in record.items()))
            self._seen[id(record)] = found
        return found


def _head(message: Message, is_reply: bool | None) -> _Head:
    metadata = message.metadata
    if is_reply is None:
        to_cloud = metadata.dst_node_id == CLOUD_NODE_ID != metadata.src_node_id
        is_reply = message.has_error() or metadata.reply_to_message_id != "" or to_cloud
    node_id, task_id = (
        (metadata.dst_node_id, metadata.dst_task_id)
        if is_reply
        else (metadata.src_node_id, metadata.src_task_id)
    )
    return (
        metadata.message_type,
        is_reply,
        metadata.group_id,
        Identity(metadata.run_id, node_id, task_id),
    )


def group_messages(
    kind: type[Batch], messages: list[Message], is_reply: bool | None
) -> list[tuple[Batch, NDArray[np.int64]]]:
    """Sorts messages by schema.

    Args:
        kind: Of batch to make.
        messages: Flower messages of all kinds.
        is_reply: Whether they come from devices; None finds out: a reply names the message it
            answers, carries an error, or goes to node 1.

    Returns:
        For each schema a batch and the positions of its messages. An error has no schema and joins
        the first that has the same message type, group, run and direction.
    """
    schema = _SchemaReader()
    members: dict[tuple[_Head, Hashable], list[int]] = {}
    failed: dict[_Head, list[int]] = {}
    for position, message in enumerate(messages):
        head = _head(message, is_reply)
        if message.has_error():
            failed.setdefault(head, []).append(position)
        else:
            members.setdefault((head, schema.content(message.content)), []).append(position)
    for failed_head, positions in failed.items():
        key = next((key for key in members if key[0] == failed_head), (failed_head, ()))
        members[key] = sorted(members.get(key, []) + positions)
    groups = sorted(members.items(), key=lambda group: group[1][0])
    return [
        (_batch(kind, [messages[place] for place in where], head), np.array(where))
        for (head, _), where in groups
    ]


def _one_or_column(values: list[float]) -> float | NDArray[np.float64]:
    return values[0] if values.count(values[0]) == len(values) else np.array(values)


def _batch(kind: type[Batch], messages: list[Message], head: _Head) -> Batch:
    """Makes a batch of messages that have one schema."""
    message_type, is_reply, group_id, cloud = head
    metadata = [message.metadata for message in messages]
    node_ids = [data.src_node_id if is_reply else data.dst_node_id for data in metadata]
    message_ids = [given_id(message) for message in messages]
    reply_to = [data.reply_to_message_id for data in metadata]
    errors = {
        row: (m.error.code, m.error.reason or "") for row, m in enumerate(messages) if m.has_error()
    }
    good = [row for row in range(len(messages)) if row not in errors]
    contents = [messages[row].content for row in good]
    if is_reply and (found := unreadable_in(contents)):
        errors |= {good[place]: (UNREADABLE, reason) for place, reason in found.items()}
        errors = dict(sorted(errors.items()))
        good = [row for row in good if row not in errors]
        contents = [messages[row].content for row in good]
    records = _read_contents(contents, np.array(good, dtype=np.int64), len(messages))
    return kind(
        message_type=message_type,
        node_ids=number_column(node_ids),
        arrays=records.arrays,
        shared=records.shared,
        metrics=records.metrics,
        configs=records.configs,
        is_reply=is_reply,
        message_ids=message_ids if any(message_ids) else None,
        reply_to=reply_to if any(reply_to) else None,
        group_id=group_id,
        ttl_s=_one_or_column([data.ttl for data in metadata]),
        created_at_s=_one_or_column([data.created_at for data in metadata]),
        errors=errors,
        cloud=cloud,
    )


def _scatter(column: NDArray, rows: NDArray[np.int64], num_messages: int) -> NDArray:
    """Puts zeros into the rows of errors."""
    if len(rows) == num_messages:
        return column
    full = np.zeros((num_messages, *column.shape[1:]), dtype=column.dtype)
    full[rows] = column
    return full


@dataclass
class _Contents:
    """Collects the records of the messages of a batch; see its attributes of these names."""

    arrays: Records = field(default_factory=dict)
    shared: Records = field(default_factory=dict)
    metrics: Records = field(default_factory=dict)
    configs: Configs = field(default_factory=dict)


def _read_contents(
    contents: list[RecordDict], rows: NDArray[np.int64], num_messages: int
) -> _Contents:
    """Reads the records of contents that have one schema, into the rows ``[k]`` of a batch."""
    found = _Contents()
    for name, example in contents[0].items() if contents else ():
        records = [content[name] for content in contents]
        # Messages that a grid has made of one record hold that one object: it is read once.
        same = all(record is example for record in records)
        for key, value in example.items():
            values: list[Any] = (
                [value] * len(records) if same else [record[key] for record in records]
            )
            if isinstance(value, Array):
                if len(values) > 1 and (same or _all_same(values)):
                    found.shared.setdefault(name, {})[key] = _stack([value])[0]
                else:
                    column = _scatter(_stack(values), rows, num_messages)
                    found.arrays.setdefault(name, {})[key] = column
            elif isinstance(example, MetricRecord):
                metrics = found.metrics.setdefault(name, {})
                metrics[key] = _scatter(number_column(values), rows, num_messages)
            else:
                config = found.configs.setdefault(name, {})
                config[key] = value if same else _config(values, rows, num_messages)
        if not example:
            _add_empty(found, name, example)
    return found


def _add_empty(
    found: _Contents, name: str, record: ArrayRecord | MetricRecord | ConfigRecord
) -> None:
    """Keeps a record without entries, which is a part of the schema too."""
    if isinstance(record, ArrayRecord):
        found.arrays[name] = {}
    elif isinstance(record, MetricRecord):
        found.metrics[name] = {}
    else:
        found.configs[name] = {}


def _all_same(arrays: list[Array]) -> bool:
    first = arrays[0].data
    return all(array.data is first or array.data == first for array in arrays)


def _config(
    values: list[ConfigValue], rows: NDArray[np.int64], num_messages: int
) -> ConfigValue | NDArray:
    """Keeps one value where all messages have it, else makes a column of numbers."""
    if isinstance(values[0], list | str | bytes):
        return values[0]  # the schema holds such values, so they are equal
    column = number_column(values)
    bits = column.view(np.uint8).reshape(len(column), -1)
    return values[0] if (bits == bits[0]).all() else _scatter(column, rows, num_messages)


def _stack(arrays: list[Array]) -> NDArray:
    """Stacks n arrays of one dtype and shape, ``[n, ...]``.

    Raises:
        ValueError: If an array is not in the npy format, or its data are not what it says.
    """
    first = arrays[0]
    if first.stype != NUMPY_STYPE:
        raise ValueError(f"an array must be serialized as {NUMPY_STYPE!r}, got {first.stype!r}")
    dtype = np.dtype(first.dtype)
    shape = tuple(first.shape)
    header = npy_header(dtype, shape)
    size = len(header) + num_elements(shape) * dtype.itemsize
    if all(len(array.data) == size and array.data.startswith(header) for array in arrays):
        # A bytearray can be written, so the array can too, without a copy.
        data = bytearray().join([memoryview(array.data)[len(header) :] for array in arrays])
        return np.frombuffer(data, dtype=dtype).reshape(len(arrays), *shape)
    # In Fortran order, or of another version of the format: NumPy reads them one by one.
    decoded = [array.numpy() for array in arrays]
    for values in decoded:
        if values.dtype != dtype or values.shape != shape:
            raise ValueError(
                f"an array must hold {dtype} of shape {shape}, got {values.dtype} of {values.shape}"
            )
    return np.stack(decoded)
