"""Reads a text file as blocks of whole lines, so that memory follows a block and not the file."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.recommendation.readers.archives import open_bytes
from cdc_flower.tasks.recommendation.readers.files import check_encoding, decoded

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
    with open_bytes(path, names) as file:
        for raw in _whole_rows(_utf8(file, encoding, source), quote, source):
            data = raw.replace(b"\r\n", b"\n") if b"\r" in raw else raw
            if b"\0" in data:
                decoded(data, "utf-8", source, line)
            is_empty &= not data.strip()
            yield Block(data, line)
            line += data.count(b"\n")
    if is_empty:
        raise UserError(f"{source}: must hold at least one event, got an empty file")


def _utf8(file: BinaryIO, encoding: str, source: str) -> Iterator[bytes]:
    """Reads pieces of a file as UTF-8, without a byte order mark."""
    name = codecs.lookup(encoding).name
    decoder = codecs.getincrementaldecoder(encoding)()
    is_plain = not any(word in name for word in _STATEFUL)
    line, is_first, has_state = 1, True, False
    while True:
        raw = file.read(BLOCK_BYTES)
        if is_plain and not has_state and raw.isascii():
            piece = raw
        else:
            if is_first and is_plain:
                raw = raw.removeprefix(_BOM)
            try:
                piece = decoder.decode(raw, final=not raw).removeprefix("\ufeff").encode()
            except UnicodeError as error:
                decoded(raw, encoding, source, line)  # says the byte and its line
                got = f"{encoding} text that ends within a character ({error.__class__.__name__})"
                raise UserError(f"{source}: must be {encoding} text, got {got}") from error
            has_state = bool(decoder.getstate()[0])
        is_first = False
        line += piece.count(b"\n")
        yield piece
        if not raw and not has_state:
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
    if quote is None or not end or not data.count(quote.encode(), 0, end) % 2:
        return end
    numbers = np.frombuffer(data, np.uint8)
    breaks = np.flatnonzero(numbers[:end] == ord("\n"))
    quotes = np.flatnonzero(numbers[:end] == ord(quote))
    outside = breaks[np.searchsorted(quotes, breaks) % 2 == 0]
    return int(outside[-1]) + 1 if len(outside) else 0
