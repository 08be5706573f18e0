"""Files of interactions: an event a line, or lists; see ``tasks/recommendation/readers``."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.options import option
from cdc_flower.tasks.data.registry import DataOptions, data

if TYPE_CHECKING:
    import pandas as pd

#: What a column may be; ``_`` ignores it.
COLUMNS = ("user", "item", "rating", "time", "_")
CUTS = ("calendar", "events", "last")


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
        True, doc="whether negatives avoid all that the device ever chooses"
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
    path: str = option(doc="a file, or a directory with one of the files")
    files: tuple[str, ...] | None = option(
        (), doc="names to look for in a directory, the first that exists is read"
    )
    format: str = option(doc="layout of the file: the name of a reader")
    columns: tuple[str, ...] | None = option(
        None, doc="of a delimited file, in order: user, item, rating, time, or _ to ignore one"
    )
    sep: str | None = option(None, doc="between two fields; null is any white space")
    header: str | bool = option(
        "auto", choices=("auto", True, False), doc="whether the first row names the columns"
    )
    encoding: str | None = option("utf-8", doc="of the text, as Python names it")
    on_error: str = option(
        "raise", choices=("raise", "skip"), doc="skip leaves malformed rows out and counts them"
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
        from cdc_flower.tasks.recommendation.readers import readers

        if readers.find(self.format, "data.format").facts.has_columns:
            _check_columns(self.columns or ())

    @property
    def fields_sep(self) -> str | None:
        r"""The separator, with ``\t`` for what a command line can hold of a tab."""
        return None if self.sep is None else self.sep.replace("\\t", "\t")


def _check_sep(sep: str | None) -> None:
    if sep is not None and (not sep or "\n" in sep or "\r" in sep):
        raise UserError(f"data.sep must be null or characters other than a line break, got {sep!r}")


def _check_columns(columns: Sequence[str]) -> None:
    text = f"[{', '.join(columns)}]"
    for name in columns:
        if name not in COLUMNS:
            raise unknown_name("column", name, COLUMNS, "data.columns")
        if name != "_" and columns.count(name) > 1:
            raise UserError(f"data.columns must name {name} at most once, got {text}")
    for name in ("user", "item"):
        if name not in columns:
            raise UserError(f"data.columns must name {name}, got {text}")
