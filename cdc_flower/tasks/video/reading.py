"""From a path that a user names to files: what lies there, whether it can be read, its text."""

import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.video.problems import Damaged, Problems

#: Bytes of an annotation file, unpacked. The largest published one has 20 million.
MOST_TEXT_BYTES = 2**28
_GZIP = b"\x1f\x8b"
_AT_ONCE = 2**20
_SHOWN = 3  # names of each list in an error
_LONGEST_REASON = 100
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a file",
}


def kind_of(path: str, key: str) -> tuple[Path, str]:
    """Finds what lies at a path, such as ``a file``, ``a folder`` or ``a FIFO``.

    Args:
        path: A leading ``~`` is the home directory.
        key: Of the configuration, for errors.

    Raises:
        UserError: If there is nothing, or it cannot be looked at.
    """
    try:
        place = Path(path).expanduser()
        kind = stat.S_IFMT(place.stat().st_mode)
    except FileNotFoundError as error:
        raise UserError(f"{key} must be an existing path, got {path!r}") from error
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{key} must be readable, got {path[:80]!r} ({reason})") from error
    return place, _KINDS.get(kind, "neither")


def existing(path: str, key: str, wanted: Sequence[str]) -> Path:
    """Finds a file or folder that a user names.

    Args:
        path: A leading ``~`` is the home directory.
        key: Of the configuration, for errors.
        wanted: ``a file``, ``a folder``, or both.

    Raises:
        UserError: If there is nothing, or something else: a FIFO and a device have no end.
    """
    place, kind = kind_of(path, key)
    if kind not in wanted:
        raise UserError(f"{key} must be {' or '.join(wanted)}, got {kind}: {path!r}")
    return place


def find_file(path: str, names: Sequence[str], key: str) -> Path:
    """Finds the first of some files in a folder, each as it is and then with ``.gz``.

    Args:
        path: The folder, or the one file itself.
        names: To look for.
        key: Of the configuration, for errors.

    Raises:
        UserError: If none is there.
    """
    looked_for = [variant for name in names for variant in (name, f"{name}.gz")]
    place = existing(path, key, ("a folder", "a file"))
    if place.is_file():
        if place.name in looked_for:
            return place
        raise UserError(f"{key} must be a folder with one of {', '.join(looked_for)}, got {path!r}")
    there = files_in(place, key)
    for name in looked_for:
        if name in there:
            return place / name
    raise UserError(
        f"{key} must be a folder with one of {', '.join(looked_for)}, got {path!r}, "
        f"which {held(there)}"
    )


def files_in(folder: Path, key: str) -> list[str]:
    """Names of the files in a folder, in order, without hidden ones.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.name[0] != "." and e.is_file())
    except OSError as error:
        raise UserError(
            f"{key} must be readable, got {str(folder)!r} ({error.strerror})"
        ) from error


def held(names: Sequence[str]) -> str:
    """Says what lies in a folder or archive."""
    if not names:
        return "holds nothing"
    shown = ", ".join(name[:_LONGEST_REASON] for name in names[:_SHOWN])
    return f"holds {shown}" + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")


def nothing_found(
    rule: str, path: str, there: Sequence[str], names: Sequence[str], problems: Problems
) -> UserError:
    """Makes the error for a path where no video of the annotations is.

    Args:
        rule: What must be at the path, and under which names.
        path: As the user wrote it.
        there: Names of what lies there.
        names: Of the annotated videos.
        problems: What was left out is told, too.
    """
    sought = ", ".join(names[:_SHOWN]) or "no video"
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    skipped = "".join(f"; {words}" for words in problems.skipped())
    return UserError(
        f"{rule}, got none in {path!r}, which {held(there)}; sought {sought}{more}{skipped}"
    )


@contextmanager
def whole(file: Path, kind: str) -> Iterator[None]:
    """Tells whatever a library raises on the bytes of a file as damage of that file.

    Libraries raise errors of nearly every class on bytes that nobody wrote for them.

    Args:
        file: That is read in the block.
        kind: What it must be, such as ``feature file``.

    Raises:
        Damaged: In place of any other error than a :class:`UserError`.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise Damaged(f"{file}: must be a whole {kind} ({reason_of(error)})") from error


def reason_of(error: Exception) -> str:
    """Puts an error of a library in a line, without the path that stands in it."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:_LONGEST_REASON]


def read_text(path: Path) -> str:
    """Reads a file of UTF-8 text, gzip too, which is known by its first bytes.

    Raises:
        Damaged: If it cannot be read, unpacked or decoded, is too large, or has no text.
    """
    with whole(path, "annotation file"):
        raw = _bytes(path)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        got = f"byte 0x{raw[error.start]:02x}"
        raise Damaged(f"{path}:{line}: must be UTF-8 text, got {got}") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise Damaged(f"{path}:{line}: must be text, got a zero byte, as binary files have")
    if not text.strip():
        raise Damaged(f"{path}: must hold annotations, got an empty file")
    return text


def _bytes(path: Path) -> bytes:
    """Reads, and unpacks gzip, up to the limit."""
    with path.open("rb") as file:
        raw = file.read(MOST_TEXT_BYTES + 1)
    if raw.startswith(_GZIP):
        raw = _unpacked(path, raw)
    if len(raw) > MOST_TEXT_BYTES:
        raise Damaged(f"{path}: must have at most {MOST_TEXT_BYTES:,} bytes of text")
    return raw


def _unpacked(path: Path, raw: bytes) -> bytes:
    """Unpacks the members of a gzip file, no further than the limit."""
    parts: list[bytes] = []
    room = MOST_TEXT_BYTES + 1
    while raw and room > 0:
        member = zlib.decompressobj(wbits=31)
        while room > 0 and not member.eof:
            part = member.decompress(raw, min(room, _AT_ONCE))
            raw = member.unconsumed_tail
            if not part and not member.eof and not raw:
                raise Damaged(f"{path}: must be a whole gzip file, got a truncated one")
            parts.append(part)
            room -= len(part)
        raw = member.unused_data.lstrip(b"\0") if member.eof else b""
    return b"".join(parts)
