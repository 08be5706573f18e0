"""Writes the results table: a row for each run, device, segment and metric, a file a run.

The file is Parquet. Its columns are those of :mod:`cdc_flower.tables.columns`. Values are sums and
counts, so any group of rows can be merged: add ``value_sum``, add ``value_count``, divide. What a
device did in a segment (bytes, latency, labels, seconds) is *repeated* on the row of each metric;
:mod:`cdc_flower.tables.results` reads it once.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray
from pandas.api.types import union_categoricals

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.tables.column import Column, Scope, Type
from cdc_flower.tables.columns import COLUMNS
from cdc_flower.tables.made_columns import made_columns

#: The column that names the metric of a row.
METRIC = "metric"
_TEXT = pa.dictionary(pa.int32(), pa.string())


def schema(names: Sequence[str] | None = None) -> pa.Schema:
    """Makes the Arrow schema of the file, or of these columns alone."""
    columns = [COLUMNS[name] for name in (COLUMNS.names if names is None else names)]
    return pa.schema([(column.name, _arrow_type(column)) for column in columns])


def _arrow_type(column: Column) -> pa.DataType:
    return _TEXT if column.type is Type.TEXT else pa.from_numpy_dtype(column.dtype)


def segment_frame(
    labels: Mapping[str, str | float],
    facts: Mapping[str, ArrayLike],
    metrics: Sequence[str],
    values: Mapping[str, ArrayLike],
) -> pd.DataFrame:
    """Makes the rows of one segment: ``n`` devices times ``M`` metrics, those of a device together.

    :mod:`cdc_flower.tables.columns` says which columns there are. Where one with a neutral value is
    not given, all rows have that.

    Args:
        labels: One value of each column of a run or segment.
        facts: ``[n]``, or one value for all, of each column of a device and segment; ``device_id``
            is ``[n]``.
        metrics: Names of the ``M`` metrics.
        values: ``[n, M]``, ``value_sum`` and ``value_count``.

    Raises:
        UserError: If a name is not that of a column, or a column without a neutral value is absent.
        ValueError: If a shape or type does not fit.
    """
    _check_names("labels", labels, (Scope.RUN, Scope.SEGMENT))
    _check_names("facts", facts, (Scope.DEVICE_SEGMENT,))
    _check_names("values", {METRIC: "", **values}, (Scope.METRIC,))
    given = {**made_columns(facts), **labels, **facts, **values}
    shape = (np.size(facts["device_id"]), len(metrics))
    codes = np.tile(np.arange(shape[1]), shape[0])
    metric = pd.Categorical.from_codes(codes, pd.Index([str(name) for name in metrics]))
    rows = {column.name: _rows(column, given, shape) for column in COLUMNS if column.name != METRIC}
    return pd.DataFrame({**rows, METRIC: metric}, columns=list(COLUMNS.names))


def _check_names(place: str, given: Mapping[str, ArrayLike], scopes: Sequence[Scope]) -> None:
    """Checks that the columns of these scopes that must be given are, and no others."""
    known = [column for column in COLUMNS if column.scope in scopes]
    names = {column.name for column in known}
    for name in given:
        if name not in names:
            raise unknown_name("column", name, names, place)
    for column in known:
        if column.neutral is None and column.name not in given:
            raise UserError(f"{place}: the column {column.name!r} must be given")


def _rows(
    column: Column, given: Mapping[str, ArrayLike], shape: tuple[int, int]
) -> NDArray | pd.Categorical:
    """Spreads the values of one column over its rows ``[n * M]``.

    Args:
        column: Of which.
        given: Values by name.
        shape: ``n`` devices and ``M`` metrics.
    """
    value = np.asarray(given.get(column.name, column.neutral))
    if value.shape not in (fits := _shapes(column, shape)):
        text = " or ".join(str(each) for each in fits)
        raise ValueError(f"{column.name} must have shape {text}, got {value.shape}")
    if column.type is Type.TEXT:
        codes, names = pd.factorize(value.ravel())
        return pd.Categorical.from_codes(
            _spread(codes.reshape(value.shape), shape), pd.Index(names)
        )
    if not np.can_cast(value.dtype, column.dtype, "same_kind"):
        raise ValueError(f"{column.name} must be {column.type}, got {value.dtype}")
    return _spread(value.astype(column.dtype, copy=False), shape)


def _shapes(column: Column, shape: tuple[int, int]) -> tuple[tuple[int, ...], ...]:
    """Shapes that values of a column may have for ``n`` devices and ``M`` metrics."""
    if column.name == "device_id":
        return (shape[:1],)
    full: dict[Scope, tuple[int, ...]] = {Scope.DEVICE_SEGMENT: shape[:1], Scope.METRIC: shape}
    has_default = column.scope is not Scope.METRIC or column.neutral is not None
    single: list[tuple[int, ...]] = [()] if has_default else []
    return (*single, *([full[column.scope]] if column.scope in full else []))


def _spread(value: NDArray, shape: tuple[int, int]) -> NDArray:
    """Repeats one value, ``[n]`` or ``[n, M]``, as ``[n * M]``."""
    return np.broadcast_to(value[:, None] if value.ndim == 1 else value, shape).ravel()


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


class ResultsWriter:
    """Writes a results file, one row group per ``append``. Use it in a ``with`` block.

    Leaving the block, also by an exception or Ctrl-C, closes the file: what was appended is
    readable.

    Args:
        path: The file; its folder must exist. An older file is replaced.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._schema = schema()
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        try:
            self._schema = schema()
            self._writer = pq.ParquetWriter(
                self._path, self._schema, compression="zstd", use_dictionary=True
            )
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"{self._path}: the results file cannot be written ({reason})"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        writer = self._writer
        self._writer = None  # first, so that nothing is appended to a file that failed to close
        if writer is not None:
            writer.close()

    def append(self, frame: pd.DataFrame) -> None:
        """Writes the rows of a :func:`segment_frame`, or several of them joined.

        Raises:
            ValueError: If the writer is not open, or the columns are not those of the file.
        """
        if self._writer is None:
            raise ValueError(
                f"append must be called inside `with ResultsWriter({str(self._path)!r})`"
            )
        self._writer.write_table(table_of(frame, self._schema))


def table_of(frame: pd.DataFrame, like: pa.Schema | None = None) -> pa.Table:
    """Turns a frame into an Arrow table of that schema; of the whole one by default.

    Raises:
        ValueError: If the columns are not those of the schema.
    """
    wanted = schema() if like is None else like
    if list(frame.columns) != wanted.names:
        odd = sorted(set(frame.columns) ^ set(wanted.names))
        raise ValueError(
            f"frame must have the columns of the file in order, got {odd or 'another order'}"
        )
    arrays = []
    for field in wanted:
        column = frame[field.name]
        if field.type == _TEXT:
            column = column.astype("category")
            codes = pa.array(column.cat.codes.to_numpy(), pa.int32())
            names = pa.array([str(name) for name in column.cat.categories], pa.string())
            arrays.append(pa.DictionaryArray.from_arrays(codes, names))
        else:
            # from_pandas=False keeps NaN as NaN instead of a null
            arrays.append(pa.array(column.to_numpy(), field.type, from_pandas=False))
    return pa.Table.from_arrays(arrays, schema=wanted)
