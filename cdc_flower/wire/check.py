"""Brings the parts of a message batch into one form, or refuses them with rule and value."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cdc_flower.wire.protobuf import number_column

#: Record name -> key -> array.
Records = dict[str, dict[str, NDArray]]
#: One value of a config record that all messages have.
ConfigValue = bool | int | float | str | bytes | list
#: Record name -> key -> one value for all, or an array of numbers, one a message.
Configs = dict[str, dict[str, Any]]

_NUMERIC = "biufc"


def node_id_column(values: ArrayLike) -> NDArray:
    """Holds node ids ``[n]`` as int64 where they fit, else as uint64.

    Flower's are unsigned numbers of 64 bits.
    """
    ids = np.asarray(values)
    if ids.size == 0:
        ids = ids.astype(np.int64)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ValueError(f"node_ids must be [n] integers, got {ids.dtype} of shape {ids.shape}")
    if ids.dtype.kind == "i" and (ids < 0).any():
        raise ValueError(f"node_ids must be >= 0, got {ids.min()}")
    if ids.dtype != np.uint64 or not (ids > np.uint64(2**63 - 1)).any():
        return ids.astype(np.int64, copy=False)
    return ids


def _array(values: ArrayLike, where: str) -> NDArray:
    array = np.asarray(values)
    if array.dtype.kind not in _NUMERIC:
        raise ValueError(f"{where} must be numeric, got dtype {array.dtype}")
    return array


def array_records(records: Mapping[str, Mapping[str, ArrayLike]], num_messages: int) -> Records:
    """Checks arrays with one row a message, ``[n, ...]``."""
    checked: Records = {}
    for name, record in records.items():
        checked[name] = {}
        for key, values in record.items():
            where = f"arrays[{name!r}][{key!r}]"
            array = checked[name][key] = _array(values, where)
            if array.ndim == 0 or len(array) != num_messages:
                raise ValueError(f"{where} must have {num_messages} rows, got shape {array.shape}")
    return checked


def shared_records(records: Mapping[str, Mapping[str, ArrayLike]]) -> Records:
    """Checks arrays that all messages have, and holds them in C order."""
    return {
        name: {
            key: np.asarray(_array(values, f"shared[{name!r}][{key!r}]"), order="C")
            for key, values in record.items()
        }
        for name, record in records.items()
    }


def _numbers(
    values: ArrayLike, where: str, num_messages: int, kinds: str, dims: tuple[int, ...]
) -> NDArray:
    column = np.asarray(values)
    if column.dtype.kind not in kinds:
        raise ValueError(f"{where} must be numbers, got dtype {column.dtype}")
    if column.ndim not in dims or len(column) != num_messages:
        raise ValueError(f"{where} must have {num_messages} rows, got shape {column.shape}")
    if column.dtype.kind == "b":
        return column
    if column.dtype.kind == "f" or (column.ndim == 2 and column.shape[1] == 0):
        return column.astype(np.float64, copy=False)
    return column if column.dtype == np.uint64 else column.astype(np.int64, copy=False)


def metric_records(records: Mapping[str, Mapping[str, ArrayLike]], num_messages: int) -> Records:
    """Checks metrics, ``[n]`` or ``[n, k]``, and holds them as int64, uint64 or float64."""
    return {
        name: {
            key: _numbers(values, f"metrics[{name!r}][{key!r}]", num_messages, "iuf", (1, 2))
            for key, values in record.items()
        }
        for name, record in records.items()
    }


def _config_value(value: object, where: str) -> ConfigValue:
    if isinstance(value, np.generic):
        value = value.item()
    items = value if isinstance(value, list) else [value]
    if any(not isinstance(item, bool | int | float | str | bytes) for item in items):
        raise ValueError(
            f"{where} must be a bool, int, float, str, bytes or a list of them, got {value!r:.200}"
        )
    if any(type(item) is not type(items[0]) for item in items):
        raise ValueError(f"{where} must be a list of one type, got {value!r:.200}")
    if items and not isinstance(items[0], str | bytes):
        number_column(items)  # refuses what does not fit into 64 bits
    return cast(ConfigValue, value)


def config_records(records: Mapping[str, Mapping[str, object]], num_messages: int) -> Configs:
    """Checks config values: one for all, or ``[n]`` of bool, int64, uint64 or float64."""
    checked: Configs = {}
    for name, record in records.items():
        checked[name] = {}
        for key, value in record.items():
            where = f"configs[{name!r}][{key!r}]"
            if isinstance(value, np.ndarray) and value.ndim:
                checked[name][key] = _numbers(value, where, num_messages, "biuf", (1,))
            else:
                checked[name][key] = _config_value(
                    value[()] if isinstance(value, np.ndarray) else value, where
                )
    return checked


def check_names(arrays: Records, shared: Records, metrics: Records, configs: Configs) -> None:
    """Refuses a record name of two kinds, and an array that is both shared and not.

    Args:
        arrays: Array records of each message.
        shared: Array records that all messages have.
        metrics: Metric records.
        configs: Config records.
    """
    for name in arrays.keys() & shared.keys():
        twice = arrays[name].keys() & shared[name].keys()
        if twice:
            raise ValueError(
                f"an array is either per device or shared, got both for {name!r}: {sorted(twice)}"
            )
    kinds = (arrays.keys() | shared.keys(), metrics.keys(), configs.keys())
    names = list(chain.from_iterable(kinds))
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise ValueError(f"a record name must be of one kind, got {sorted(doubled)} of several")


def id_list(ids: NDArray | Sequence[str] | None, name: str, num_messages: int) -> list[str] | None:
    """Lists message ids as texts, one a message.

    Args:
        ids: One a message; None stays None.
        name: Of the attribute, for the message.
        num_messages: ``n``.
    """
    if ids is None:
        return None
    listed = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    if len(listed) != num_messages:
        raise ValueError(f"{name} must have {num_messages} ids, got {len(listed)}")
    return listed


def seconds(value: ArrayLike, name: str, num_messages: int) -> float | NDArray[np.float64]:
    """Checks a time: one for all, or ``[n]``.

    Args:
        value: One number, or ``[n]``, in seconds.
        name: Of the attribute, for the message.
        num_messages: ``n``.
    """
    column = np.asarray(value, dtype=np.float64)
    if column.ndim == 0:
        return float(column)
    if column.shape != (num_messages,):
        raise ValueError(f"{name} must be one number or {num_messages}, got shape {column.shape}")
    return column


def error_rows(
    errors: Mapping[int, tuple[int, str]], num_messages: int
) -> dict[int, tuple[int, str]]:
    """Sorts errors, row -> code and reason, in the order of rows."""
    for row in errors:
        if not 0 <= row < num_messages:
            raise ValueError(f"errors must name rows in 0..{num_messages - 1}, got {row}")
    return {int(row): (int(errors[row][0]), str(errors[row][1] or "")) for row in sorted(errors)}


def as_rows(rows: ArrayLike | slice, num_messages: int) -> NDArray[np.int64]:
    """Turns a bool mask ``[n]``, a slice, or integers into positions; negative ones count back.

    Raises:
        ValueError: If a mask has another length, or rows are not a vector of integers.
        IndexError: If a row does not exist.
    """
    if isinstance(rows, slice):
        return np.arange(num_messages)[rows]
    index = np.asarray(rows)
    if index.size == 0 and index.dtype.kind != "b":
        index = index.astype(np.int64)
    if index.ndim != 1 or index.dtype.kind not in "biu":
        raise ValueError(
            f"rows must be [k] integers or a mask, got {index.dtype} of shape {index.shape}"
        )
    if index.dtype.kind == "b" and len(index) != num_messages:
        raise ValueError(f"a mask must have {num_messages} rows, got {len(index)}")
    return np.arange(num_messages)[index]
