"""Counts the bytes that a Flower message takes, exactly, without serializing it.

Flower sends protobuf. Three of its rules decide every size: a number is a varint of seven bits a
byte; a field that holds its default (zero, an empty string) is left out, unless it belongs to a
oneof or is itself a message; and a repeated number is packed into one field, which is left out when
empty. Sizes of many messages are computed at once: where a size depends on a value, the functions
take and return arrays.
"""

import io
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cdc_flower.wire.identity import NUMPY_STYPE

#: A size in bytes: the same for all messages, or ``[n]``.
Size = int | NDArray[np.int64]

#: Field numbers of the three kinds of record inside a content item.
ARRAY_RECORD = 2
METRIC_RECORD = 3
CONFIG_RECORD = 4

INT64_MAX = 2**63 - 1
_VARINT_STEPS = np.array([1 << bits for bits in range(7, 64, 7)], dtype=np.uint64)
_DOUBLE_FIELD = 1 + 8  # tag and value
_UINT64_FIELD = 1 + 10  # tag and the longest varint, that of an id of 64 bits
_LIST_NUMBER = 21  # lists have field numbers 21 to 26: a tag of two bytes


def varint_bytes(values: ArrayLike) -> NDArray[np.int64]:
    """Measures each number as a varint: 1 byte below 128, 10 bytes from 2**63.

    Args:
        values: Integers >= 0, any shape.
    """
    numbers = np.asarray(values).astype(np.uint64)
    return np.searchsorted(_VARINT_STEPS, numbers, side="right").astype(np.int64) + 1


def zigzag(values: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Maps signed numbers as protobuf's sint64 sends them: 0, -1, 1, -2 become 0, 1, 2, 3."""
    return ((values << 1) ^ (values >> 63)).astype(np.uint64)


def _varint_length(value: int) -> int:
    return max(1, -(-value.bit_length() // 7))


def field_bytes(size: Size, number: int = 1) -> Size:
    """Measures a field with a length in front that is always sent.

    Such are a message, a packed list, and a member of a oneof.

    Args:
        size: Bytes inside.
        number: The field's number, which decides the length of the tag.
    """
    tag = _varint_length(number << 3)
    if isinstance(size, int):
        return tag + _varint_length(size) + size
    return tag + varint_bytes(size) + size


def text_bytes(text: str | bytes, number: int = 1) -> int:
    """Measures a plain string or bytes field: nothing when it is empty."""
    size = len(text.encode()) if isinstance(text, str) else len(text)
    return int(field_bytes(size, number)) if size else 0


@lru_cache(maxsize=4096)
def npy_header(dtype: np.dtype, shape: tuple[int, ...], fortran_order: bool = False) -> bytes:
    """Writes what ``np.save`` writes before the data of such an array.

    Args:
        dtype: Of the array.
        shape: Of the array.
        fortran_order: Whether its first axis varies fastest; C order by default.
    """
    buffer = io.BytesIO()
    fields = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": fortran_order,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()


def num_elements(shape: tuple[int, ...]) -> int:
    """Counts the numbers in an array of this shape; 1 for ``()``."""
    count = 1
    for length in shape:
        count *= length
    return count


def npy_bytes(dtype: np.dtype, shape: tuple[int, ...], fortran_order: bool = False) -> int:
    """Measures the array in the npy format.

    Args:
        dtype: Of the array.
        shape: Of the array.
        fortran_order: Whether its first axis varies fastest; C order by default.
    """
    return len(npy_header(dtype, shape, fortran_order)) + num_elements(shape) * dtype.itemsize


@lru_cache(maxsize=4096)
def array_bytes(dtype: np.dtype, shape: tuple[int, ...]) -> int:
    """Measures Flower's ``Array`` for a C-ordered array.

    It holds dtype, shape, serialization type and npy data.
    """
    dims = sum(_varint_length(length) for length in shape)
    packed_shape = int(field_bytes(dims)) if dims else 0
    data = int(field_bytes(npy_bytes(dtype, shape)))
    return text_bytes(str(dtype)) + packed_shape + text_bytes(NUMPY_STYPE) + data


def numbers_bytes(column: NDArray) -> Size:
    """Measures a metric or config value that holds numbers, for each message.

    Flower sends an int as sint64, unless it is above 2**63 - 1; a list does so if any of its
    numbers is.

    Args:
        column: ``[n]`` (a number each) or ``[n, k]`` (a list each) of bool, int64, uint64 or
            float64.

    Returns:
        ``[n]``, or an int where all are of one size.
    """
    is_list = column.ndim == 2
    length = column.shape[1] if is_list else 1
    if column.dtype.kind == "f":
        data: Size = 8 * length
    elif column.dtype.kind == "b":
        data = length
    elif column.dtype == np.uint64:
        is_large = np.asarray(column > np.uint64(INT64_MAX))
        if is_list:
            is_large = np.any(is_large, axis=1, keepdims=True)
        # Shifted by one bit, for a sint64 of n >= 0 is sent as 2 n.
        lengths = np.where(is_large, varint_bytes(column), varint_bytes(column << np.uint64(1)))
        data = lengths.sum(axis=1) if is_list else lengths
    else:
        lengths = varint_bytes(zigzag(column))
        data = lengths.sum(axis=1) if is_list else lengths
    if not is_list:
        return 1 + data
    return field_bytes(field_bytes(data) if length else 0, _LIST_NUMBER)


def value_bytes(value: bool | int | float | str | bytes | list) -> int:
    """Measures one config value; a oneof, so zero and the empty string are sent too.

    Raises:
        ValueError: If an integer does not fit into 64 bits.
    """
    if isinstance(value, str | bytes):
        return int(field_bytes(len(value.encode()) if isinstance(value, str) else len(value)))
    if isinstance(value, list) and value and isinstance(value[0], str | bytes):
        return int(field_bytes(sum(value_bytes(item) for item in value), _LIST_NUMBER))
    return int(np.asarray(numbers_bytes(number_column([value]))).reshape(-1)[0])


def number_column(values: list) -> NDArray:
    """Turns Python numbers, or lists of them, into the array that a batch holds.

    That is of bool, int64, uint64 or float64.

    Raises:
        ValueError: If the integers fit neither into int64 nor into uint64.
    """
    first = values[0]
    is_list = isinstance(first, list)
    item = (first[0] if first else 0.0) if is_list else first
    if isinstance(item, bool | float):
        return np.array(values, dtype=np.bool_ if isinstance(item, bool) else np.float64)
    # Signed first: Flower sends unsigned numbers only where they must be.
    for dtype in (np.int64, np.uint64):
        try:
            return np.array(values, dtype=dtype)
        except OverflowError:
            continue
    raise ValueError(f"integers must fit into int64 or all into uint64, got {values!r:.200}")


def item_bytes(key: str, value: Size) -> Size:
    """Measures one entry of a record: its key and its value."""
    return field_bytes(text_bytes(key) + field_bytes(value))


def record_bytes(name: str, kind: int, items: Size) -> Size:
    """Measures one record of a content: its name and its entries.

    Args:
        name: The record's name.
        kind: ``ARRAY_RECORD``, ``METRIC_RECORD`` or ``CONFIG_RECORD``.
        items: Sum of :func:`item_bytes`.
    """
    return field_bytes(text_bytes(name) + field_bytes(items, kind))


@lru_cache(maxsize=256)
def envelope_bytes(message_type: str, is_reply: bool, group_id: str = "") -> int:
    """Counts the bytes that a message adds around its content or error in a deployment.

    A run id, the device's node id and the server's task id have 64 bits there, and half of all such
    ids need a varint of 10 bytes: we count 10. The cloud's node id is 1. A message id is 64
    hexadecimal digits, and a reply holds that of its instruction as well. Creation time and time to
    live are doubles. A device has no task id.

    Args:
        message_type: Flower's type.
        is_reply: Whether the device sends it.
        group_id: Flower's label; empty adds nothing.
    """
    size = _UINT64_FIELD + text_bytes("0" * 64)  # run, message id
    size += 2 + _UINT64_FIELD  # cloud, device
    size += text_bytes("0" * 64) if is_reply else 0
    size += text_bytes(group_id) + _DOUBLE_FIELD + text_bytes(message_type) + _DOUBLE_FIELD
    size += _UINT64_FIELD  # the server's task: source of an instruction, destination of a reply
    return int(field_bytes(size))


def error_bytes(code: int, reason: str) -> int:
    """Measures the error field of a message that carries an error in place of a content."""
    code_field = 1 + int(varint_bytes(zigzag(np.array(code, dtype=np.int64)))) if code else 0
    return int(field_bytes(code_field + text_bytes(reason)))
