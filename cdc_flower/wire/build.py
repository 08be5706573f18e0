"""Makes ordinary Flower messages of the arrays of a batch."""

from collections.abc import Callable, Iterator

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from cdc_flower.wire.identity import NUMPY_STYPE, Envelope, make_flower_message
from cdc_flower.wire.parts import BatchParts
from cdc_flower.wire.protobuf import npy_header


def _flower_array(values: NDArray) -> Array:
    """Makes Flower's array of these values, in C order."""
    header = npy_header(values.dtype, values.shape)
    return Array(
        dtype=str(values.dtype),
        shape=values.shape,
        stype=NUMPY_STYPE,
        data=header + values.tobytes(),
    )


def _array_maker(batch: BatchParts) -> Callable[[int, RecordDict], None]:
    """Makes what puts a row's array records into a content; shared arrays are serialized once."""
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


def _python_values(value: object, rows: NDArray[np.int64]) -> list:
    """Lists the Python value of each row; a list value is a fresh list in each."""
    if isinstance(value, np.ndarray):
        return value[rows].tolist()
    return [list(value) if isinstance(value, list) else value for _ in rows]


def build_messages(batch: BatchParts, rows: NDArray[np.int64]) -> Iterator[Message]:
    """Makes the messages of these rows, one after the other."""
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
        envelope = Envelope(
            cloud=batch.cloud,
            node_id=node_ids[place],
            message_type=batch.message_type,
            is_reply=batch.is_reply,
            message_id=batch.message_ids[row] if batch.message_ids is not None else "",
            reply_to=batch.reply_to[row] if batch.reply_to is not None else "",
            group_id=batch.group_id,
            ttl_s=ttl_s[place],
            created_at_s=created_at_s[place],
        )
        yield make_flower_message(envelope, content, error)
