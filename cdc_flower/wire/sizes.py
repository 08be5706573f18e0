"""Counts the bytes of the messages in a batch from its arrays."""

import numpy as np
from numpy.typing import NDArray

from cdc_flower.wire.parts import BatchParts
from cdc_flower.wire.protobuf import (
    ARRAY_RECORD,
    CONFIG_RECORD,
    METRIC_RECORD,
    Size,
    array_bytes,
    envelope_bytes,
    error_bytes,
    field_bytes,
    item_bytes,
    num_elements,
    numbers_bytes,
    record_bytes,
    value_bytes,
)

_CONTENT = 2  # field number inside a message


def _rows(batch: BatchParts, size: Size) -> NDArray[np.int64]:
    """Spreads a size over all messages ``[n]``, with 0 for one that carries an error."""
    # A copy, for broadcast_to gives a view that cannot be written.
    sizes = np.array(np.broadcast_to(np.asarray(size, dtype=np.int64), len(batch)))
    sizes[list(batch.errors)] = 0
    return sizes


def content_bytes(batch: BatchParts) -> NDArray[np.int64]:
    """Counts each message's ``RecordDict`` as protobuf, ``[n]``; 0 for an error."""
    total: Size = 0
    for name in batch.array_names():
        entries = [
            (key, column.dtype, column.shape[1:])
            for key, column in batch.arrays.get(name, {}).items()
        ]
        entries += [
            (key, array.dtype, array.shape) for key, array in batch.shared.get(name, {}).items()
        ]
        items: Size = sum(
            int(item_bytes(key, array_bytes(dtype, shape))) for key, dtype, shape in entries
        )
        total = total + record_bytes(name, ARRAY_RECORD, items)
    for name, metrics in batch.metrics.items():
        items = 0
        for key, column in metrics.items():
            items = items + item_bytes(key, numbers_bytes(column))
        total = total + record_bytes(name, METRIC_RECORD, items)
    for name, configs in batch.configs.items():
        items = 0
        for key, value in configs.items():
            size = numbers_bytes(value) if isinstance(value, np.ndarray) else value_bytes(value)
            items = items + item_bytes(key, size)
        total = total + record_bytes(name, CONFIG_RECORD, items)
    return _rows(batch, total)


def wire_bytes(batch: BatchParts) -> NDArray[np.int64]:
    """Counts each message as protobuf with the ids of a deployment, ``[n]``; 0 without records."""
    envelope = envelope_bytes(batch.message_type, batch.is_reply, batch.group_id)
    sizes = np.zeros(len(batch), dtype=np.int64)
    if batch.record_names():
        sizes = _rows(batch, envelope + field_bytes(content_bytes(batch), _CONTENT))
    for row, (code, reason) in batch.errors.items():
        sizes[row] = envelope + error_bytes(code, reason)
    return sizes


def _raw_bytes(value: object) -> int:
    if isinstance(value, list):
        return sum(_raw_bytes(item) for item in value)
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, bytes):
        return len(value)
    return 1 if isinstance(value, bool) else 8


def payload_bytes(batch: BatchParts) -> NDArray[np.int64]:
    """Counts the numbers and texts alone ``[n]``: 8 bytes a number, 1 a bool, 0 an error."""
    total = 0
    for record in batch.arrays.values():
        total += sum(num_elements(column.shape[1:]) * column.itemsize for column in record.values())
    for record in batch.shared.values():
        total += sum(array.nbytes for array in record.values())
    for record in batch.metrics.values():
        total += sum(8 * num_elements(column.shape[1:]) for column in record.values())
    for configs in batch.configs.values():
        for value in configs.values():
            total += value.itemsize if isinstance(value, np.ndarray) else _raw_bytes(value)
    return _rows(batch, total)


def held_bytes(batch: BatchParts) -> int:
    """Adds up the memory of all the arrays, where a broadcast one counts once."""
    held: list[NDArray] = [batch.node_ids]
    texts = 0
    for records in (batch.arrays, batch.shared, batch.metrics, batch.configs):
        for record in records.values():
            held += [value for value in record.values() if isinstance(value, np.ndarray)]
            others = [value for value in record.values() if not isinstance(value, np.ndarray)]
            texts += sum(_raw_bytes(value) for value in others)
    return texts + sum(_distinct_bytes(array) for array in held)


def _distinct_bytes(array: NDArray) -> int:
    """Counts the memory behind an array: an axis of step 0 repeats what is there once."""
    if not array.size:
        return 0
    steps = zip(array.shape, array.strides, strict=True)
    return array.itemsize * num_elements(tuple(length for length, step in steps if step))
