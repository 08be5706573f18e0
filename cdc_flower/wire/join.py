"""Batches compared, cut, and put one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cdc_flower.wire.check import as_rows

if TYPE_CHECKING:
    from cdc_flower.wire.batch import MessageBatch


class SchemaError(ValueError):
    """Batches cannot be one batch: their messages are not alike."""


def _same_bits(one: NDArray, other: NDArray) -> bool:
    if one is other:
        return True
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return np.array_equal(one.reshape(-1).view(np.uint8), other.reshape(-1).view(np.uint8))


def _same_values(one: NDArray, other: NDArray) -> bool:
    return one.dtype.kind == other.dtype.kind and np.array_equal(
        one, other, equal_nan=one.dtype.kind in "fc"
    )


def _columns(batch: MessageBatch) -> dict[tuple[str, str, str], Any]:
    """Every value of the good rows, by kind, record and key; None stands for the record itself."""
    rows = batch.ok_rows()
    columns: dict[tuple[str, str, str], Any] = {}
    for name in batch.array_names():
        columns["arrays", name, ""] = None
        for key in (*batch.arrays.get(name, {}), *batch.shared.get(name, {})):
            columns["array", name, key] = batch.array(name, key)[rows]
    for name, record in batch.metrics.items():
        columns["metrics", name, ""] = None
        for key, column in record.items():
            columns["metric", name, key] = _plain(column[rows])
    for name, configs in batch.configs.items():
        columns["configs", name, ""] = None
        for key, value in configs.items():
            if isinstance(value, np.ndarray):
                columns["config", name, key] = _plain(value[rows])
            elif isinstance(value, bool | int | float):
                columns["config", name, key] = _plain(np.full(len(rows), value))
            else:
                columns["config", name, key] = value
    return columns


def _plain(column: NDArray) -> NDArray:
    """Unsigned numbers that fit become signed ones, as Flower keeps no difference."""
    if column.dtype.kind == "u" and not (column > np.uint64(2**63 - 1)).any():
        return column.astype(np.int64)
    return column


def _same_lists(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return all(
            type(a) is type(b) and (a == b or (a != a and b != b))
            for a, b in zip(one, other, strict=True)
        )
    return type(one) is type(other) and one == other


def same_messages(one: MessageBatch, other: MessageBatch) -> bool:
    """Whether both batches give the same messages, however their arrays are held."""
    n = len(one)
    heads = [
        (batch.message_type, batch.is_reply, batch.group_id, batch.cloud, batch.errors, len(batch))
        for batch in (one, other)
    ]
    if heads[0] != heads[1] or not np.array_equal(one.node_ids, other.node_ids):
        return False
    for name in ("message_ids", "reply_to"):
        if (getattr(one, name) or [""] * n) != (getattr(other, name) or [""] * n):
            return False
    for name in ("ttl_s", "created_at_s"):
        mine_s, theirs_s = (np.broadcast_to(getattr(batch, name), n) for batch in (one, other))
        if not np.array_equal(mine_s, theirs_s):
            return False
    if not len(one.ok_rows()):
        return True
    mine, theirs = _columns(one), _columns(other)
    if mine.keys() != theirs.keys():
        return False
    return all(
        _same_values(value, theirs[key])
        if isinstance(value, np.ndarray) and isinstance(theirs[key], np.ndarray)
        else _same_lists(value, theirs[key])
        for key, value in mine.items()
    )


def picked_parts(batch: MessageBatch, rows: NDArray[np.int64] | slice) -> dict[str, Any]:
    """What changes in a batch of which only these rows are kept; a slice gives views."""

    def pick(records: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        return {
            name: {
                key: value[rows] if isinstance(value, np.ndarray) else value
                for key, value in record.items()
            }
            for name, record in records.items()
        }

    def pick_ids(ids: list[str] | None) -> list[str] | None:
        return None if ids is None else np.array(ids, dtype=object)[rows].tolist()

    errors = {}
    if batch.errors:
        positions = as_rows(rows, len(batch))
        hit = np.flatnonzero(np.isin(positions, list(batch.errors)))
        errors = {int(row): batch.errors[int(positions[row])] for row in hit}
    return {
        "node_ids": batch.node_ids[rows],
        "arrays": pick(batch.arrays),
        "metrics": pick(batch.metrics),
        "configs": pick(batch.configs),
        "message_ids": pick_ids(batch.message_ids),
        "reply_to": pick_ids(batch.reply_to),
        "ttl_s": batch.ttl_s if isinstance(batch.ttl_s, float) else batch.ttl_s[rows],
        "created_at_s": batch.created_at_s
        if isinstance(batch.created_at_s, float)
        else batch.created_at_s[rows],
        "errors": errors,
    }


def _one_of(batches: Sequence[MessageBatch], name: str) -> Any:
    values = [getattr(batch, name) for batch in batches]
    for value in values[1:]:
        if value != values[0]:
            raise SchemaError(f"batches must have one {name}, got {values[0]!r} and {value!r}")
    return values[0]


def _joined(columns: list[NDArray], where: str) -> NDArray:
    """Columns of one kind in a row; int64 and uint64 meet as uint64."""
    first = columns[0]
    for column in columns[1:]:
        numbers = {first.dtype, column.dtype} == {np.dtype(np.int64), np.dtype(np.uint64)}
        if column.shape[1:] != first.shape[1:] or (column.dtype != first.dtype and not numbers):
            raise SchemaError(
                f"{where} must be alike in all batches, got {first.dtype} {first.shape[1:]} "
                f"and {column.dtype} {column.shape[1:]}"
            )
    if len({column.dtype for column in columns}) > 1:
        if any(column.dtype.kind == "i" and (column < 0).any() for column in columns):
            raise SchemaError(
                f"{where} must fit into int64 or all into uint64, got both negative and larger numbers"
            )
        columns = [column.astype(np.uint64) for column in columns]
    return np.concatenate(columns)


def _names(batches: Sequence[MessageBatch], kind: str, record: str | None = None) -> list[str]:
    """Record names of a kind, or the keys of one record, which all batches must have."""

    def names(batch: MessageBatch) -> list[str]:
        if kind == "arrays":
            both = (batch.arrays, batch.shared)
            return (
                batch.array_names()
                if record is None
                else [key for part in both for key in part.get(record, {})]
            )
        records = getattr(batch, kind)
        return list(records if record is None else records[record])

    first = names(batches[0])
    for batch in batches[1:]:
        if set(names(batch)) != set(first):
            where = kind if record is None else f"{kind}[{record!r}]"
            raise SchemaError(
                f"{where} must be alike in all batches, got {sorted(first)} and {sorted(names(batch))}"
            )
    return first


def _expanded(batch: MessageBatch, kind: str, name: str, key: str) -> NDArray:
    return batch.array(name, key) if kind == "arrays" else getattr(batch, kind)[name][key]


def _joined_arrays(batches: Sequence[MessageBatch]) -> tuple[dict, dict]:
    arrays: dict[str, dict] = {}
    shared: dict[str, dict] = {}
    for name in _names(batches, "arrays"):
        for key in _names(batches, "arrays", name):
            where = f"arrays[{name!r}][{key!r}]"
            held = [batch.shared.get(name, {}).get(key) for batch in batches]
            if any(array is None for array in held):
                arrays.setdefault(name, {})[key] = _joined(
                    [batch.array(name, key) for batch in batches], where
                )
            elif all(_same_bits(held[0], array) for array in held[1:]):  # type: ignore[arg-type]
                shared.setdefault(name, {})[key] = held[0]
            else:
                raise SchemaError(
                    f"a shared array must be equal in all batches, got different values of {where}"
                )
        if name not in arrays and name not in shared:
            arrays[name] = {}
    return arrays, shared


def _joined_config(batches: Sequence[MessageBatch], name: str, key: str) -> Any:
    values = [batch.configs[name][key] for batch in batches]
    where = f"configs[{name!r}][{key!r}]"
    if not any(isinstance(value, np.ndarray) for value in values) and all(
        _same_lists(values[0], v) for v in values
    ):
        return values[0]
    if any(isinstance(value, str | bytes | list) for value in values):
        raise SchemaError(f"{where} must be equal in all batches, got {values!r:.200}")
    columns = [
        value if isinstance(value, np.ndarray) else np.full(len(batch), value)
        for batch, value in zip(batches, values, strict=True)
    ]
    return _joined(columns, where)


def _ids(batches: Sequence[MessageBatch], name: str) -> list[str] | None:
    lists = [getattr(batch, name) for batch in batches]
    if all(ids is None for ids in lists):
        return None
    joined: list[str] = []
    for batch, ids in zip(batches, lists, strict=True):
        joined += [""] * len(batch) if ids is None else ids
    return joined


def _seconds(batches: Sequence[MessageBatch], name: str) -> float | NDArray[np.float64]:
    values = [getattr(batch, name) for batch in batches]
    if all(isinstance(value, float) and value == values[0] for value in values):
        return values[0]
    return np.concatenate(
        [np.broadcast_to(v, len(batch)) for v, batch in zip(values, batches, strict=True)]
    )


def _has_no_schema(batch: MessageBatch) -> bool:
    """Whether it has no message with a content, and no records: such a batch fits any schema."""
    return len(batch) == len(batch.errors) and not batch.record_names()


def _zeros_like(batch: MessageBatch, example: MessageBatch) -> dict[str, dict]:
    """The content of a batch without a schema of its own: rows of zeros in the schema of another."""

    def zeros(records: dict) -> dict:
        return {
            name: {
                key: np.zeros((len(batch), *value.shape[1:]), value.dtype)
                if isinstance(value, np.ndarray)
                else value
                for key, value in record.items()
            }
            for name, record in records.items()
        }

    return {
        "arrays": zeros(example.arrays),
        "shared": example.shared,
        "metrics": zeros(example.metrics),
        "configs": zeros(example.configs),
    }


def joined_parts(batches: Sequence[MessageBatch]) -> dict[str, Any]:
    """The arguments of the batch that holds the messages of all these, in order.

    Raises:
        SchemaError: If the batches differ in schema, in what they share, or in type, direction,
            group or run.
    """
    if not batches:
        raise ValueError("batches must not be empty, got none")
    parts: dict[str, Any] = {
        name: _one_of(batches, name) for name in ("message_type", "is_reply", "group_id", "cloud")
    }
    example = max(
        batches, key=lambda batch: (len(batch.ok_rows()) > 0, len(batch.record_names()) > 0)
    )
    batches = [
        batch.with_records(**_zeros_like(batch, example)) if _has_no_schema(batch) else batch
        for batch in batches
    ]
    parts["node_ids"] = _joined([b.node_ids for b in batches], "node_ids")
    parts["message_ids"], parts["reply_to"] = (
        _ids(batches, "message_ids"),
        _ids(batches, "reply_to"),
    )
    parts["ttl_s"], parts["created_at_s"] = (
        _seconds(batches, "ttl_s"),
        _seconds(batches, "created_at_s"),
    )
    parts["arrays"], parts["shared"] = _joined_arrays(batches)
    parts["metrics"] = {
        name: {
            key: _joined([b.metrics[name][key] for b in batches], f"metrics[{name!r}][{key!r}]")
            for key in _names(batches, "metrics", name)
        }
        for name in _names(batches, "metrics")
    }
    parts["configs"] = {
        name: {key: _joined_config(batches, name, key) for key in _names(batches, "configs", name)}
        for name in _names(batches, "configs")
    }
    parts["errors"], start = {}, 0
    for batch in batches:
        parts["errors"] |= {start + row: error for row, error in batch.errors.items()}
        start += len(batch)
    return parts
