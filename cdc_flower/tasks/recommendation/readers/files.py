"""From ``data.path`` to files and their texts."""

from collections.abc import Sequence
from pathlib import Path

from cdc_flower.core.errors import UserError
from cdc_flower.core.opening.compressed import held, opened
from cdc_flower.core.opening.places import existing, files_in
from cdc_flower.core.opening.texts import decoded

#: More text than this is not held at once; readers of lines hold a part of a file at a time.
MOST_TEXT_BYTES = 2 * 2**30
_MARK = "_"  # of files that are no parts, such as _SUCCESS
_PATTERN = "*?["


def find_file(path: str, names: Sequence[str]) -> Path:
    """Finds the one file that a path means.

    Args:
        path: A file, or a directory. ``~/`` at its start is the home directory.
        names: What to look for in a directory, in this order, each first as it is and then with
            ``.gz``.

    Raises:
        UserError: If there is nothing at the path, or the directory holds none of the names.
    """
    return find_files(path, names)[0]


def find_files(path: str, names: Sequence[str]) -> list[Path]:
    """Finds the files that ``data.path`` means, the parts of one table.

    Args:
        path: A file, or a directory. ``~/`` at its start is the home directory.
        names: As :func:`find_file`; the first that exists is read. A pattern such as
            ``part-*.csv`` is all that fit it. None: all files of the directory but hidden ones.

    Raises:
        UserError: As :func:`find_file`, or if files of several kinds lie in a directory of parts,
            or the path is a pipe or a device.
    """
    place = existing(path, "data.path")
    return _in_directory(place, path, names) if place.is_dir() else [place]


def _in_directory(place: Path, path: str, names: Sequence[str]) -> list[Path]:
    if not names:
        return _all_parts(place, path)
    looked_for = [
        variant
        for name in names
        for variant in dict.fromkeys((name, name.removesuffix(".gz") + ".gz"))
    ]
    for name in looked_for:
        if any(letter in name for letter in _PATTERN):
            found = [each for each in sorted(place.glob(name)) if each.is_file()]
            if found:
                return found
        elif (place / name).is_file():
            return [place / name]
    raise UserError(
        f"data.path must be a directory with one of {', '.join(looked_for)}, got {path!r}"
    )


def _all_parts(place: Path, path: str) -> list[Path]:
    """Lists all files of a directory that are not hidden; they must be of one kind."""
    names = [name for name in files_in(place, "data.path") if not name.startswith(_MARK)]
    files = [place / name for name in names]
    kinds = sorted({"".join(each.suffixes[-2:]).lower() for each in files})
    if not files or len(kinds) > 1:
        several = f"files of {len(kinds)} kinds ({', '.join(kinds[:4])})"
        got = several if files else "no file"
        raise UserError(
            "data.path must be a file, or a directory of parts of one kind, or data.files say "
            f"what to read in it, got {got} in the directory {path!r}"
        )
    return files


def check_encoding(encoding: str) -> None:
    """Refuses what is no encoding of text.

    Raises:
        UserError: If Python does not know it.
    """
    try:
        b"".decode(encoding)
        "".encode(encoding)
    except (LookupError, ValueError) as error:
        raise UserError(
            f"data.encoding must be a text encoding that Python knows, got {encoding!r}"
        ) from error


def read_text(path: Path, encoding: str, names: Sequence[str] = ()) -> str:
    r"""Reads the text of a whole file, with ``\n`` at the end of lines.

    Args:
        path: Of the file; compression is known by its first bytes.
        encoding: As Python names it.
        names: Patterns of the wanted member of a zip archive.

    Raises:
        UserError: If the file cannot be read, unpacked or decoded, is empty or too large, or is no
            text.
    """
    check_encoding(encoding)
    with opened(path, names) as file:
        text = decoded(held(file, path, MOST_TEXT_BYTES), path, encoding).removeprefix("\ufeff")
    if not text.strip():
        raise UserError(f"{path}: must hold at least one event, got an empty file")
    return text.replace("\r\n", "\n")
