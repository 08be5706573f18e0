"""Opens files that others made, plain, compressed or in archives, within limits.

Nothing that expands without end is held in memory, no pipe is waited for, and every damage is one
sentence with the name of the file.
"""

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

import pyarrow

from cdc_flower.core.errors import UserError

#: Most bytes of one file after it is unpacked.
MOST_BYTES = 256 * 2**20
#: A file or an archive may expand to so many times its bytes, or to ``FREE_BYTES`` if that is more.
MOST_TIMES = 100
FREE_BYTES = 64 * 2**20

_AT_ONCE = 2**20
_TAR_BLOCK = 512
_ENCRYPTED = 1  # the bit of a member of a zip archive
#: Errors of the libraries on bytes that are damaged.
_DAMAGE = (
    *(OSError, EOFError, ValueError, RuntimeError, ArithmeticError, LookupError, struct.error),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError),
)
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_OTHERS = {
    b"PAR1": "a Parquet file",
    b"\x89HDF": "an HDF5 file",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"SQLite format 3": "an SQLite database",
}


def unpacked_files(path: Path, place: str) -> Iterator[tuple[str, bytes | UserError]]:
    """Gives names and contents of a file, or of all in a folder or an archive.

    Hidden files, and what the archiving system of a Mac adds, are left out of folders and archives.
    A file that cannot be read gives its error in place of its content, so that others follow.

    Args:
        path: A file, a folder, or a tar or zip archive, compressed or not.
        place: Key of the path, for messages.

    Raises:
        UserError: If there is nothing, or a pipe or a device.
    """
    if not os.path.exists(path):  # no error where a name is too long, as of a Path
        raise UserError(f"{place}: there is no {path}")
    if os.path.isdir(path):
        for each in sorted(path.rglob("*")):
            name = each.relative_to(path).as_posix()
            if each.is_file() and not is_hidden(name):
                yield from _files_of(each, name, f"{name}/")
    elif os.path.isfile(path):
        yield from _files_of(path, path.name, "")
    else:
        raise UserError(f"{place}: {path} must be a file or a folder, got a pipe or a device")


def is_hidden(name: str) -> bool:
    """Tells whether a file is hidden, lies in a hidden folder, or was added by a Mac's archiver."""
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(".") and part != ".." for part in parts)


def text_of(content: bytes, name: str) -> str:
    """Decodes UTF-8, or UTF-16 that begins with its mark.

    Raises:
        UserError: If it is no text.
    """
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        text, reason = "\0", f"{error.reason} at byte {error.start:,}"
    else:
        reason = "a byte of it is zero"
    if "\0" not in text:
        return text
    kind = next((kind for magic, kind in _OTHERS.items() if content.startswith(magic)), reason)
    raise UserError(f"{name}: must be text in UTF-8, plain or compressed ({kind})")


class _Limited(io.RawIOBase):
    """Reads a stream up to a limit.

    Args:
        stream: To read.
        name: Of the file, for the message.
        num_bytes: Of the file as it is packed.
    """

    def __init__(self, stream: IO[bytes], name: str, num_bytes: int) -> None:
        self._stream, self._name, self._packed = stream, name, num_bytes
        self._left = max(FREE_BYTES, MOST_TIMES * num_bytes)

    @property
    def is_spent(self) -> bool:
        """Tells whether it has refused to read on."""
        return self._left < 0

    def reading(self, stream: IO[bytes]) -> "_Limited":
        """Goes on with another stream within what is left."""
        self._stream = stream
        return self

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Reads some bytes.

        Raises:
            UserError: If it expands to more than the limit.
        """
        data = self._stream.read(_AT_ONCE if size < 0 else size)
        self._left -= len(data)
        if self._left < 0:
            raise UserError(
                f"{self._name}: must expand to at most {MOST_TIMES} times its bytes, "
                f"or {FREE_BYTES:,} bytes, got more from {self._packed:,}"
            )
        return data


def _files_of(path: Path, name: str, prefix: str) -> Iterator[tuple[str, bytes | UserError]]:
    """Gives a file, or those in it if it is an archive."""
    try:
        if zipfile.is_zipfile(path):
            yield from _zip_members(path, name, prefix)
            return
        with path.open("rb") as file:
            size = path.stat().st_size
            kind = _compression(file.read(6))
            file.seek(0)
            stream = _Limited(_decoder(file, kind), name, size) if kind else file
            head = _read_up_to(stream, _TAR_BLOCK)
            if _is_tar(head):
                yield from _tar_members(stream, head, name, prefix)
                return
            if not kind and size > MOST_BYTES:
                raise _too_long(name)
            yield name, _whole(stream, name, head)
    except UserError as error:
        yield name, error
    except _DAMAGE as error:
        yield name, _damaged(name, error)


def _zip_members(path: Path, name: str, prefix: str) -> Iterator[tuple[str, bytes | UserError]]:
    with zipfile.ZipFile(path) as packed:
        budget = _Limited(io.BytesIO(), name, path.stat().st_size)
        for info in sorted(packed.infolist(), key=lambda info: info.filename):
            if not info.is_dir() and not is_hidden(info.filename):
                yield prefix + info.filename, _zip_member(packed, info, budget, name)
            if budget.is_spent:
                return


def _zip_member(
    packed: zipfile.ZipFile, info: zipfile.ZipInfo, budget: _Limited, name: str
) -> bytes | UserError:
    """Reads a file of a zip archive.

    Args:
        packed: The archive.
        info: Which file.
        budget: Of the bytes that the archive may expand to.
        name: Of the archive.
    """
    place = f"{info.filename} in {name}"
    if info.flag_bits & _ENCRYPTED:
        return UserError(f"{place}: must not be encrypted")
    try:
        with packed.open(info) as member:
            return _expanded(_whole(budget.reading(member), place), place)
    except UserError as error:
        return error
    except _DAMAGE as error:
        return _damaged(place, error)


def _tar_members(
    stream: IO[bytes] | io.RawIOBase, head: bytes, name: str, prefix: str
) -> Iterator[tuple[str, bytes | UserError]]:
    """Gives the files of a tar archive in its own order, in one pass; damage ends it."""
    with tarfile.open(fileobj=_Rejoined(head, stream), mode="r|") as archive:
        for member in archive:
            if not member.isfile() or is_hidden(member.name):
                continue
            place = f"{member.name} in {name}"
            if member.size > MOST_BYTES:
                yield prefix + member.name, _too_long(place)
            elif (content := archive.extractfile(member)) is not None:
                yield prefix + member.name, _expanded(content.read(), place)


class _Rejoined(io.RawIOBase):
    """Reads bytes that were read already, and then the stream that they came from."""

    def __init__(self, head: bytes, stream: IO[bytes] | io.RawIOBase) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int = -1) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._stream.read(size) or b""


def _expanded(content: bytes, name: str) -> bytes | UserError:
    """Decompresses a member of an archive, if it is compressed by itself."""
    kind = _compression(content[:6])
    if not kind:
        return content
    try:
        return _whole(_Limited(_decoder(io.BytesIO(content), kind), name, len(content)), name)
    except UserError as error:
        return error
    except _DAMAGE as error:
        return _damaged(name, error)


def _whole(stream: IO[bytes] | io.RawIOBase, name: str, head: bytes = b"") -> bytes:
    """Reads to the end.

    Raises:
        UserError: If it is longer than a file may be.
    """
    data = bytearray(head)
    while block := stream.read(_AT_ONCE):
        data += block
        if len(data) > MOST_BYTES:
            raise _too_long(name)
    return bytes(data)


def _read_up_to(stream: IO[bytes] | io.RawIOBase, size: int) -> bytes:
    data = b""
    while len(data) < size and (block := stream.read(size - len(data))):
        data += block
    return data


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head, tarfile.ENCODING, "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


def _compression(head: bytes) -> str:
    return next((kind for magic, kind in _COMPRESSED.items() if head.startswith(magic)), "")


def _decoder(file: IO[bytes], kind: str) -> IO[bytes]:
    if kind == "zstd":
        return cast(IO[bytes], pyarrow.CompressedInputStream(file, "zstd"))
    if kind == "gzip":
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    return cast(IO[bytes], bz2.BZ2File(file) if kind == "bzip2" else lzma.LZMAFile(file))


def _too_long(name: str) -> UserError:
    return UserError(f"{name}: a file must have at most {MOST_BYTES:,} bytes; cut it into several")


def _damaged(name: str, error: BaseException) -> UserError:
    words = str(error).partition("\n")[0][:80] or type(error).__name__
    return UserError(f"{name}: the file is damaged, or no whole file ({words})")
