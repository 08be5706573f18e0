"""Reads all files of a folder, or of a zip or tar archive, compressed or not, within limits."""

import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from cdc_flower.core.errors import UserError
from cdc_flower.core.opening.compressed import compression, held, member, packing, unpacking
from cdc_flower.core.opening.damage import whole
from cdc_flower.core.opening.limits import MOST_BYTES, Budget, too_long
from cdc_flower.core.opening.places import existing, is_hidden

_TAR_BLOCK = 512
#: Name and content of a file, or the error that stands in its place.
Named = tuple[str, bytes | UserError]


def unpacked_files(path: Path, key: str) -> Iterator[Named]:
    """Gives names and contents of a file, or of all in a folder or an archive.

    Hidden files, and what the archiving system of a Mac adds, are left out of folders and archives.
    A file that cannot be read gives its error in place of its content, so that others follow.

    Args:
        path: A file, a folder, or a tar or zip archive, compressed or not.
        key: Of the configuration, for errors.

    Raises:
        UserError: If there is nothing, or a pipe or a device.
    """
    place = existing(path, key)
    if not place.is_dir():
        yield from _files_of(place, place.name, "")
        return
    for each in sorted(place.rglob("*")):
        name = each.relative_to(place).as_posix()
        if each.is_file() and not is_hidden(name):
            yield from _files_of(each, name, f"{name}/")


def _files_of(path: Path, name: str, prefix: str) -> Iterator[Named]:
    """Gives a file, or those in it if it is an archive.

    Args:
        path: Of the file.
        name: Of it, for errors.
        prefix: Of the names of files in it.
    """
    try:
        with whole(name, "file"):
            kind = packing(path)
            budget = Budget(name, path.stat().st_size)
        if kind == "zip":
            yield from _zip_members(path, budget, prefix)
            return
        with whole(name, "file"):
            file: BinaryIO = path.open("rb")
        with file:
            stream = unpacking(file, name, kind, budget) if kind else file
            if _is_tar(cast(io.BufferedReader, stream).peek(_TAR_BLOCK)[:_TAR_BLOCK]):
                yield from _tar_members(stream, budget, prefix)
            elif not kind and budget.num_packed > MOST_BYTES:
                raise too_long(name)
            else:
                yield name, held(stream, name)
    except UserError as error:
        yield name, error


def _zip_members(path: Path, budget: Budget, prefix: str) -> Iterator[Named]:
    """Gives the files of a zip archive by name, up to its limit.

    Args:
        path: Of the archive.
        budget: Of it.
        prefix: Of the names of its files.
    """
    with whole(budget.name, "zip file"):
        archive = zipfile.ZipFile(path)
    with archive:
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            if not info.is_dir() and not is_hidden(info.filename):
                yield prefix + info.filename, _zip_member(archive, info, budget)
            if budget.is_spent:
                return


def _zip_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget
) -> bytes | UserError:
    """Reads a file of a zip archive, or says why it cannot be read.

    Args:
        archive: That is open.
        info: Which file.
        budget: Of the archive.
    """
    place = f"{info.filename} in {budget.name}"
    try:
        with member(archive, info, place, budget) as stream:
            return _expanded(held(stream, place), place, budget)
    except UserError as error:
        return error


def _tar_members(stream: BinaryIO, budget: Budget, prefix: str) -> Iterator[Named]:
    """Gives the files of a tar archive in its own order, in one pass; damage ends it.

    Args:
        stream: Of the archive, unpacked.
        budget: Of the file that it lies in.
        prefix: Of the names of its files.

    Raises:
        UserError: If it is not whole, or has more in it than it may.
    """
    with whole(budget.name, "tar file"):
        archive = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115
    with archive:
        while True:
            with whole(budget.name, "tar file"):
                info = archive.next()
            if info is None:
                return
            if info.isfile() and not is_hidden(info.name):
                yield prefix + info.name, _tar_member(archive, info, budget)


def _tar_member(
    archive: tarfile.TarFile, info: tarfile.TarInfo, budget: Budget
) -> bytes | UserError:
    """Reads a file of a tar archive, or says that it is too long.

    Args:
        archive: That is read in one pass.
        info: Of the file that comes now.
        budget: Of the file that the archive lies in.

    Raises:
        UserError: If the archive is not whole, or has more in it than it may.
    """
    place = f"{info.name} in {budget.name}"
    if info.size > MOST_BYTES:
        return too_long(place)
    if info.issparse():  # its zeros are not in the archive
        budget.take(info.size)
    with whole(budget.name, "tar file"):
        file = archive.extractfile(info)
        content = b"" if file is None else file.read()
    return _expanded(content, place, budget)


def _expanded(content: bytes, place: str, budget: Budget) -> bytes | UserError:
    """Decompresses a file of an archive, if it is compressed by itself.

    Args:
        content: Of the file.
        place: Of it, for errors.
        budget: Of the archive.
    """
    kind = compression(content)
    if not kind:
        return content
    try:
        return held(unpacking(io.BytesIO(content), place, kind, budget), place)
    except UserError as error:
        return error


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head, tarfile.ENCODING, "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True
