"""Opens files for reading, unpacked where they are compressed, within limits.

Compression is known by the first bytes, not by the name. A small archive that expands beyond
reason is refused, and so is what is no file: a pipe or a device would never end.
"""

import bz2
import gzip
import io
import lzma
import stat
import zipfile
import zlib
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

import pyarrow as pa

from cdc_flower.core.errors import UserError

Result = TypeVar("Result")
#: An archive may expand to so many times its bytes; tables of events have some 5 to 50.
MOST_EXPANSION = 100
#: So many bytes more may come out of any archive.
FREE_BYTES = 64 * 2**20
#: First bytes -> kind of archive.
MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
}
_DAMAGE = (
    *(EOFError, OSError, zlib.error, lzma.LZMAError, pa.ArrowException),
    *(zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError),
)


def first_bytes(path: Path, count: int = 16) -> bytes:
    """Reads the first bytes of a regular file.

    Raises:
        UserError: If it cannot be read, or is a pipe, a device or a socket.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise UserError(f"{path}: must be readable ({error.strerror})") from error


def check_regular(path: Path) -> None:
    """Refuses what is no regular file.

    Raises:
        UserError: If it is a pipe, a device, a socket or a folder, or cannot be looked at.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: must be readable ({reason})") from error
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISFIFO, "pipe"), (stat.S_ISDIR, "folder"), (stat.S_ISSOCK, "socket"))
        kind = next((name for is_kind, name in kinds if is_kind(mode)), "device")
        raise UserError(f"{path}: must be a regular file, got a {kind}")


def archive_kind(path: Path) -> str:
    """Names the kind of archive that a file is; "" for one that is none.

    Raises:
        UserError: As :func:`first_bytes`.
    """
    head = first_bytes(path, 6)
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "")


class _Unpacked(io.RawIOBase):
    """Reads what comes out of an archive, says damage in one line, and stops at the limit."""

    def __init__(self, opened: Callable[[], BinaryIO], path: Path, kind: str) -> None:
        self._path, self._kind = path, kind
        self._num_packed = path.stat().st_size
        self._left = MOST_EXPANSION * self._num_packed + FREE_BYTES
        self._file = self._told(opened)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        data = self._told(lambda: self._file.read(len(buffer)))
        self._left -= len(data)
        if self._left < 0:
            raise UserError(
                f"{self._path}: a {self._kind} file of {self._num_packed:,} bytes must expand to "
                f"at most {MOST_EXPANSION} times that and {FREE_BYTES // 2**20} MiB, got more; "
                "unpack it first if it is what you want"
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed and hasattr(self, "_file"):
            self._file.close()
        super().close()

    def _told(self, work: Callable[[], Result]) -> Result:
        try:
            return work()
        except _DAMAGE as error:
            raise UserError(
                f"{self._path}: must be a whole {self._kind} file, got {self._num_packed} damaged "
                "or truncated bytes"
            ) from error


def open_bytes(path: Path, names: Sequence[str] = ()) -> BinaryIO:
    """Opens a file for reading, unpacked.

    Args:
        path: A regular file.
        names: Patterns of the member of a zip archive that is wanted; none: it has one alone.

    Raises:
        UserError: If the file cannot be read or is none, or an archive has no such member; also
            while reading, if an archive is damaged or expands beyond reason.
    """
    kind = archive_kind(path)
    if not kind:
        return path.open("rb")
    openers: dict[str, Callable[[], object]] = {
        "gzip": partial(gzip.GzipFile, path),
        "bzip2": partial(bz2.BZ2File, path),
        "xz": partial(lzma.LZMAFile, path),
        "zstd": lambda: pa.input_stream(str(path), compression="zstd"),
        "zip": lambda: _member(path, names),
    }
    raw = _Unpacked(cast(Callable[[], BinaryIO], openers[kind]), path, kind)
    return cast(BinaryIO, io.BufferedReader(raw, 2**20))


def _member(path: Path, names: Sequence[str]) -> object:
    """Opens the member of a zip archive that is wanted."""
    archive = zipfile.ZipFile(path)
    files = [each.filename for each in archive.infolist() if not each.is_dir()]
    shown = [each for each in files if not _is_hidden(each)]
    wanted = [
        each
        for name in names
        for each in shown
        if fnmatch(each.rsplit("/", 1)[-1], name) or fnmatch(each, name)
    ]
    found = list(dict.fromkeys(wanted)) if names else shown
    if (names and not found) or (len(found) != 1 and not names):
        listed = ", ".join(shown[:6]) + (", ..." if len(shown) > 6 else "")
        rule = f"one of {', '.join(names)}" if names else "one file, or data.files name which"
        raise UserError(f"{path}: a zip file must hold {rule}, got {listed or 'none'}")
    return archive.open(found[0])


def _is_hidden(name: str) -> bool:
    return name.startswith("__MACOSX/") or name.rsplit("/", 1)[-1].startswith(".")


def is_whole(path: Path) -> bool:
    """Tells whether an archive can be unpacked to its end; other files are whole."""
    if not archive_kind(path):
        return True
    try:
        with open_bytes(path) as file:
            while file.read(2**20):
                pass
    except UserError:
        return False
    return True
