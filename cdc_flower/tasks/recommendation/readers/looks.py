"""Tells what a file looks like, to choose its reader or to say so in an error."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from cdc_flower.core.errors import UserError
from cdc_flower.core.opening.compressed import opened
from cdc_flower.core.opening.places import first_bytes
from cdc_flower.core.opening.texts import binary_kind, is_utf16

_UTF16 = "UTF-16 text (data.encoding=utf-16)"
_BLOCK = re.compile(r"\s*\d+:\s*\n\s*\d+,[^\n]*,")
#: Words for formats, in errors.
WORDS = {
    "json_lines": "JSON lines",
    "python_lines": "lines of Python dictionaries",
    "json_lists": "a JSON object of lists",
    "netflix": "Netflix's blocks of ratings",
    "parquet": "parquet",
}


def format_of(path: Path, names: Sequence[str] = ()) -> str:
    """Names the reader that fits a file by its first bytes, unpacked.

    Args:
        path: Of the file.
        names: Patterns of the wanted member of a zip archive.

    Raises:
        UserError: If it cannot be read, or is of a kind that no reader reads.
    """
    head = first_bytes(path)
    if not binary_kind(head):
        with opened(path, names) as file:
            head = file.read(2**16)
    kind = binary_kind(head)
    if kind == "parquet":
        return kind
    if kind:
        raise UserError(
            f"{path}: must be a table of events that a reader knows, got what looks like {kind}"
        )
    text = head.decode("utf-8", errors="replace").removeprefix("\ufeff")
    if re.match(r"\s*\[\s*[\[{]", text):
        raise UserError(
            f"{path}: must be a table of events that a reader knows, got what looks like a JSON "
            "list; an object a line is read"
        )
    return _format_of_text(text)


def _format_of_text(text: str) -> str:
    """Names the reader that fits a text by its beginning."""
    start = text.lstrip()
    if _BLOCK.match(text):
        return "netflix"
    if not start.startswith("{"):
        return "delimited"
    line = start.partition("\n")[0].strip()
    if re.match(r"\{\s*u?'", line):
        return "python_lines"
    if re.match(r'\{\s*"[^"]*"\s*:\s*\[', start) and not _is_flat(line):
        return "json_lists"
    return "json_lines"


def _is_flat(line: str) -> bool:
    """Tells whether a line is an object on its own that has more than lists in it."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and not all(isinstance(each, list) for each in found.values())


def hint(path: Path, format: str, names: Sequence[str] = ()) -> str:
    """Says what a file looks like if it is not what it is read as; "" otherwise.

    Args:
        path: Of the file.
        format: The reader that failed.
        names: Patterns of the wanted member of a zip archive.
    """
    try:
        if is_utf16(first_bytes(path)):
            return f"; it looks like {_UTF16}"
        likely = format_of(path, names)
    except UserError as error:
        like = str(error).rpartition(", got what ")[2]
        return f"; it {like}" if like.startswith("looks like") else ""
    return (
        f"; it looks like {WORDS[likely]} (data.format={likely})"
        if likely in WORDS and likely != format
        else ""
    )
