"""From a path to text: finding the file, unpacking gzip, decoding."""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

from cdc_flower.core.errors import UserError

_GZIP = b"\x1f\x8b"


def find_file(path: str, names: Sequence[str]) -> Path:
    """Finds the file that ``data.path`` means.

    Args:
        path: A file, or a directory. A leading ``~`` is the home directory.
        names: What to look for in a directory, in this order, each first as it is and then with
            ``.gz``.

    Raises:
        UserError: If there is nothing at the path, or the directory holds none of the names.
    """
    place = Path(path).expanduser() if path.startswith("~/") else Path(path)
    try:
        if place.is_file():
            return place
        if not place.is_dir():
            raise UserError(f"data.path must be an existing file or directory, got {path!r}")
        if not names:
            raise UserError(
                f"data.path must be a file, because data.files is empty, got the directory {path!r}"
            )
        looked_for = [
            variant
            for name in names
            for variant in dict.fromkeys((name, name.removesuffix(".gz") + ".gz"))
        ]
        for name in looked_for:
            if (place / name).is_file():
                return place / name
    except OSError as error:
        raise UserError(f"data.path must be readable, got {path!r} ({error.strerror})") from error
    raise UserError(
        f"data.path must be a directory with one of {', '.join(looked_for)}, got {path!r}"
    )


def _unpack(raw: bytes, path: Path) -> bytes:
    if not raw.startswith(_GZIP):
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{path}: must be a whole gzip file, got {len(raw)} damaged or truncated bytes"
        ) from error


def read_text(path: Path, encoding: str) -> str:
    r"""Reads the text of a file, with ``\n`` at the end of lines.

    Gzip is known by its first bytes, not by the name.

    Raises:
        UserError: If the file cannot be read, unpacked or decoded, is empty, or is no text.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: must be readable ({error.strerror})") from error
    raw = _unpack(raw, path)
    try:
        text = raw.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        got = f"byte 0x{raw[error.start]:02x}"
        raise UserError(
            f"{path}:{line}: must be {encoding} text (data.encoding), got {got}"
        ) from error
    except (LookupError, ValueError) as error:
        raise UserError(
            f"data.encoding must be a text encoding that Python knows, got {encoding!r}"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{path}:{line}: must be text, got a zero byte, as binary files have")
    if not text.strip():
        raise UserError(f"{path}: must hold at least one event, got an empty file")
    return text.replace("\r\n", "\n")
