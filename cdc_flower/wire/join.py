"""Compares batches, cuts them, and puts them one after the other."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cdc_flower.wire.check import Configs, Records, as_rows
from cdc_flower.wire.parts import Batch, BatchParts


class SchemaError(ValueError):
    """Reports batches that cannot be one batch, as their messages are not alike."""


def _same_bits(one: NDArray, other: NDArray) -> bool:
    if one is other:
        return True
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    # Bytes, not numbers: NaN equals itself, and 0.0 is not -0.0.
    return np.array_equal(one.reshape(-1).view(np.uint8), other.reshape(-1).view(np.uint8))


def _same_values(one: NDArray, other: NDArray) -> bool:
    return one.dtype.kind == other.dtype.kind and np.array_equal(
        one, other, equal_nan=one.dtype.kind in "fc"
    )


def _columns(batch: BatchParts) -> dict[tuple[str, str, str], object]:
    """Lists every value of the good rows by kind, record and key; a record itself is None."""
    rows = batch.ok_rows()
    columns: dict[tuple[str, str, str], object] = {}
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
    """Turns unsigned numbers that fit into signed ones, as Flower keeps no difference."""
    if column.dtype.kind == "u" and not (column > np.uint64(2**63 - 1)).any():
        return column.astype(np.int64)
    return column


def _same_lists(one: object, other: object) -> bool:
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return all(
            type(a) is type(b) and (a == b or (a != a and b != b))  # NaN is the same as NaN
            for a, b in zip(one, other, strict=True)
        )
    return type(one) is type(other) and one == other


def same_messages(one: BatchParts, other: BatchParts) -> bool:
    """Tells whether both batches give the same messages, however their arrays are held."""
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
    mine = _columns(one)
    theirs = _columns(other)
    return mine.keys() == theirs.keys() and all(
        _same_columns(value, theirs[key]) for key, value in mine.items()
    )


def _same_columns(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return _same_values(one, other)
    return _same_lists(one, other)


def _picked_records(records: Configs, rows: NDArray[np.int64] | slice) -> Configs:
    """Takes rows of each array; a value that all messages have stays."""
    return {
        name: {
            key: value[rows] if isinstance(value, np.ndarray) else value
            for key, value in record.items()
        }
        for name, record in records.items()
    }


def _picked_ids(ids: list[str] | None, rows: NDArray[np.int64] | slice) -> list[str] | None:
    return None if ids is None else np.array(ids, dtype=object)[rows].tolist()


def _picked_seconds(
    value: float | NDArray[np.float64], rows: NDArray[np.int64] | slice
) -> float | NDArray[np.float64]:
    return value if isinstance(value, float) else value[rows]


def picked(batch: Batch, rows: NDArray[np.int64] | slice) -> Batch:
    """Keeps these rows of a batch; a slice gives views."""
    errors = {}
    if batch.errors:
        positions = as_rows(rows, len(batch))
        hit = np.flatnonzero(np.isin(positions, list(batch.errors)))
        errors = {int(row): batch.errors[int(positions[row])] for row in hit}
    return replace(
        batch,
        node_ids=batch.node_ids[rows],
        arrays=_picked_records(batch.arrays, rows),
        metrics=_picked_records(batch.metrics, rows),
        configs=_picked_records(batch.configs, rows),
        message_ids=_picked_ids(batch.message_ids, rows),
        reply_to=_picked_ids(batch.reply_to, rows),
        ttl_s=_picked_seconds(batch.ttl_s, rows),
        created_at_s=_picked_seconds(batch.created_at_s, rows),
        errors=errors,
    )


def _check_alike(batches: Sequence[BatchParts], name: str) -> None:
    """Refuses batches that differ in an attribute that a batch has once."""
    values = [getattr(batch, name) for batch in batches]
    for value in values[1:]:
        if value != values[0]:
            raise SchemaError(f"batches must have one {name}, got {values[0]!r} and {value!r}")


def _stacked(columns: list[NDArray], where: str) -> NDArray:
    """Puts columns of one kind one after the other; int64 and uint64 meet as uint64."""
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
                f"{where} must fit into int64 or all into uint64, "
                "got both negative and larger numbers"
            )
        columns = [column.astype(np.uint64) for column in columns]
    return np.concatenate(columns)


def _alike(names: Sequence[Iterable[str]], where: str) -> list[str]:
    """Lists record names, or the keys of a record, which all batches must have.

    Args:
        names: Of each batch, one or more.
        where: For the message.
    """
    first = list(names[0])
    for others in names[1:]:
        if set(others) != set(first):
            raise SchemaError(
                f"{where} must be alike in all batches, got {sorted(first)} and {sorted(others)}"
            )
    return first


def _array_keys(batch: BatchParts, name: str) -> list[str]:
    return [*batch.arrays.get(name, {}), *batch.shared.get(name, {})]


def _concatenated_arrays(batches: Sequence[BatchParts]) -> tuple[Records, Records]:
    """Makes arrays of each device, and those that all batches share."""
    arrays: Records = {}
    shared: Records = {}
    for name in _alike([batch.array_names() for batch in batches], "arrays"):
        for key in _alike([_array_keys(batch, name) for batch in batches], f"arrays[{name!r}]"):
            where = f"arrays[{name!r}][{key!r}]"
            held = [batch.shared.get(name, {}).get(key) for batch in batches]
            first = held[0]
            if first is None or any(array is None for array in held):
                columns = [batch.array(name, key) for batch in batches]
                arrays.setdefault(name, {})[key] = _stacked(columns, where)
            elif all(array is not None and _same_bits(first, array) for array in held[1:]):
                shared.setdefault(name, {})[key] = first
            else:
                raise SchemaError(
                    f"a shared array must be equal in all batches, got different values of {where}"
                )
        if name not in arrays and name not in shared:
            arrays[name] = {}
    return arrays, shared


def _concatenated_metrics(batches: Sequence[BatchParts]) -> Records:
    metrics: Records = {}
    for name in _alike([batch.metrics for batch in batches], "metrics"):
        metrics[name] = {}
        for key in _alike([batch.metrics[name] for batch in batches], f"metrics[{name!r}]"):
            columns = [batch.metrics[name][key] for batch in batches]
            metrics[name][key] = _stacked(columns, f"metrics[{name!r}][{key!r}]")
    return metrics


def _concatenated_configs(batches: Sequence[BatchParts]) -> Configs:
    configs: Configs = {}
    for name in _alike([batch.configs for batch in batches], "configs"):
        keys = _alike([batch.configs[name] for batch in batches], f"configs[{name!r}]")
        configs[name] = {key: _concatenated_config(batches, name, key) for key in keys}
    return configs


def _concatenated_config(batches: Sequence[BatchParts], name: str, key: str) -> object:
    """Keeps one value that all batches have; other numbers become a column ``[n]``."""
    values = [batch.configs[name][key] for batch in batches]
    where = f"configs[{name!r}][{key!r}]"
    has_columns = any(isinstance(value, np.ndarray) for value in values)
    if not has_columns and all(_same_lists(values[0], value) for value in values):
        return values[0]
    if any(isinstance(value, str | bytes | list) for value in values):
        raise SchemaError(f"{where} must be equal in all batches, got {values!r:.200}")
    columns = [
        value if isinstance(value, np.ndarray) else np.full(len(batch), value)
        for batch, value in zip(batches, values, strict=True)
    ]
    return _stacked(columns, where)


def _ids(batches: Sequence[BatchParts], lists: Sequence[list[str] | None]) -> list[str] | None:
    """Puts ids one after the other; a batch without ids has empty ones if another has some."""
    if all(ids is None for ids in lists):
        return None
    everyone: list[str] = []
    for batch, ids in zip(batches, lists, strict=True):
        everyone += [""] * len(batch) if ids is None else ids
    return everyone


def _seconds(
    batches: Sequence[BatchParts], values: Sequence[float | NDArray[np.float64]]
) -> float | NDArray[np.float64]:
    if all(isinstance(value, float) and value == values[0] for value in values):
        return values[0]
    return np.concatenate(
        [np.broadcast_to(v, len(batch)) for v, batch in zip(values, batches, strict=True)]
    )


def _has_no_schema(batch: BatchParts) -> bool:
    """Tells whether no message has a content or a record: such a batch fits any schema."""
    return len(batch) == len(batch.errors) and not batch.record_names()


def _zeros(records: Configs, num_rows: int) -> Configs:
    return {
        name: {
            key: np.zeros((num_rows, *value.shape[1:]), value.dtype)
            if isinstance(value, np.ndarray)
            else value
            for key, value in record.items()
        }
        for name, record in records.items()
    }


def _with_schema_of(batch: Batch, example: BatchParts) -> Batch:
    """Gives a batch without a schema of its own rows of zeros in the schema of another."""
    return batch.with_records(
        arrays=_zeros(example.arrays, len(batch)),
        shared=example.shared,
        metrics=_zeros(example.metrics, len(batch)),
        configs=_zeros(example.configs, len(batch)),
    )


def concatenated(batches: Sequence[Batch]) -> Batch:
    """Makes the batch that holds the messages of all these, in order.

    Raises:
        SchemaError: If the batches differ in schema, in what they share, or in type, direction,
            group or run.
        ValueError: If there are none.
    """
    if not batches:
        raise ValueError("batches must not be empty, got none")
    for name in ("message_type", "is_reply", "group_id", "cloud"):
        _check_alike(batches, name)
    # Best is one with contents; records alone are a schema too.
    example = max(
        batches, key=lambda batch: (len(batch.ok_rows()) > 0, len(batch.record_names()) > 0)
    )
    batches = [
        _with_schema_of(batch, example) if _has_no_schema(batch) else batch for batch in batches
    ]
    node_ids = _stacked([batch.node_ids for batch in batches], "node_ids")
    arrays, shared = _concatenated_arrays(batches)
    errors: dict[int, tuple[int, str]] = {}
    start = 0
    for batch in batches:
        errors |= {start + row: error for row, error in batch.errors.items()}
        start += len(batch)
    return replace(
        batches[0],
        node_ids=node_ids,
        arrays=arrays,
        shared=shared,
        metrics=_concatenated_metrics(batches),
        configs=_concatenated_configs(batches),
        message_ids=_ids(batches, [batch.message_ids for batch in batches]),
        reply_to=_ids(batches, [batch.reply_to for batch in batches]),
        ttl_s=_seconds(batches, [batch.ttl_s for batch in batches]),
        created_at_s=_seconds(batches, [batch.created_at_s for batch in batches]),
        errors=errors,
    )
