"""Holds results in memory: what the long table repeats on each metric is held once.

A *cell* is what one device did in one segment under one strategy of a run. Its bytes, seconds and
labels are a row of :attr:`Results.cells`; the sums and counts of a metric stand beside the numbers
of their cells. Numbers are kept in the smallest type that holds them exactly, and come out as they
went in.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.tables.columns import COLUMNS
from cdc_flower.tables.controls import is_control
from cdc_flower.tables.long_table import schema
from cdc_flower.tables.parts import Parts

#: Column of cells that summaries leave out.
HOSTILE = "is_hostile"
_VALUES = ("metric", "value_sum", "value_count")
_ROWS_PER_CHUNK = 2**18  # of the long table, about 40 MB


def cell_key() -> tuple[str, ...]:
    """Names the columns that tell cells apart; ``run`` does so for runs of different labels."""
    return ("run", *COLUMNS.keys)


@dataclass(frozen=True)
class Piece:
    """Holds the values of one metric in ``n`` cells.

    Attributes:
        at: The numbers of the cells: a range, or ``[n]``.
        value_sum: ``[n]``.
        value_count: ``[n]``.
    """

    at: range | NDArray[np.int64]
    value_sum: NDArray[np.floating]
    value_count: NDArray[np.floating]


@dataclass(frozen=True)
class Results:
    """Holds the results of one run or of several.

    Attributes:
        cells: One row per run, strategy, device and segment: :func:`cell_key` and
            ``COLUMNS.facts``. Whole numbers are in the smallest type that holds them: pandas adds
            up in 64 bits, but two columns must be widened before they are added.
        pieces: The values of each metric, in the order of the rows.
    """

    cells: pd.DataFrame
    pieces: Mapping[str, Sequence[Piece]]

    @staticmethod
    def of(frame: pd.DataFrame) -> "Results":
        """Makes them from rows of the long table.

        A column ``run`` may label runs, else it is empty.
        """
        labeled = frame if "run" in frame else frame.assign(run="")
        return _merged(_runs_of_rows(_with_every_fact(labeled)))

    @property
    def metrics(self) -> list[str]:
        """Lists the metrics as they come."""
        return list(self.pieces)

    def rows(self, metric: str, columns: Iterable[str]) -> pd.DataFrame:
        """Gives a row for each cell that has a metric: these columns, its sum and its count."""
        pieces = self.pieces.get(metric, ())
        names = list(columns)
        at = _indices(pieces)
        # Without a copy where every cell has the metric, as is usual.
        is_whole = len(at) == len(self.cells) and bool((np.diff(at) == 1).all())
        rows = self.cells[names] if is_whole else self.cells[names].take(at).reset_index(drop=True)
        values = {
            name: [getattr(piece, name) for piece in pieces] or [np.zeros(0)]
            for name in _VALUES[1:]
        }
        return rows.assign(
            **{name: np.concatenate(parts, dtype=np.float64) for name, parts in values.items()}
        )

    def where(self, kept: NDArray[np.bool_]) -> "Results":
        """Keeps some of the cells.

        Args:
            kept: ``[num_cells]``.
        """
        if kept.all():
            return self
        number = np.cumsum(kept) - 1  # of each cell that stays
        pieces: dict[str, Sequence[Piece]] = {}
        for metric, whole in self.pieces.items():
            some = [part for piece in whole if (part := _some(piece, kept, number)) is not None]
            if some:
                pieces[metric] = some
        return Results(self.cells[kept].reset_index(drop=True), pieces)

    def without_controls(self) -> "Results":
        """Keeps the cells of strategies and reference lines."""
        names = self.cells["strategy"]
        controls = [each for each in names.unique() if is_control(str(each))]
        return self.where(~names.isin(controls).to_numpy(np.bool_))

    def honest(self) -> "Results":
        """Keeps the cells of devices that are not hostile."""
        if HOSTILE not in self.cells:
            return self
        return self.where(~self.cells[HOSTILE].to_numpy(np.bool_))

    def assign(self, **columns: NDArray | pd.Series | str | float) -> "Results":
        """Adds columns of the cells, ``[num_cells]`` or one value for all.

        Text becomes a category.
        """
        texts = {
            name: _constant(value, self.cells.index)
            for name, value in columns.items()
            if isinstance(value, str)
        }
        return Results(self.cells.assign(**{**columns, **texts}), self.pieces)


def joined(parts: Sequence[Results]) -> Results:
    """Puts the cells of several results one after another.

    They must have the same columns and no cell in common.
    """
    if len(parts) == 1:
        return parts[0]
    columns = {}
    for name, column in parts[0].cells.items():
        several = [part.cells[name] for part in parts]
        if isinstance(column.dtype, pd.CategoricalDtype):
            texts = chain.from_iterable(each.cat.categories for each in several)
            names = sorted({str(text) for text in texts})
            several = [each.cat.set_categories(names) for each in several]
        columns[name] = pd.concat(several, ignore_index=True)
    pieces: dict[str, list[Piece]] = {}
    first = 0
    for part in parts:
        for metric, some in part.pieces.items():
            pieces.setdefault(metric, []).extend(
                Piece(_moved(piece.at, first), piece.value_sum, piece.value_count) for piece in some
            )
        first += len(part.cells)
    return Results(pd.DataFrame(columns, copy=False), pieces)


def read_results(path: str | Path) -> Results:
    """Reads a results file, a part at a time; or the folder of parts of an unfinished run.

    A fact that the file does not have, because it was written before there was such a column, is
    neutral everywhere.

    Raises:
        UserError: If the file is missing, is not Parquet, or lacks a column that has no neutral
            value.
    """
    path = Path(path)
    if path.is_dir():
        paths = Parts(path).whole_paths()
        if not paths:
            raise UserError(f"{path}: there is no segment of a table that is finished")
        return _merged(_read_files(paths))
    if not path.is_file():
        raise UserError(f"{path}: there is no such results file")
    return _merged(_read_files([path]))


def _read_files(paths: Sequence[Path]) -> Results:
    """Reads files one after the other; the same cell may come again in them."""
    frames = chain.from_iterable(
        _chunks(list(some), held) for held, some in groupby(paths, _columns_of)
    )
    return joined([_runs_of_rows(_with_every_fact(frame.assign(run=""))) for frame in frames])


def _columns_of(path: Path) -> list[str]:
    """Lists the columns of a file.

    Raises:
        UserError: If it is not Parquet, or lacks a column that has no neutral value.
    """
    with _told_if_unreadable(path):
        held = pq.read_schema(path).names
    if missing := [each.name for each in COLUMNS if each.neutral is None and each.name not in held]:
        raise UserError(f"{path}: not a results file, it lacks the columns {', '.join(missing)}")
    return [str(name) for name in held]


@contextmanager
def _told_if_unreadable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path}: not a readable results file (a run that was killed leaves it unfinished)"
        ) from error


def _chunks(paths: Sequence[Path], held: Collection[str]) -> Iterator[pd.DataFrame]:
    """Reads the rows of files with the same columns, some row groups at a time.

    There is at least one chunk, which may be empty. A chunk of many small files costs as much as
    one of a large file.

    Args:
        paths: The files, at least one.
        held: The columns that they have.
    """
    names = [name for name in (*COLUMNS.keys, *COLUMNS.facts, *_VALUES) if name in held]
    together: list[pa.Table] = []
    for path in paths:
        with _told_if_unreadable(path):
            for table in _tables(path, names):
                together.append(table)
                if sum(each.num_rows for each in together) >= _ROWS_PER_CHUNK:
                    yield _frame_of(together)
                    together = []
    if together:
        yield _frame_of(together)


def _tables(path: Path, names: Sequence[str]) -> Iterator[pa.Table]:
    """Reads columns of a file, some row groups at a time; of an empty one a table without rows."""
    types = schema(names)
    texts = [name for name in COLUMNS.texts if name in names]
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        together: list[list[int]] = [[]]
        num_rows = 0
        for group in range(file.num_row_groups):
            if num_rows >= _ROWS_PER_CHUNK:
                together.append([])
                num_rows = 0
            together[-1].append(group)
            num_rows += file.metadata.row_group(group).num_rows
        for groups in together:
            yield file.read_row_groups(groups, columns=list(names)).select(names).cast(types)


def _frame_of(tables: Sequence[pa.Table]) -> pd.DataFrame:
    frame: pd.DataFrame = pa.concat_tables(tables).unify_dictionaries().to_pandas()
    return frame


def _with_every_fact(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows with the neutral value of each fact that they do not have."""
    facts = [COLUMNS[name] for name in COLUMNS.facts]
    absent = [each for each in facts if each.neutral is not None and each.name not in frame]
    if not absent:
        return frame  # assign would copy it
    return frame.assign(
        **{each.name: pd.Series(each.neutral, frame.index, dtype=each.dtype) for each in absent}
    )


def _runs_of_rows(frame: pd.DataFrame) -> Results:
    """Makes a cell for each run of rows of one key; the same cell may come again later."""
    key = cell_key()
    facts = COLUMNS.facts
    known_texts = {"run", *COLUMNS.texts}
    texts = [name for name in (*key, *facts, "metric") if name in known_texts]
    frame = frame.astype(
        {
            name: "category"
            for name in texts
            if not isinstance(frame[name].dtype, pd.CategoricalDtype)
        }
    )
    is_new = np.ones(len(frame), np.bool_)
    is_new[1:] = False
    for name in key:
        values = frame[name].cat.codes.to_numpy() if name in texts else frame[name].to_numpy()
        is_new[1:] |= values[1:] != values[:-1]
    cells = frame.loc[is_new, [*key, *facts]].reset_index(drop=True)
    cell = np.cumsum(is_new) - 1
    metric = frame["metric"].cat
    codes = metric.codes.to_numpy()
    sums = frame["value_sum"].to_numpy(np.float64)
    counts = frame["value_count"].to_numpy(np.float64)
    pieces: dict[str, Sequence[Piece]] = {}
    # Metrics of one task often count the same events: their counts are then one array.
    shared: NDArray[np.floating] = np.zeros(0)
    for code in pd.unique(codes):
        rows = np.flatnonzero(codes == code)
        count = counts[rows]
        shared = shared if np.array_equal(shared, count) else _smallest_float(count)
        pieces[str(metric.categories[int(code)])] = [
            Piece(_compact(cell[rows]), _smallest_float(sums[rows]), shared)
        ]
    return Results(
        pd.DataFrame({name: _smallest_integer(column) for name, column in cells.items()}), pieces
    )


def _merged(results: Results) -> Results:
    """Merges cells whose metrics were not side by side or in two chunks; the first facts count."""
    key = list(cell_key())
    cells = results.cells
    again = cells.duplicated(key).to_numpy()
    if not again.any():
        return results  # as in files of one run, which hold the rows of a cell together
    number = (
        cells.groupby(key, observed=True, sort=False, dropna=False)
        .ngroup()
        .to_numpy()
        .astype(np.int64)
    )
    pieces = {
        metric: [
            Piece(_compact(number[_indices([piece])]), piece.value_sum, piece.value_count)
            for piece in some
        ]
        for metric, some in results.pieces.items()
    }
    return Results(cells[~again].reset_index(drop=True), pieces)


def _indices(pieces: Sequence[Piece]) -> NDArray[np.int64]:
    """Lists the numbers of the cells of some pieces."""
    return np.concatenate(
        [np.asarray(piece.at, np.int64) for piece in pieces] or [np.zeros(0, np.int64)]
    )


def _compact(at: NDArray[np.int64]) -> range | NDArray[np.int64]:
    """Makes a range where the numbers are one."""
    is_range = len(at) > 0 and bool((np.diff(at) == 1).all())
    return range(int(at[0]), int(at[-1]) + 1) if is_range else at


def _moved(at: range | NDArray[np.int64], by: int) -> range | NDArray[np.int64]:
    return range(at.start + by, at.stop + by) if isinstance(at, range) else at + by


def _some(piece: Piece, kept: NDArray[np.bool_], number: NDArray[np.int64]) -> Piece | None:
    """Keeps the part of a piece that lies in kept cells, at their new numbers."""
    at = _indices([piece])
    mine = kept[at]
    if mine.all():
        return Piece(_compact(number[at]), piece.value_sum, piece.value_count)
    if not mine.any():
        return None
    return Piece(_compact(number[at[mine]]), piece.value_sum[mine], piece.value_count[mine])


def _constant(text: str, index: pd.Index) -> pd.Series:
    codes = np.zeros(len(index), np.int8)
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index([text])), index)


def _smallest_float(values: NDArray[np.float64]) -> NDArray[np.floating]:
    """Halves the bytes where each number is the same in them."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float32)
    return half if np.array_equal(half, values, equal_nan=True) else values


def _smallest_integer(column: pd.Series) -> pd.Series:
    if column.dtype.kind != "i" or column.empty:
        return column
    low = column.min()
    high = column.max()
    kinds = (
        kind
        for kind in (np.int8, np.int16, np.int32)
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max
    )
    return column.astype(next(kinds, np.int64))
