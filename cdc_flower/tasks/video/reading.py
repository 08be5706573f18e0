"""Finds the files of annotations and of clips that a user names, and says what lies there."""

from collections.abc import Sequence
from pathlib import Path

from cdc_flower.core.errors import UserError
from cdc_flower.core.opening import texts
from cdc_flower.core.opening.damage import DamagedFile
from cdc_flower.core.opening.places import existing, files_in
from cdc_flower.tasks.video.problems import Problems

_SHOWN = 3  # names of each list in an error
_LONGEST_NAME = 100


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


def held(names: Sequence[str]) -> str:
    """Says what lies in a folder or archive."""
    if not names:
        return "holds nothing"
    shown = ", ".join(name[:_LONGEST_NAME] for name in names[:_SHOWN])
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
    if skipped and not there:
        return UserError(f"{rule}, but nothing is left to read in {path!r}{skipped}")
    return UserError(
        f"{rule}, got none in {path!r}, which {held(there)}; sought {sought}{more}{skipped}"
    )


def read_text(path: Path) -> str:
    """Reads a file of annotations, unpacked: UTF-8, or UTF-16 with its mark.

    Raises:
        DamagedFile: If it cannot be unpacked or decoded, is too large, or has no text.
    """
    text = texts.read_text(path)
    if not text.strip():
        raise DamagedFile(f"{path}: must hold annotations, got an empty file")
    return text
