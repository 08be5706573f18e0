"""From a path that a user names to what lies there: a file or a folder, and nothing that waits."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cdc_flower.core.errors import UserError

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a file",
}
_SHOWN = 80


def existing(path: str | Path, key: str, wanted: Sequence[str] = ("a file", "a folder")) -> Path:
    """Finds a file or folder that a user names.

    Args:
        path: ``~/`` at its start is the home directory.
        key: Of the configuration, for errors.
        wanted: ``a file``, ``a folder``, or both.

    Raises:
        UserError: If there is nothing, or something else: a pipe and a device have no end.
    """
    text = str(path)
    try:
        place = Path(path).expanduser() if text.startswith("~/") else Path(path)
        kind = _kind_of(place)
    except FileNotFoundError as error:
        raise UserError(f"{key} must be an existing path, got {text!r}") from error
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{key} must be readable, got {text[:_SHOWN]!r} ({reason})") from error
    if kind not in wanted:
        raise UserError(f"{key} must be {' or '.join(wanted)}, got {kind}: {text!r}")
    return place


def first_bytes(path: Path, count: int = 16) -> bytes:
    """Reads the first bytes of a file.

    Raises:
        UserError: If it cannot be read, or is a pipe, a device, a socket or a folder.
    """
    try:
        if (kind := _kind_of(path)) != "a file":
            raise UserError(f"{path}: must be a file, got {kind}")
        with path.open("rb") as file:
            return file.read(count)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: must be readable ({reason})") from error


def _kind_of(path: Path) -> str:
    """Names what lies at a path, without opening it."""
    return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "neither")


def files_in(folder: Path, key: str) -> list[str]:
    """Lists the files in a folder, in order, without hidden ones.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if not is_hidden(e.name) and e.is_file())
    except OSError as error:
        raise UserError(
            f"{key} must be readable, got {str(folder)!r} ({error.strerror})"
        ) from error


def is_hidden(name: str) -> bool:
    """Tells whether a file is hidden, lies in a hidden folder, or was added by a Mac's archiver."""
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(".") and part != ".." for part in parts)
