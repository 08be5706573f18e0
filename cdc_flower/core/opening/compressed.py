"""Opens compressed files and members of zip archives as streams of what is in them.

Compression is known by the first bytes, not by the name.
"""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from cdc_flower.core.errors import UserError
from cdc_flower.core.opening.damage import DamagedFile, whole
from cdc_flower.core.opening.limits import MOST_BYTES, Budget, too_long
from cdc_flower.core.opening.places import first_bytes, is_hidden

AT_ONCE = 2**20
#: First bytes of a compressed file -> its kind.
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_DECODERS: dict[str, Callable[[BinaryIO], object]] = {
    "gzip": lambda file: gzip.GzipFile(fileobj=file),
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "zstd": lambda file: pa.CompressedInputStream(file, "zstd"),
}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_ENCRYPTED = 1  # the bit of a member of a zip archive
_SHOWN = 6


def compression(head: bytes) -> str:
    """Names the kind of compression by the first bytes of a file; "" for none."""
    return next((kind for magic, kind in _COMPRESSED.items() if head.startswith(magic)), "")


def packing(path: Path) -> str:
    """Names how a file is packed: ``gzip``, ``bzip2``, ``xz``, ``zstd``, ``zip``, or "".

    Raises:
        UserError: As :func:`first_bytes`.
    """
    head = first_bytes(path)
    if kind := compression(head):
        return kind
    return "zip" if head.startswith(_ZIP) or zipfile.is_zipfile(path) else ""


class Unpacked(io.RawIOBase):
    """Reads what comes out of a packed file, says damage in a line, and stops at the limit.

    Args:
        file: A decoder, or a member of an archive.
        name: Of the file, for errors.
        kind: As :func:`packing` names it.
        budget: Of the whole file.
        beneath: Is closed with it; None: nothing.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: object,
        kind: str,
        budget: Budget,
        beneath: BinaryIO | zipfile.ZipFile | None = None,
    ) -> None:
        self._file, self._name, self._kind = file, name, kind
        self._budget, self._beneath = budget, beneath

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        with whole(self._name, f"{self._kind} file"):
            data = self._file.read(len(buffer))
        self._budget.take(len(data))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
            if self._beneath is not None:
                self._beneath.close()
        super().close()


def unpacking(file: BinaryIO, name: object, kind: str, budget: Budget) -> BinaryIO:
    """Opens a stream of what is in a compressed one.

    Args:
        file: The compressed one, which is closed with it.
        name: Of it, for errors.
        kind: Of :func:`compression`.
        budget: Of the file that it lies in.

    Raises:
        DamagedFile: Also while reading, if it is not whole or expands to more than it may.
    """
    with whole(name, f"{kind} file"):
        decoder = cast(BinaryIO, _DECODERS[kind](file))
    return _buffered(Unpacked(decoder, name, kind, budget, file))


def member(
    archive: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    place: object,
    budget: Budget,
    closes: bool = False,
) -> BinaryIO:
    """Opens a file of a zip archive.

    Args:
        archive: That is open.
        info: Which file.
        place: Of the file, for errors.
        budget: Of the archive.
        closes: Whether the archive is closed with the file.

    Raises:
        DamagedFile: Also while reading, as :func:`unpacking`, or if it is encrypted.
    """
    if info.flag_bits & _ENCRYPTED:
        raise DamagedFile(f"{place}: must not be encrypted")
    with whole(place, "zip file"):
        file = cast(BinaryIO, archive.open(info))
    return _buffered(Unpacked(file, place, "zip", budget, archive if closes else None))


def opened(path: Path, names: Sequence[str] = (), key: str = "data.files") -> BinaryIO:
    """Opens a file for reading, unpacked.

    Args:
        path: Of the file.
        names: Patterns of the wanted member of a zip archive; none: it has one alone.
        key: Of the configuration, which says these names.

    Raises:
        UserError: If the file cannot be read or is none, or an archive has no such member.
        DamagedFile: Also while reading, as :func:`unpacking`.
    """
    kind = packing(path)
    if not kind:
        return path.open("rb")
    budget = Budget(path, path.stat().st_size)
    if kind != "zip":
        return unpacking(path.open("rb"), path, kind, budget)
    with whole(path, "zip file"):
        archive = zipfile.ZipFile(path)
        return member(archive, _wanted(archive, path, names, key), path, budget, closes=True)


def _wanted(
    archive: zipfile.ZipFile, path: Path, names: Sequence[str], key: str
) -> zipfile.ZipInfo:
    """Chooses the file of a zip archive that is wanted.

    Args:
        archive: That is open.
        path: Of it, for errors.
        names: Patterns of names, with folders or without; none: it must have one file alone.
        key: Of the configuration, which says these names.
    """
    files = [each for each in archive.infolist() if not each.is_dir()]
    shown = [each for each in files if not is_hidden(each.filename)]
    wanted = [each for name in names for each in shown if _fits(each.filename, name)]
    if wanted:
        return wanted[0]
    if len(shown) == 1 and not names:
        return shown[0]
    listed = ", ".join(each.filename for each in shown[:_SHOWN])
    got = f"{listed}, ..." if len(shown) > _SHOWN else listed
    rule = f"one of {', '.join(names)}" if names else f"one file, or {key} name which"
    raise UserError(f"{path}: a zip file must hold {rule}, got {got or 'none'}")


def _fits(name: str, pattern: str) -> bool:
    return fnmatch(name.rsplit("/", 1)[-1], pattern) or fnmatch(name, pattern)


def check_whole(path: Path, names: Sequence[str] = ()) -> None:
    """Unpacks a packed file to its end; other files are whole.

    Raises:
        UserError: As :func:`opened`.
        DamagedFile: If it is not whole, or expands to more than it may.
    """
    if packing(path):
        with opened(path, names) as file:
            while file.read(AT_ONCE):
                pass


def held(stream: BinaryIO, name: object, most: int = MOST_BYTES) -> bytes:
    """Reads a stream to its end.

    Args:
        stream: Of bytes.
        name: Of the file, for errors.
        most: Bytes that are held.

    Raises:
        DamagedFile: If it is longer.
    """
    data = bytearray()
    while block := stream.read(AT_ONCE):
        data += block
        if len(data) > most:
            raise too_long(name, most)
    return bytes(data)


def _buffered(raw: Unpacked) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(raw, AT_ONCE))
