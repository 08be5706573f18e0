"""Layout of a file, as its reader is told."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ReaderOptions:
    """Layout of one file, and what becomes of its malformed rows.

    Attributes:
        columns: Of a file with columns, in order: user, item, rating, time, kind, or ``_`` to
            ignore one; or role -> name in the header. None is by the names of the header.
        sep: Between two fields; None is any run of spaces and tabs; ``auto`` is to look.
        header: Whether the first row names the columns; None is to look at it and decide.
        skip_errors: Whether a malformed row is left out and counted. False raises at the first.
        encoding: Of the text.
        quote: Around a field that holds separators; None: quotes are letters.
        decimal: Between a number and its fraction.
        comment: Begins a line that is left out; None: only the first lines may be comments.
        kinds: Events of other kinds are left out; None keeps all.
        order: Of the rows where times are ignored: ``auto`` refuses newest first, ``rows`` believes
            them, ``reversed`` turns them.
        files: Patterns of the wanted member of an archive.
    """

    columns: tuple[str, ...] | Mapping[str, str] | None
    sep: str | None
    header: bool | None
    skip_errors: bool
    encoding: str = "utf-8"
    quote: str | None = '"'
    decimal: str = "."
    comment: str | None = None
    kinds: tuple[str, ...] | None = None
    order: str = "auto"
    files: tuple[str, ...] = ()
