"""Tells whether the arrays of a message can be read: a device may send anything as their data."""

import io
import operator

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict

from cdc_flower.wire.identity import NUMPY_STYPE
from cdc_flower.wire.protobuf import npy_header, num_elements


def unreadable_in(contents: list[RecordDict]) -> dict[int, str]:
    """Finds contents with an array that cannot be read: place among them -> why."""
    found: dict[int, str] = {}
    fine: set[int] = set()  # objects that many contents share are looked at once
    for place, content in enumerate(contents):
        for name, record in content.items():
            if not isinstance(record, ArrayRecord) or id(record) in fine:
                continue
            reason = next(filter(None, (_unreadable_array(each) for each in record.values())), "")
            if reason:
                found[place] = f"{name}: {reason}"
                break
            fine.add(id(record))
    return found


def _unreadable_array(array: Array) -> str:
    """Says why an array cannot be read; "" if it can."""
    if array.stype != NUMPY_STYPE:
        return f"an array must be serialized as {NUMPY_STYPE!r}, got {array.stype!r:.40}"
    try:
        dtype = np.dtype(array.dtype)
        shape = tuple(map(operator.index, array.shape))
    except (TypeError, ValueError):
        return f"an array must have a dtype and a shape, got {array.dtype!r:.40}"
    if dtype.kind not in "biufc" or min(shape, default=0) < 0:
        return f"an array must hold numbers, got {dtype} of {shape}"
    num_bytes = num_elements(shape) * dtype.itemsize
    if num_bytes > len(array.data):
        return f"an array of {dtype} {shape} must have {num_bytes} bytes, got {len(array.data)}"
    header = npy_header(dtype, shape)
    if len(array.data) == len(header) + num_bytes and array.data.startswith(header):
        return ""
    try:  # in Fortran order, or of another version of the format
        header_of = _npy_header_in(array.data)
    except (ValueError, EOFError, TypeError, SyntaxError) as error:
        return f"an array must be in the npy format ({error!s:.80})"
    if header_of != (dtype, shape):
        return f"an array must hold {dtype} of {shape}, got {header_of[0]} of {header_of[1]}"
    return ""


def _npy_header_in(data: bytes) -> tuple[np.dtype, tuple[int, ...]]:
    """Reads type and shape in the header of an npy file, and whether all of its numbers are there.

    Raises:
        ValueError: If it is none, or its size is another.
    """
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version} is not known")
    shape, _, dtype = readers[version](file)
    if len(data) - file.tell() != num_elements(shape) * dtype.itemsize:
        raise ValueError("its size is another")
    return dtype, shape
