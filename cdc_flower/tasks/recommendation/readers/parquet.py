"""Parquet files: an event a row, columns by their names."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.opening.damage import whole
from cdc_flower.core.opening.places import first_bytes
from cdc_flower.core.words import counted
from cdc_flower.tasks.recommendation.readers.headers import places_by_map, places_by_name
from cdc_flower.tasks.recommendation.readers.options import ReaderOptions
from cdc_flower.tasks.recommendation.readers.registry import readers
from cdc_flower.tasks.recommendation.readers.rows import Ids, RawIds, Rows, shown
from cdc_flower.tasks.recommendation.readers.times import iso_s

_BATCH_ROWS = 2**19
_EXACT = 2**53
_MAGIC = b"PAR1"
KIND = "parquet file"


@readers.register("parquet", reads="parts")
def read_parquet(path: Path, options: ReaderOptions) -> Iterator[Rows]:
    """Reads a parquet file in batches.

    Args:
        path: Of the file.
        options: ``columns`` maps user, item, time and kind to names; otherwise known names count.

    Raises:
        UserError: If it is none or damaged, a column is missing, or a value is none that its column
            may have and ``options.skip_errors`` is false.
    """
    used, batches = _opened(path, options)
    row = 0
    while True:
        with whole(path, KIND):
            batch = next(batches, None)
            if batch is None:
                return
            rows = _rows(batch, used, options, f"{path}: row {row + 1:,} and after")
        yield rows
        row += len(batch)


def is_parquet(path: Path) -> bool:
    """Tells whether a file is parquet, by its first bytes."""
    return first_bytes(path).startswith(_MAGIC)


def check_parquet(path: Path, options: ReaderOptions) -> None:
    """Reads the columns that are used to their end, whatever their values.

    Raises:
        UserError: If a column is missing.
        DamagedFile: If the file is damaged.
    """
    _, batches = _opened(path, options)
    with whole(path, KIND):
        for _ in batches:
            pass


def _opened(
    path: Path, options: ReaderOptions
) -> tuple[Mapping[str, str], Iterator[pa.RecordBatch]]:
    """Finds the column of each role, and opens the batches of these columns."""
    first_bytes(path)  # refuses what is no file
    with whole(path, KIND):
        file = pq.ParquetFile(path)
        names = [str(name) for name in file.schema_arrow.names]
        columns = options.columns
        if isinstance(columns, Mapping):
            places = places_by_map(names, columns, str(path))
        else:
            places = places_by_name(names, str(path))
        used = {role: names[place] for role, place in places.items() if role != "rating"}
        wanted = list(dict.fromkeys(used.values()))
        return used, file.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False)


def _rows(
    batch: pa.RecordBatch, used: Mapping[str, str], options: ReaderOptions, place: str
) -> Rows:
    holds = np.ones(len(batch), np.bool_)
    ids: dict[str, RawIds] = {}
    for role in ("user", "item"):
        ids[role], is_id = _ids(batch.column(used[role]), f"{place}, column {used[role]}")
        holds &= is_id
    times, is_dated = None, False
    if "time" in used:
        times, is_dated = _times(batch.column(used["time"]), f"{place}, column {used['time']}")
        holds &= np.isfinite(times) & (is_dated | (times >= 0))
    if not holds.all() and not options.skip_errors:
        row = int(np.argmin(holds))
        got = {name: batch.column(name)[row].as_py() for name in used.values()}
        raise UserError(
            f"{place}: user and item must be texts or whole numbers and time a number >= 0 or a "
            f"date, got {shown(got)} {counted(row, 'row')} on"
        )
    wanted = np.ones(len(batch), np.bool_)
    if options.kinds is not None and "kind" in used:
        kinds = pa.array(options.kinds, pa.string())
        texts = batch.column(used["kind"]).cast(pa.string())
        wanted = pc.fill_null(pc.is_in(texts, value_set=kinds), False).to_numpy(
            zero_copy_only=False
        )
    kept = holds & wanted
    return Rows(
        _taken(ids["user"], kept),
        _taken(ids["item"], kept),
        None if times is None else times[kept],
        int((~holds).sum()),
        is_dated,
        int((holds & ~wanted).sum()),
    )


def _ids(column: pa.Array, place: str) -> tuple[NDArray[np.int64] | Ids, NDArray[np.bool_]]:
    """Reads ids and where there is one."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_floating(kind):  # whole numbers beside absent ones
        values = column.to_numpy(zero_copy_only=False).astype(np.float64)
        with np.errstate(invalid="ignore"):
            is_whole = (np.abs(values) < _EXACT) & (values % 1 == 0)
        return np.where(is_whole, values, 0).astype(np.int64), is_whole
    is_there = column.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return pc.fill_null(column, 0).to_numpy(zero_copy_only=False).astype(np.int64), is_there
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.uint64()):
        raise UserError(f"{place}: ids must be texts or whole numbers, got {kind}")
    coded = pc.fill_null(column.cast(pa.string()), "").dictionary_encode()
    names = [name.strip() for name in coded.dictionary.to_pylist()]
    is_named = np.array([bool(name) for name in names] or [False], np.bool_)
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return Ids(codes, names), is_there & is_named[codes]


def _times(column: pa.Array, place: str) -> tuple[NDArray, bool]:
    """Reads times, NaN where there is none, and whether they were dates."""
    kind = column.type
    if pa.types.is_temporal(kind) and not pa.types.is_duration(kind):
        exact = column.cast(pa.timestamp("us"), safe=False)
        micros = exact.cast(pa.int64()).to_numpy(zero_copy_only=False)
        return micros.astype(np.float64) / 1e6, True
    if pa.types.is_integer(kind) and not column.null_count:
        return column.to_numpy(zero_copy_only=False).astype(np.int64), False
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column.to_numpy(zero_copy_only=False).astype(np.float64), False
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return iso_s(pc.fill_null(column, "").to_pylist()), True
    raise UserError(f"{place}: times must be numbers or dates, got {kind}")


def _taken(ids: RawIds, kept: NDArray[np.bool_]) -> RawIds:
    if isinstance(ids, Ids):
        return Ids(ids.codes[kept], ids.names)
    return np.asarray(ids)[kept]
