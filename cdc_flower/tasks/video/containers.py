"""Containers of video that say how long they are: whether a file goes as far as its own sizes.

FFmpeg reads a Matroska, WebM or GIF file that was cut off as a shorter one, without a word.
"""

import os
from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT, _CLUSTER = b"\x1a\x45\xdf\xa3", 0x18538067, 0x1F43B675
_GIF = (b"GIF87a", b"GIF89a")
#: Boxes at the top of MP4 and QuickTime files. What begins with another one is not judged.
_BOXES = (
    *(b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"mfra", b"sidx", b"ssix"),
    *(b"styp", b"uuid", b"meta", b"emsg", b"prft", b"pdin", b"pnot"),
)


class _Odd(Exception):
    """Ends a walk where no size is to be told."""


def is_cut_off(path: Path) -> bool:
    """Tells whether a file ends before its own sizes say; False where none is written in it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        file.seek(0)
        try:
            if start.startswith(_EBML):
                _walk_matroska(file, size)
            elif start[:6] in _GIF:
                _walk_gif(file)
            elif start[4:] in _BOXES:
                _walk_boxes(file, size)
        except EOFError:
            return True
        except _Odd:
            pass
    return False


def _walk_matroska(file: BinaryIO, size: int) -> None:
    """Goes over elements; a segment or cluster whose size was never written is entered."""
    while file.tell() < size:
        number, _ = _coded(file, has_marker=True)
        length, is_known = _coded(file, has_marker=False)
        if is_known:
            _skip(file, length, size)
            if number == _SEGMENT:
                return
        elif number not in (_SEGMENT, _CLUSTER):
            raise _Odd


def _coded(file: BinaryIO, has_marker: bool) -> tuple[int, bool]:
    """Reads a number of Matroska and whether it is known, which one of ones alone is not.

    Args:
        file: At the number. The zeros that it begins with say how many bytes follow the first.
        has_marker: Whether the one after these zeros belongs to the number.
    """
    first = _read(file, 1)[0]
    more = 8 - first.bit_length()
    if more > 7:
        raise _Odd
    value = int.from_bytes(_read(file, more), "big") | first << 8 * more
    bits = 7 * (more + 1)
    bare = value & ((1 << bits) - 1)
    return (value if has_marker else bare), bare != (1 << bits) - 1


def _walk_boxes(file: BinaryIO, size: int) -> None:
    """Goes over boxes at the top of an MP4 or QuickTime file."""
    while size - file.tell() >= 8:
        length, taken = int.from_bytes(_read(file, 4), "big"), 8
        kind = _read(file, 4)
        if length == 1:
            length, taken = int.from_bytes(_read(file, 8), "big"), 16
        if kind not in _BOXES or length < taken:
            raise _Odd
        _skip(file, length - taken, size)


def _walk_gif(file: BinaryIO) -> None:
    """Goes over blocks of a GIF up to its trailer."""
    _skip_colors(file, _read(file, 13)[10])
    while (block := _read(file, 1)) != b";":
        if block == b"!":
            _read(file, 1)
        elif block == b",":
            _skip_colors(file, _read(file, 9)[8])
            _read(file, 1)
        else:
            raise _Odd
        while length := _read(file, 1)[0]:
            _read(file, length)


def _skip_colors(file: BinaryIO, flags: int) -> None:
    """Goes over the table of colors that flags tell of."""
    if flags & 0x80:
        _read(file, 3 << (flags & 7) + 1)


def _read(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _skip(file: BinaryIO, count: int, size: int) -> None:
    if count > size - file.tell():
        raise EOFError
    file.seek(count, os.SEEK_CUR)
