"""Layout of a text file, as its reader is told."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReaderOptions:
    """Layout of one file, and what becomes of its malformed rows.

    Attributes:
        columns: Of a file with columns, in order: user, item, rating, time, or ``_`` to ignore one.
        sep: Between two fields; None is any run of white space.
        header: Whether the first row names the columns; None is to look at it and decide.
        skip_errors: Whether a malformed row is left out and counted. False raises at the first.
    """

    columns: tuple[str, ...]
    sep: str | None
    header: bool | None
    skip_errors: bool
