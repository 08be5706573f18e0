"""From the arrays of a batch to ordinary Flower messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from cdc_flower.wire.identity import NUMPY_STYPE, make_flower_message
from cdc_flower.wire.protobuf import npy_header

if TYPE_CHECKING:
    from cdc_flower.wire.batch import MessageBatch


def _flower_array(values: NDArray) -> Array:
    """Flower's array of these values, in C order."""
    header = npy_header(values.dtype, values.shape)
    return Array(
        dtype=str(values.dtype),
        shape=values.shape,
        stype=NUMPY_STYPE,
        data=header + values.tobytes(),
    )


def _array_maker(batch: MessageBatch) -> Callable[[int, RecordDict], None]:
    """What puts the array records of a row into a content. A shared array is serialized once."""
    parts = []
    for name in batch.array_names():
        shared = {key: _flower_array(array) for key, array in batch.shared.get(name, {}).items()}
        parts.append((name, batch.arrays.get(name, {}), shared))

    def put(row: int, content: RecordDict) -> None:
        for name, columns, shared in parts:
            record = ArrayRecord()
            for key, column in columns.items():
                record[key] = _flower_array(np.asarray(column[row]))
            for key, array in shared.items():
                record[key] = array
            content[name] = record

    return put


def _python_values(value: Any, rows: NDArray[np.int64]) -> list:
    """The Python value of each row; a list value is a fresh list in each."""
    if isinstance(value, np.ndarray):
        return value[rows].tolist()
    return [list(value) if isinstance(value, list) else value for _ in rows]


def build_messages(batch: MessageBatch, rows: NDArray[np.int64]) -> Iterator[Message]:
    """The messages of these rows, one after the other."""
    put_arrays = _array_maker(batch)
    metrics = {
        name: {key: _python_values(v, rows) for key, v in record.items()}
        for name, record in batch.metrics.items()
    }
    configs = {
        name: {key: _python_values(v, rows) for key, v in record.items()}
        for name, record in batch.configs.items()
    }
    ttl_s = np.broadcast_to(batch.ttl_s, len(batch))[rows].tolist()
    created_at_s = np.broadcast_to(batch.created_at_s, len(batch))[rows].tolist()
    node_ids = batch.node_ids[rows].tolist()
    for place, row in enumerate(rows.tolist()):
        error = batch.errors.get(row)
        content = None
        if error is None:
            content = RecordDict()
            put_arrays(row, content)
            for name, record in metrics.items():
                content[name] = MetricRecord({key: column[place] for key, column in record.items()})
            for name, record in configs.items():
                content[name] = ConfigRecord({key: column[place] for key, column in record.items()})
        yield make_flower_message(
            content,
            cloud=batch.cloud,
            node_id=node_ids[place],
            message_type=batch.message_type,
            is_reply=batch.is_reply,
            message_id=batch.message_ids[row] if batch.message_ids is not None else "",
            reply_to=batch.reply_to[row] if batch.reply_to is not None else "",
            group_id=batch.group_id,
            ttl_s=ttl_s[place],
            created_at_s=created_at_s[place],
            error=error,
        )
