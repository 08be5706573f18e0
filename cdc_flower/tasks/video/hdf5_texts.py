"""Texts of any length of an HDF5 dataset, read from the file itself.

The HDF5 library believes the lengths that stand in a file, which a damaged one makes gigabytes, and
goes round in a damaged heap for ever. Layout: HDF5 File Format Specification, III.E, global heap.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cdc_flower.tasks.video.one_array import check_size

if TYPE_CHECKING:
    import h5py

#: Bytes of all texts of a dataset, and of a heap that they lie in.
MOST_BYTES = 2**26
_LENGTH = _INDEX = 4  # bytes at the start and at the end of a reference
_HEAD = 16  # bytes before the objects of a heap, and before the content of each
_ALIGNED = 8


def texts_of(file: Path, dataset: h5py.Dataset) -> list[bytes] | None:
    """Reads texts; None where the references to them do not lie together in the file.

    Args:
        file: That is open.
        dataset: Of texts of any length.

    Raises:
        ValueError: If the file does not hold them.
    """
    start = dataset.id.get_offset()
    count = check_size(dataset.shape, 1, MOST_BYTES)
    if start is None or not count:
        return None
    width = dataset.id.get_storage_size() // count
    if not _LENGTH + _INDEX < width <= _LENGTH + 8 + _INDEX:
        raise ValueError(f"references of {width} bytes to texts")
    heaps: dict[int, dict[int, bytes]] = {}
    held = 0
    texts = []
    with file.open("rb") as raw:
        raw.seek(start)
        references = _read(raw, width * count)
        for at in range(0, len(references), width):
            length = _number(references[at : at + _LENGTH])
            place = _number(references[at + _LENGTH : at + width - _INDEX])
            index = _number(references[at + width - _INDEX : at + width])
            if place not in heaps:
                heaps[place] = dict(_heap(raw, place + dataset.file.userblock_size))
                held += sum(map(len, heaps[place].values()))
                check_size((held,), 1, MOST_BYTES)
            text = heaps[place].get(index, b"")
            if len(text) < length:
                raise ValueError(f"a text of {length:,} bytes where there are {len(text):,}")
            texts.append(text[:length])
    return texts


def _heap(file: BinaryIO, place: int) -> Iterator[tuple[int, bytes]]:
    """Goes over the objects of a heap by number. Each takes room, so that there is an end."""
    file.seek(place)
    head = _read(file, _HEAD)
    if head[:4] != b"GCOL":
        raise ValueError("no heap of texts")
    left = check_size((_number(head[8:]),), 1, MOST_BYTES) - _HEAD
    while left >= _HEAD:
        object_head = _read(file, _HEAD)
        index = _number(object_head[:2])
        length = _number(object_head[8:])
        left -= _HEAD + length
        if index == 0 or left < 0:
            return
        yield index, _read(file, length)
        gap = -length % _ALIGNED
        _read(file, gap)
        left -= gap


def _read(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise ValueError(f"{len(data):,} of {count:,} bytes")
    return data


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")
