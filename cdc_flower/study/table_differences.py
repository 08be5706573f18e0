"""Compares rows of two results tables, column by column."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdc_flower.core.words import counted
from cdc_flower.tables.column import Type
from cdc_flower.tables.columns import COLUMNS

#: Of rows of one strategy and task.
KEY = ("segment", "device_id", "metric")
#: The size of a number that is smaller: a difference is no share of nothing.
LEAST_SIZE = 0.1
#: On another kind of CPU numbers of a row differ by a smaller share of their size: two candidates
#: whose scores are nearly the same may change places, which moves what counts ranks.
ROW_TOLERANCE = 1e-3
#: The same of the sum of all rows, for each metric. ``docs/repeats.md`` has what was measured.
SUM_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Difference:
    """Describes how one column of two tables differs.

    Attributes:
        column: Its name; "rows" where the tables hold different ones.
        count: Rows in which it differs.
        largest: The largest difference, in the unit of the column; NaN where there is no such
            number.
        relative: The same as a share of the larger of both values, or of ``LEAST_SIZE``.
        place: Where that is.
        in_sums: The largest difference of the sums of all rows with one metric, as such a share;
            infinite where the column holds no floating-point numbers.
    """

    column: str
    count: int
    largest: float
    relative: float
    place: str
    in_sums: float = np.inf

    @property
    def is_rounding(self) -> bool:
        """Tells whether floating-point numbers differ as they may on another kind of CPU."""
        return self.relative <= ROW_TOLERANCE and self.in_sums <= SUM_TOLERANCE

    def __str__(self) -> str:
        rows = counted(self.count, "row")
        if np.isnan(self.largest):
            return f"{self.column} differs in {rows}, first at {self.place}"
        in_sums = f", in sums by up to {self.in_sums:.2g}" if np.isfinite(self.in_sums) else ""
        return (
            f"{self.column} differs in {rows} by up to {self.largest:.3g} "
            f"({self.relative:.2g} of its size) at {self.place}{in_sums}"
        )


def table_differences(one: pd.DataFrame, other: pd.DataFrame) -> list[Difference]:
    """Compares every row and column of two tables, to the bit; the order of rows does not matter.

    Args:
        one: Rows of one strategy and task.
        other: Rows that should be the same.

    Returns:
        The columns that differ; the rows alone where these are not of the same devices, segments
        and metrics.
    """
    tables = [_sorted(table) for table in (one, other)]
    keys = [pd.MultiIndex.from_frame(table[list(KEY)]) for table in tables]
    if not keys[0].equals(keys[1]):
        apart = keys[0].symmetric_difference(keys[1])
        if not len(apart):  # some rows come twice
            apart = keys[0].append(keys[1])
        return [Difference("rows", len(apart), np.nan, np.nan, _place(apart[0]))]
    found = (_difference(name, *tables) for name in COLUMNS.names if name not in KEY)
    return [difference for difference in found if difference is not None]


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    plain = table.astype({name: str for name in COLUMNS.texts if name in table})
    return plain.sort_values(list(KEY), kind="stable", ignore_index=True)


def _difference(name: str, one: pd.DataFrame, other: pd.DataFrame) -> Difference | None:
    if (name in one) != (name in other):
        return Difference(name, len(one), np.nan, np.nan, "every row: one table lacks it")
    if name not in one:
        return None
    values = np.ascontiguousarray(one[name].to_numpy())
    others = np.ascontiguousarray(other[name].to_numpy())
    is_number = COLUMNS[name].type is Type.FLOAT64
    if is_number:
        absent = np.isnan(values) & np.isnan(others)
        differs = (values.view(np.int64) != others.view(np.int64)) & ~absent
    else:
        differs = values != others
    rows = np.flatnonzero(differs)
    if not len(rows):
        return None
    if COLUMNS[name].type is Type.TEXT:
        return Difference(name, len(rows), np.nan, np.nan, _place_of(one, rows[0]))
    by, share = _sizes(values[rows].astype(np.float64), others[rows].astype(np.float64))
    largest = int(np.argmax(share))
    place = _place_of(one, rows[largest])
    sizes = float(by[largest]), float(share[largest])
    in_sums = _in_sums(name, one, other) if is_number else np.inf
    return Difference(name, len(rows), *sizes, place, in_sums)


def _in_sums(name: str, one: pd.DataFrame, other: pd.DataFrame) -> float:
    """Measures the largest difference of sums over the rows of a metric."""
    sums = [table.groupby("metric", observed=True)[name].sum() for table in (one, other)]
    _, share = _sizes(*(each.to_numpy(np.float64) for each in sums))
    return float(share.max())


def _sizes(
    one: NDArray[np.float64], other: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measures differences ``[n]`` and their shares ``[n]`` of the larger value; never NaN."""
    size = np.fmax(np.fmax(np.abs(one), np.abs(other)), LEAST_SIZE)
    with np.errstate(invalid="ignore", over="ignore"):
        by = np.abs(one - other)
        share = by / size
    # A number beside none, or beside an infinite one, is as far from it as can be.
    return np.nan_to_num(by, nan=np.inf), np.nan_to_num(share, nan=np.inf, posinf=np.inf)


def _place_of(table: pd.DataFrame, row: int) -> str:
    return _place(tuple(table[name].iloc[row] for name in KEY))


def _place(key: tuple[object, ...]) -> str:
    segment, device, metric = key
    return f"segment {segment}, device {device}, {metric}"
