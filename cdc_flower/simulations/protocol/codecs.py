"""Codecs of arrays, for a batch of messages: real bytes out, and the arrays back.

=========  =============================================================================================
codec      what is sent of an array
=========  =============================================================================================
delta      the difference from what the receiver holds (bits that differ, if nothing below loses any)
top_k      the numbers that are largest in magnitude, and where they are; the others are 0 (no difference)
float16    half precision
int8       whole numbers from -127 to 127 and one scale a channel (a row of a matrix; a vector is one)
zstd       all bytes of a message, compressed without loss
=========  =============================================================================================
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.options import option

CODECS = ("delta", "top_k", "float16", "int8", "zstd")
#: Of half precision.
LARGEST_FLOAT16 = 65504.0

Parts = dict[str, NDArray]


@dataclass(frozen=True)
class ProtocolOptions:
    """Codecs of payloads."""

    codecs: tuple[str, ...] = option(
        (), neutral=None, doc="in order; [] sends payloads as they are"
    )
    top_k_share: float = option(
        0.1, above=0, most=1, neutral=1, doc="of the numbers of each array that top_k sends"
    )


@dataclass(frozen=True)
class Codecs:
    """Which codecs, in the order of ``CODECS``.

    Args:
        names: Some of ``CODECS``. None of them: arrays are sent as they are, bit by bit.
        top_k_share: Of the numbers of each array that ``top_k`` sends, in (0, 1]; at least one
            number.

    Raises:
        UserError: If a name is unknown, named twice or out of order, both number formats are named,
            or the share is out of its range.
    """

    names: tuple[str, ...] = ()
    top_k_share: float = 0.1

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in CODECS:
                raise unknown_name("codec", name, CODECS, "protocol.codecs")
        if list(self.names) != [name for name in CODECS if name in self.names]:
            raise UserError(
                f"protocol.codecs must be in the order {', '.join(CODECS)}, got {', '.join(self.names)}"
            )
        if {"float16", "int8"} <= set(self.names):
            raise UserError("protocol.codecs must have one of float16 and int8, got both")
        if isinstance(self.top_k_share, bool) or not 0 < self.top_k_share <= 1:
            raise UserError(f"protocol.top_k_share must be in (0, 1], got {self.top_k_share}")

    def __contains__(self, name: str) -> bool:
        return name in self.names

    @property
    def is_lossy(self) -> bool:
        """Whether what comes out may differ from what went in."""
        return bool({"top_k", "float16", "int8"} & set(self.names))

    def encode(self, value: NDArray, reference: NDArray | None) -> Parts:
        """An array ``[k, ...]`` as parts, before compression; numbers that are not float32 stay as they are.

        Args:
            value: One row a message.
            reference: What each receiver holds, of the same shape; None: nothing, so there is no
                difference to take.
        """
        if value.dtype != np.float32:
            return {"": value}
        x = value
        if reference is not None and "delta" in self:
            x = value - reference if self.is_lossy else _bits(value) ^ _bits(reference)
        parts: Parts = {}
        if "top_k" in self:
            flat = x.reshape(len(x), -1)
            count = self._count(flat.shape[1])
            where = np.sort(np.argpartition(-np.abs(flat), count - 1, 1)[:, :count], 1)
            parts["index"] = where.astype(index_dtype(flat.shape[1]))
            x = np.take_along_axis(flat, where, 1)
        if "float16" in self:
            x = np.clip(x, -LARGEST_FLOAT16, LARGEST_FLOAT16).astype(np.float16)
        elif "int8" in self:
            axes = tuple(range(2, x.ndim)) if x.ndim > 2 else tuple(range(1, x.ndim))
            scale = np.abs(x).max(axes, keepdims=True, initial=0.0) / np.float32(127)
            x = np.round(x / np.where(scale > 0, scale, 1)).astype(np.int8)
            parts["scale"] = scale.astype(np.float32)
        return {**parts, "": x}

    def decode(
        self, parts: Parts, shape: tuple[int, ...], dtype: DTypeLike, reference: NDArray | None
    ) -> NDArray:
        """The array ``[k, *shape]`` again.

        Args:
            parts: Of :meth:`encode`; ``shape``: without ``k``; ``dtype``: of the array before.
            reference: As in :meth:`encode`.
        """
        x = parts[""]
        if np.dtype(dtype) != np.float32:
            return x
        if "scale" in parts:
            x = x * parts["scale"]
        if x.dtype == np.float16:
            x = x.astype(np.float32)
        if "index" in parts:
            flat = np.zeros((len(x), int(np.prod(shape))), np.float32)
            np.put_along_axis(flat, parts["index"].astype(np.int64), x, 1)
            x = flat
        x = x.reshape(len(x), *shape)
        if reference is None or "delta" not in self:
            return x
        return x + reference if self.is_lossy else (x ^ _bits(reference)).view(np.float32)

    def layout(
        self, shape: tuple[int, ...], dtype: DTypeLike, has_reference: bool
    ) -> list[tuple[str, tuple[int, ...], np.dtype]]:
        """Name, shape and type of each part of an array, without the message: what a receiver knows beforehand."""
        one = np.zeros((1, *shape), dtype)
        return [
            (name, part.shape[1:], part.dtype)
            for name, part in self.encode(one, one if has_reference else None).items()
        ]

    def _count(self, size: int) -> int:
        return max(1, int(np.ceil(self.top_k_share * size)))


def codecs_of(config: Mapping[str, Any]) -> Codecs:
    """The codecs of a configured ``protocol``.

    Raises:
        UserError: As :class:`Codecs`, or if the codecs are no list.
    """
    names = config["codecs"]
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise UserError(f"protocol.codecs must be a list such as [float16,zstd], got {names}")
    return Codecs(tuple(names), config["top_k_share"])


def index_dtype(size: int) -> type[np.unsignedinteger]:
    """The smallest type that holds every index below ``size``."""
    return np.uint8 if size <= 2**8 else np.uint16 if size <= 2**16 else np.uint32


def compress(parts: Sequence[NDArray]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes of all parts ``[k, ...]`` of each message, compressed: padded ``[k, longest]``, and lengths ``[k]``."""
    codec, k = pa.Codec("zstd"), len(parts[0])
    raw = np.concatenate(
        [np.ascontiguousarray(part).reshape(k, -1).view(np.uint8) for part in parts], 1
    )
    blobs = [codec.compress(row.tobytes(), asbytes=True) for row in raw]
    lengths = np.array([len(blob) for blob in blobs], np.int64)
    padded = np.zeros((k, int(lengths.max(initial=0))), np.uint8)
    for row, blob in enumerate(blobs):
        padded[row, : len(blob)] = np.frombuffer(blob, np.uint8)
    return padded, lengths


def expand(
    blobs: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    layout: Mapping[str, tuple[tuple[int, ...], np.dtype]],
) -> Parts:
    """The parts ``[k, ...]`` again, by their names in the layout."""
    codec, k = pa.Codec("zstd"), len(blobs)
    sizes = {name: int(np.prod(shape)) * dtype.itemsize for name, (shape, dtype) in layout.items()}
    total = sum(sizes.values())
    rows = [
        codec.decompress(blobs[row, : lengths[row]].tobytes(), total, asbytes=True)
        for row in range(k)
    ]
    raw = np.frombuffer(b"".join(rows), np.uint8).reshape(k, total)
    parts, start = {}, 0
    for name, (shape, dtype) in layout.items():
        part = np.ascontiguousarray(raw[:, start : start + sizes[name]])
        parts[name] = part.view(dtype).reshape(k, *shape)
        start += sizes[name]
    return parts


def _bits(value: NDArray) -> NDArray[np.uint32]:
    return np.ascontiguousarray(value).view(np.uint32)
