"""Decodes the text of files, and says where it ends to be text."""

from pathlib import Path

from cdc_flower.core.opening.compressed import held, opened
from cdc_flower.core.opening.damage import DamagedFile
from cdc_flower.core.opening.limits import MOST_BYTES

#: First bytes of files that are no text -> what they are.
_BINARY = {
    b"PAR1": "parquet",
    b"\x89HDF": "HDF5",
    b"SQLite format 3": "SQLite",
    b"\x93NUMPY": "NumPy",
    b"ARROW1": "Arrow",
    b"\xd0\xcf\x11\xe0": "Excel",
    b"%PDF": "PDF",
    b"\x89PNG": "a picture",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x80\x02": "pickle",
    b"\x80\x03": "pickle",
    b"\x80\x04": "pickle",
    b"\x80\x05": "pickle",
}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def binary_kind(head: bytes) -> str:
    """Names the kind of a binary file by its first bytes; "" for another."""
    return next((kind for magic, kind in _BINARY.items() if head.startswith(magic)), "")


def is_utf16(head: bytes) -> bool:
    """Tells whether a text begins with the mark of UTF-16."""
    return head.startswith(_UTF16)


def decoded(raw: bytes, place: object, encoding: str | None = None, line: int = 1) -> str:
    """Decodes text.

    Args:
        raw: Its bytes.
        place: Of the file, for errors.
        encoding: That Python knows; None is UTF-8, or UTF-16 with its mark.
        line: The first one of these bytes, counted from 1.

    Raises:
        DamagedFile: If a byte does not fit, or is zero.
    """
    told = encoding or ("utf-16" if is_utf16(raw) else "utf-8")
    name = "utf-8-sig" if encoding is None and told == "utf-8" else told
    key = "" if encoding is None else " (data.encoding)"
    kind = binary_kind(raw) if line == 1 else ""
    like = f"; it looks like {kind}" if kind else ""
    try:
        text = raw.decode(name)
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        got = f"byte 0x{raw[start]:02x}" if raw else "none"
        line += raw.count(b"\n", 0, start)
        raise DamagedFile(f"{place}:{line}: must be {told} text{key}, got {got}{like}") from error
    if "\0" in text:
        line += text.count("\n", 0, text.index("\0"))
        raise DamagedFile(
            f"{place}:{line}: must be text, got a zero byte, as binary files have{like}"
        )
    return text


def read_text(path: Path) -> str:
    """Reads a file of text, unpacked, as :func:`decoded` decodes it.

    Raises:
        DamagedFile: If it cannot be unpacked or decoded, or is too large.
    """
    with opened(path) as file:
        return decoded(held(file, path, MOST_BYTES), path)
