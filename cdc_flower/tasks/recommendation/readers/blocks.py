"""Reads a text file as blocks of whole lines, so that memory follows a block and not the file."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cdc_flower.core.errors import UserError
from cdc_flower.core.opening.compressed import opened
from cdc_flower.core.opening.damage import DamagedFile
from cdc_flower.core.opening.texts import decoded
from cdc_flower.tasks.recommendation.readers.files import check_encoding

#: Bytes of a block, but for a line that is longer.
BLOCK_BYTES = 8 * 2**20
#: A row, with quoted line breaks in it, is at most so long.
MOST_ROW_BYTES = 64 * 2**20
_BOM = b"\xef\xbb\xbf"
#: Encodings in which an ASCII byte may be a part of another character's escape.
_STATEFUL = ("utf-7", "hz", "iso2022", "escape", "idna", "punycode", "utf-16", "utf-32")


@dataclass(frozen=True)
class Block:
    r"""Holds whole rows of a text file.

    Attributes:
        data: UTF-8, with ``\n`` at the end of lines and no zero byte.
        line: Of the first row, counted from 1.
    """

    data: bytes
    line: int

    @property
    def lines(self) -> list[str]:
        """Its lines, without their ends."""
        lines = self.data.decode().split("\n")
        return lines[:-1] if not lines[-1] else lines


def read_blocks(
    path: Path, encoding: str, quote: str | None = None, names: Sequence[str] = ()
) -> Iterator[Block]:
    """Reads the blocks of a file.

    Args:
        path: Of the file; compression is known by its first bytes.
        encoding: As Python names it.
        quote: A line break between two of them ends no row; None: every line break does.
        names: Patterns of the wanted member of a zip archive.

    Raises:
        UserError: If the file cannot be read, unpacked or decoded, is empty or no text, or a row is
            too long.
    """
    check_encoding(encoding)
    source, line, is_empty = str(path), 1, True
    try:
        with opened(path, names) as file:
            for raw in _whole_rows(_utf8(file, encoding), quote, source):
                data = raw.replace(b"\r\n", b"\n") if b"\r" in raw else raw
                if b"\0" in data:
                    decoded(data, source, "utf-8", line)
                is_empty = is_empty and not data.strip()
                yield Block(data, line)
                line += data.count(b"\n")
    except _Undecodable as error:
        with opened(path, names) as file:
            before = file.read(error.offset)
            got = f"byte 0x{(file.read(1) or before[-1:])[0]:02x}"
        place = f"{source}:{before.count(bytes([10])) + 1}"
        raise DamagedFile(f"{place}: must be {encoding} text (data.encoding), got {got}") from error
    if is_empty:
        raise UserError(f"{source}: must hold at least one event, got an empty file")


class _Undecodable(Exception):
    """Tells at which byte of a file its text ends."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"byte {offset}")
        self.offset = offset


def _utf8(file: BinaryIO, encoding: str) -> Iterator[bytes]:
    """Reads pieces of a file as UTF-8, without a byte order mark; the last one is empty."""
    name = codecs.lookup(encoding).name
    decoder = codecs.getincrementaldecoder(encoding)()
    is_plain = not any(word in name for word in _STATEFUL)
    num_bytes = num_pending = 0
    is_first = True
    while True:
        raw = file.read(BLOCK_BYTES)
        piece, text = raw, ""
        if not (is_plain and not num_pending and raw.isascii()):
            bare = raw.removeprefix(_BOM) if is_first and is_plain else raw
            try:
                text = decoder.decode(bare, final=not raw)
            except UnicodeError as error:
                start = getattr(error, "start", 0) + len(raw) - len(bare)
                raise _Undecodable(num_bytes - num_pending + start) from error
            piece = (text.removeprefix("\ufeff") if is_first else text).encode()
            num_pending = len(decoder.getstate()[0])
        num_bytes += len(raw)
        is_first = False
        if piece or not raw:
            yield piece
        if not raw:
            return


def _whole_rows(pieces: Iterator[bytes], quote: str | None, source: str) -> Iterator[bytes]:
    """Joins and cuts pieces so that each ends with a row."""
    left, is_first, only_cr = b"", True, False
    for piece in pieces:
        if is_first:
            only_cr, is_first = b"\r" in piece[:-1] and b"\n" not in piece, False
        data = left + (piece.replace(b"\r", b"\n") if only_cr else piece)
        if not piece:
            break
        cut = _last_row_end(data, quote)
        if b"\0" in piece:
            cut = len(data)  # no text: who reads the block says so
        if not cut and len(data) > MOST_ROW_BYTES:
            cut = data.rfind(b"\n") + 1  # a quote that is never closed: its row is told as such
            if not cut:
                most = MOST_ROW_BYTES // 2**20
                raise UserError(f"{source}: a line must be at most {most} MiB long, got more")
        left = data[cut:]
        if cut:
            yield data[:cut]
    if left:
        yield left


def _last_row_end(data: bytes, quote: str | None) -> int:
    """Finds the place after the last line break that is not within quotes; 0: there is none."""
    end = data.rfind(b"\n") + 1
    mark = b"" if quote is None else quote.encode()
    if not mark or not end or mark not in data or not data.count(mark, 0, end) % 2:
        return end
    numbers = np.frombuffer(data, np.uint8)[:end]
    breaks = np.flatnonzero(numbers == ord("\n"))
    quotes = np.flatnonzero(numbers == mark[0])
    outside = breaks[np.searchsorted(quotes, breaks) % 2 == 0]
    return int(outside[-1]) + 1 if len(outside) else 0
