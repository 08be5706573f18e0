"""Holds rows of the results table in memory, or knows the file that they are in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

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
