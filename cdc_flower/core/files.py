"""Writes files as a whole or not at all, so that no reader finds half of one.

What is written is on the disk when a function returns: also a machine that loses its power has it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from cdc_flower.core.errors import UserError

#: Ends the names of files that are being written; a leading dot hides them from readers.
HALF = ".part"
#: The key under which a sealed JSON object holds the hash of all others.
SEAL = "sha256"
_BYTES_AT_ONCE = 2**20


class CannotWrite(UserError):
    """Reports a disk that is full, a folder that is read-only, or a file that may not grow."""


def cannot_write(path: Path, error: OSError) -> CannotWrite:
    """Makes the error for a file or folder that the system refuses to write."""
    return CannotWrite(f"{path} cannot be written ({error.strerror or error})")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path to write to; when the block ends, what is there takes the place of the file.

    Raises:
        CannotWrite: If the system refuses. The file is then as it was.
    """
    half = path.with_name(f".{path.name}.{os.getpid()}{HALF}")
    try:
        yield half
        _to_disk(half)
        os.replace(half, path)
        _to_disk(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            half.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file in place of the one before; its folder is made.

    Raises:
        CannotWrite: As :func:`whole_file`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    with whole_file(path) as half:
        half.write_bytes(content)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes a folder with its files, which is there with all of them or not at all.

    Args:
        folder: New; the one that it lies in is made.
        files: Their content by name.

    Raises:
        CannotWrite: If the system refuses. There is then no such folder.
    """
    half = folder.with_name(f".{folder.name}.{os.getpid()}{HALF}")
    try:
        half.mkdir(parents=True)
        for name, content in files.items():
            (half / name).write_bytes(content)
            _to_disk(half / name)
        _to_disk(half)
        os.replace(half, folder)
        _to_disk(folder.parent)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(half, ignore_errors=True)


def remove_halves(folder: Path) -> None:
    """Removes what a process that was killed left half written in a folder."""
    for half in folder.glob(f".*{HALF}"):
        if half.is_dir():
            shutil.rmtree(half, ignore_errors=True)
        else:
            with suppress(OSError):
                half.unlink()


def _to_disk(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Hashes what is in a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BYTES_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def sealed(body: Mapping[str, object]) -> bytes:
    """Writes a JSON object with a hash of itself, by which damage is found."""
    return json.dumps({**body, SEAL: _seal_of(body)}, indent=1).encode()


def unsealed(path: Path) -> dict[str, object] | None:
    """Reads what :func:`sealed` wrote; None if the file is missing or damaged."""
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    seal = body.pop(SEAL, None)
    return body if seal == _seal_of(body) else None


def _seal_of(body: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
