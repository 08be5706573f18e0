"""Layout of a text file, as its reader is told."""

from dataclasses import dataclass

from cdc_flower.tasks.data.interactions import EventFileOptions


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

    @classmethod
    def of(cls, options: EventFileOptions) -> "ReaderOptions":
        """Takes the layout from the options of a file."""
        header = options.header if isinstance(options.header, bool) else None
        columns = tuple(options.columns or ())
        return cls(columns, options.fields_sep, header, options.on_error == "skip")
