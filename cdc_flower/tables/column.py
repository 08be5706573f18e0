"""Describes a column of the results table, and keeps columns in order by name."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cdc_flower.core.errors import UserError, unknown_name


class Type(StrEnum):
    """Names the type of values: text, or a NumPy type."""

    TEXT = "text"
    BOOL = "bool"
    INT32 = "int32"
    INT64 = "int64"
    FLOAT64 = "float64"


class Scope(StrEnum):
    """Tells what a value belongs to; it is repeated on all rows of that."""

    RUN = "run and strategy"
    SEGMENT = "segment"
    DEVICE_SEGMENT = "device and segment"
    METRIC = "metric"


class Pool(StrEnum):
    """Tells how values of many devices and segments become one."""

    NONE = "not pooled"
    TOTAL = "sum"
    PER_DEVICE = "sum over segments, mean over devices"
    MEAN = "mean over devices and segments"
    MEDIAN = "median over devices and segments"
    RATIO = "sum of value_sum / sum of value_count"


class Subject(StrEnum):
    """Groups columns by subject, in the order of the summary and of the documentation."""

    IDENTITY = "Run, device and segment"
    STREAM = "What the stream did"
    VALUES = "Metrics"
    TRAFFIC = "Bytes"
    WAITING = "Waiting"
    LABELS = "Labels"
    COMPUTING = "Computing"
    MESSAGES = "Messages"
    OTHER = "Other"


#: Columns of a device and segment ``[n]`` by name -> values ``[n]``.
MadeOf = Callable[[Mapping[str, NDArray]], ArrayLike]


@dataclass(frozen=True)
class Column:
    """Describes one column of the results table.

    Args:
        name: A Python identifier with its unit as a suffix, such as ``latency_s``.
        doc: One or two sentences for the documentation.
        type: Of its values.
        unit: Such as ``byte`` or ``s``; empty for a pure number or a name.
        scope: What a value belongs to.
        subject: What it is about.
        neutral: Its value where nothing happened, used where none is given and for files that were
            written before the column was; None: it must always be given.
        pooled: How many values become one.
        is_key: Whether it tells one device, segment and strategy of a run from another.
        is_counted: Whether it has an array in ``Usage``, where links and devices count; else
            whoever makes the frame gives it. False for keys and all but a device and segment.
        is_fact: Whether reports read it. False for keys and all but a device and segment.
        in_summary: Whether the summary has it, pooled.
        heading: Head of its column in the report's table of costs; empty: its name there.
        made_of: Makes the values ``[n]`` of a device and segment of those of the other columns, by
            name, which cannot be changed; None: they are counted or given.

    Raises:
        ValueError: If the row contradicts itself.
    """

    name: str
    doc: str
    type: Type = Type.FLOAT64
    unit: str = ""
    scope: Scope = Scope.DEVICE_SEGMENT
    subject: Subject = Subject.OTHER
    neutral: str | float | None = None
    pooled: Pool = Pool.NONE
    is_key: bool = False
    is_counted: bool = True
    is_fact: bool = True
    in_summary: bool = False
    heading: str = ""
    made_of: MadeOf | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"name of a column must be an identifier, got {self.name!r}")
        if self.made_of is not None:
            self._check_made()
        if self.scope is not Scope.DEVICE_SEGMENT or self.is_key:
            object.__setattr__(self, "is_counted", False)
            object.__setattr__(self, "is_fact", False)
        if self.is_counted and (self.neutral is None or self.type is Type.TEXT):
            raise ValueError(
                f"{self.name}: a counted column must be a number with a neutral value, "
                f"got {self.neutral!r}"
            )
        if self.in_summary and (self.pooled in (Pool.NONE, Pool.RATIO) or not self.is_fact):
            raise ValueError(
                f"{self.name}: a column of the summary must be a pooled fact, got {self.pooled!r}"
            )

    def _check_made(self) -> None:
        if self.scope is not Scope.DEVICE_SEGMENT or self.is_key or self.neutral is None:
            raise ValueError(
                f"{self.name}: a column that is made of others must be of a device and segment, "
                "with a neutral value, and no key"
            )
        object.__setattr__(self, "is_counted", False)

    @property
    def dtype(self) -> np.dtype:
        """Gives the NumPy type of the values; text is an object."""
        return np.dtype(object if self.type is Type.TEXT else self.type.value)

    @property
    def summary_name(self) -> str:
        """Names its column in the summary."""
        ends = {Pool.PER_DEVICE: "_per_device", Pool.MEAN: "_mean", Pool.MEDIAN: "_median"}
        return self.name + ends.get(self.pooled, "")


class Columns:
    """Keeps columns in the order of the file, by name.

    All that follows from them is worked out when it is needed, so that a column that is registered
    later is everywhere.

    Args:
        columns: In order.
    """

    def __init__(self, columns: Iterable[Column]) -> None:
        self._by_name: dict[str, Column] = {}
        for column in columns:
            self.register(column)

    def register(self, column: Column) -> None:
        """Adds a column at the end.

        Raises:
            UserError: If there is one of that name, in the table or in the summary.
        """
        taken = {*self._by_name, *(known.summary_name for known in self.in_summary), "run"}
        if column.name in taken:
            raise UserError(f"columns must have names of their own, got {column.name!r} twice")
        self._by_name[column.name] = column

    def replace(self, column: Column) -> None:
        """Puts a column in the place of the one of that name."""
        self._by_name[column.name] = column

    @contextmanager
    def including(self, column: Column) -> Iterator[Column]:
        """Registers a column inside a ``with`` block alone."""
        self.register(column)
        try:
            yield column
        finally:
            del self._by_name[column.name]

    def __iter__(self) -> Iterator[Column]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Column:
        """Finds the column of that name.

        Raises:
            UserError: If there is none.
        """
        if name not in self._by_name:
            raise unknown_name("column", name, self._by_name, "results")
        return self._by_name[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of the file."""
        return tuple(self._by_name)

    @property
    def keys(self) -> tuple[str, ...]:
        """Names that tell one device, segment and strategy of a run from another."""
        return tuple(column.name for column in self if column.is_key)

    @property
    def facts(self) -> tuple[str, ...]:
        """Names that reports read, of a device and segment."""
        return tuple(column.name for column in self if column.is_fact)

    @property
    def texts(self) -> tuple[str, ...]:
        """Names of the columns of text."""
        return tuple(column.name for column in self if column.type is Type.TEXT)

    @property
    def counted(self) -> tuple[Column, ...]:
        """Columns that ``Usage`` has an array for."""
        return tuple(column for column in self if column.is_counted)

    @property
    def in_summary(self) -> tuple[Column, ...]:
        """Columns that the summary pools, by subject."""
        subjects = list(Subject)
        found = [column for column in self if column.in_summary]
        return tuple(sorted(found, key=lambda column: subjects.index(column.subject)))
