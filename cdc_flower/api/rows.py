"""Holds rows of the results table in memory, or knows the file that they are in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from pandas.api.types import union_categoricals

from cdc_flower.tables.columns import COLUMNS
from cdc_flower.tables.long_table import schema


@dataclass(frozen=True)
class LongTable:
    """Rows of one run.

    Attributes:
        source: The rows, or their Parquet file.
    """

    source: pd.DataFrame | Path

    def columns(self, names: Sequence[str]) -> pd.DataFrame:
        """Takes columns of all rows; one that an older file lacks is neutral."""
        if isinstance(self.source, pd.DataFrame):
            return self.source[list(names)].copy()
        held = set(pq.read_schema(self.source).names)
        there = [name for name in names if name in held]
        table = pq.read_table(self.source, columns=there).cast(schema(there))
        frame = table.to_pandas()
        for name in names:
            if name not in held:
                column = COLUMNS[name]
                frame[name] = pd.Series(column.neutral, frame.index, dtype=column.dtype)
        return frame[list(names)]


def joined_frames(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Puts frames of the same columns one after another; texts stay categories."""
    if not frames:
        return pd.DataFrame(columns=list(COLUMNS.names))
    if len(frames) == 1:
        return frames[0].reset_index(drop=True)
    columns = {}
    for name, first in frames[0].items():
        parts = [frame[name] for frame in frames]
        if isinstance(first.dtype, pd.CategoricalDtype):
            columns[name] = pd.Series(union_categoricals(parts))
        else:
            columns[name] = pd.concat(parts, ignore_index=True)
    return pd.DataFrame(columns)
