"""Files of interactions: an event a line, or lists; see ``tasks/recommendation/readers``."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.options import option
from cdc_flower.tasks.data.registry import DataOptions, data

if TYPE_CHECKING:
    import pandas as pd

#: What a column may be; ``_`` ignores it.
COLUMNS = ("user", "item", "rating", "time", "kind", "_")
CUTS = ("calendar", "events", "last")
#: Of a format and a separator: to look at the file.
AUTO = "auto"
UNITS = (AUTO, "s", "ms", "us", "ns")
_TIME_UNIT = (
    "of times that are numbers; auto takes the median: below 1e11 s, 1e14 ms, 1e17 us, else ns"
)


@dataclass(frozen=True, kw_only=True)
class CutOptions(DataOptions):
    """Options of cutting events into a historical part and segments.

    Raises:
        UserError: If a value is out of its range.
    """

    cut: str = option(
        "events",
        choices=CUTS,
        doc="by each device's own events, at real times, or before the last event of each",
    )
    historical_fraction: float = option(
        0.5, above=0, below=1, doc="share of the events before the stream; unused by last"
    )
    exclude_seen: bool = option(
        True,
        doc="whether negatives avoid all that the device ever chooses; false where devices choose "
        "an item again, or negatives would give old choices away",
    )


@dataclass(frozen=True, kw_only=True)
class FrameOptions(CutOptions):
    """Options of a DataFrame of events.

    Raises:
        UserError: If a value is out of its range.
    """

    name: str = option("frame", doc="of the data")
    min_user_events: int = option(
        1, least=1, neutral=1, doc="devices with fewer events are left out"
    )
    min_item_events: int = option(1, least=1, neutral=1, doc="items with fewer are left out")
    time_unit: str = option(AUTO, choices=UNITS, doc=_TIME_UNIT)


@dataclass(frozen=True, kw_only=True)
class FrameData(FrameOptions, ABC):
    """Base of data that are a DataFrame with the columns user, item and time.

    A class of your own has a method ``frame``; see
    :mod:`cdc_flower.tasks.recommendation.frames` for what the columns may hold.
    """

    gives: ClassVar[str] = "items"
    builder: ClassVar[str] = "cdc_flower.tasks.recommendation.frames:stream_of"

    @abstractmethod
    def frame(self, seed: int) -> "pd.DataFrame":
        """Makes or reads the frame.

        Args:
            seed: Of the run, for what is drawn.
        """


@data.register("interactions", gives="items", key="path")
@dataclass(frozen=True, kw_only=True)
class EventFileOptions(CutOptions):
    """Options of reading a file of events.

    Raises:
        UserError: If a value is out of its range.
    """

    builder: ClassVar[str] = "cdc_flower.tasks.recommendation.event_files:stream_of"
    name: str = option("interactions", doc="of the data")
    path: str = option(doc="a file, a directory of parts, or one with one of the files")
    files: tuple[str, ...] | None = option(
        (),
        doc="names to look for in a directory or an archive, the first that exists is read; a "
        "pattern such as part-*.csv is all that fit; empty is every file, the parts of one table",
    )
    format: str = option(AUTO, doc="layout of the file: the name of a reader; auto is to look")
    columns: tuple[str, ...] | Mapping[str, str] | None = option(
        None,
        doc="in order: user, item, rating, time, kind, or _ to ignore one; or a mapping such as "
        "{user: NAME, item: NAME}; null is by the names of the header",
    )
    sep: str | None = option(
        None, doc="between two fields; null is any run of spaces and tabs; auto is to look"
    )
    header: str | bool = option(
        AUTO, choices=(AUTO, True, False), doc="whether the first row names the columns"
    )
    encoding: str | None = option("utf-8", doc="of the text, as Python names it")
    quote: str | None = option(
        '"', doc="around fields, as in RFC 4180; null reads quotes as letters"
    )
    decimal: str = option(".", choices=(".", ","), doc="between a number and its fraction")
    comment: str | None = option(
        None, doc="begins lines that are left out; null: only first lines with # or % are"
    )
    kinds: tuple[str, ...] | None = option(
        None, doc="of the column kind: events of other kinds are left out; null keeps all"
    )
    time_unit: str = option(AUTO, choices=UNITS, doc=_TIME_UNIT)
    order: str = option(
        AUTO,
        choices=(AUTO, "rows", "reversed"),
        doc="of the rows where no time is read: auto refuses rows that an ignored time shows to "
        "come newest first, rows believes them, reversed turns them",
    )
    on_error: str = option(
        "raise",
        choices=("raise", "skip"),
        doc="skip leaves malformed rows and damaged parts out and counts them",
    )
    min_user_events: int = option(
        1, least=1, neutral=1, doc="devices with fewer events are left out"
    )
    min_item_events: int = option(1, least=1, neutral=1, doc="items with fewer are left out")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.path.strip() or self.path == "???":
            raise UserError(
                f"data.path must name a file or a directory (data.path=DIR), got {self.path!r}"
            )
        _check_sep(self.sep)
        for key, value in (("quote", self.quote), ("comment", self.comment)):
            if value is not None and (len(value) != 1 or not value.isprintable()):
                raise UserError(f"data.{key} must be null or one character, got {value!r}")
        if self.kinds is not None and not self.kinds:
            raise UserError("data.kinds must be null or name a kind of event, got []")
        if self.format != AUTO:
            from cdc_flower.tasks.recommendation.readers import readers

            readers.find(self.format, "data.format")
        if self.columns is not None:
            _check_columns(self.columns)

    @property
    def fields_sep(self) -> str | None:
        r"""The separator, with ``\t`` for what a command line can hold of a tab."""
        return None if self.sep is None else self.sep.replace("\\t", "\t")


def _check_sep(sep: str | None) -> None:
    if sep is not None and (not sep or "\n" in sep or "\r" in sep):
        raise UserError(f"data.sep must be null or characters other than a line break, got {sep!r}")


def _check_columns(columns: Sequence[str] | Mapping[str, str]) -> None:
    is_named = isinstance(columns, Mapping)
    names = [str(name) for name in columns]
    text = f"{{{', '.join(names)}}}" if is_named else f"[{', '.join(names)}]"
    for name in names:
        if name not in COLUMNS or (is_named and name == "_"):
            raise unknown_name("column", name, COLUMNS, "data.columns")
        if name != "_" and names.count(name) > 1:
            raise UserError(f"data.columns must name {name} at most once, got {text}")
    for name in ("user", "item"):
        if name not in columns:
            raise UserError(f"data.columns must name {name}, got {text}")
    if isinstance(columns, Mapping):
        for role, name in columns.items():
            if not isinstance(name, str):
                raise UserError(f"data.columns.{role} must be the name of a column, got {name!r}")
