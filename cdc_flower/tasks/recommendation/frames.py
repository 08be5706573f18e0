"""Reads events from a DataFrame with the columns user, item and time, one event a row.

A further column may tell of shifts, for metrics alone: ``context`` names the hidden context of each
event, or ``drift`` is true where a new one begins. Other columns are not read.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdc_flower.core.dates import seconds_since_1970
from cdc_flower.core.errors import UserError, nearest_name
from cdc_flower.tasks.data.interactions import FrameData, FrameOptions
from cdc_flower.tasks.data.registry import StreamShape
from cdc_flower.tasks.recommendation.event_files import cut_stream
from cdc_flower.tasks.recommendation.events import EventTable
from cdc_flower.tasks.recommendation.readers.times import seconds_of, unit_of
from cdc_flower.tasks.recommendation.stream import EventStream

NEEDED = ("user", "item", "time")
CONTEXT, DRIFT = "context", "drift"
SOURCE = "the DataFrame"


@dataclass(frozen=True)
class FrameSource:
    """Makes streams of the events of a DataFrame.

    Attributes:
        events: Of all devices.
        options: Of the cut.
    """

    events: EventTable
    options: FrameOptions

    def stream(self, shape: StreamShape) -> EventStream:
        """Cuts the events as configured.

        Raises:
            UserError: If they do not fit the shape.
        """
        return cut_stream(self.events, self.options, shape)

    def content_hash(self) -> str:
        """Names the content: events, times and contexts."""
        contexts = self.events.contexts
        known = b"" if contexts is None else contexts.tobytes()
        return hashlib.sha256(self.events.content_hash().encode() + known).hexdigest()


def stream_of(options: FrameData, shape: StreamShape) -> EventStream:
    """Makes the stream of a class of data that gives a frame.

    Args:
        options: Gives the frame, and says how it is cut.
        shape: Of the run.

    Raises:
        UserError: If the frame is none, or does not fit the shape.
    """
    frame: object = options.frame(shape.seed)
    if not isinstance(frame, pd.DataFrame):
        name = type(options).__name__
        raise UserError(f"data: {name}.frame must give a DataFrame, got {type(frame).__name__}")
    return FrameSource(events_of(frame, options.time_unit), options).stream(shape)


def events_of(frame: pd.DataFrame, time_unit: str = "auto") -> EventTable:
    """Reads the events of a DataFrame.

    Args:
        frame: With the columns user, item and time.
        time_unit: Of times that are numbers; ``auto`` is by their size.

    Raises:
        UserError: If a column is missing or there twice, a value is none that the column may have,
            or there is no row.
    """
    _check_columns(frame)
    if not len(frame):
        raise UserError(f"data: {SOURCE} must hold at least one event, got none")
    users, items = (_ids(frame[name], name) for name in ("user", "item"))
    events = EventTable.build(
        users, items, _times_s(frame["time"], time_unit), SOURCE, contexts=_contexts(frame)
    )
    return _since_drifts(events) if DRIFT in frame else events


def _check_columns(frame: pd.DataFrame) -> None:
    """Refuses a frame without the columns that it must have, or with one of a name twice."""
    names = [str(name) for name in frame.columns]
    for name in NEEDED:
        if name not in names:
            near = nearest_name(name, names)
            hint = f"; rename {near}?" if near else ""
            order = "; where the order of the rows is all that is known, number them"
            raise UserError(
                f"data: {SOURCE} must have the columns {', '.join(NEEDED)}, "
                f"got {', '.join(names) or 'none'}{hint}{order if name == 'time' else ''}"
            )
    for name in (*NEEDED, CONTEXT, DRIFT):
        if names.count(name) > 1:
            raise UserError(f"data: {SOURCE} must have one column {name}, got {names.count(name)}")
    if CONTEXT in names and DRIFT in names:
        raise UserError(f"data: {SOURCE} must have one of {CONTEXT} and {DRIFT}, got both")


def _refuse(column: pd.Series, name: str, rule: str, is_wrong: NDArray[np.bool_]) -> None:
    """Refuses the first wrong row, if there is one."""
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        value = column.iloc[row]
        plain = value.item() if isinstance(value, np.generic) else value
        raise UserError(
            f"data: row {row} of {SOURCE} (from 0), column {name}: must be {rule}, got {plain!r}"
        )


def _where(column: pd.Series, holds: Callable[[object], bool]) -> NDArray[np.bool_]:
    return np.fromiter(map(holds, column), np.bool_, len(column))


def _ids(column: pd.Series, name: str) -> NDArray:
    """Reads ids ``[M]``, texts or whole numbers; whole numbers may be held as floats."""
    rule = "a text or a whole number"
    _refuse(column, name, rule, column.isna().to_numpy(np.bool_))
    if pd.api.types.is_float_dtype(column.dtype):
        values = column.to_numpy(np.float64)
        with np.errstate(invalid="ignore"):
            _refuse(column, name, rule, ~(np.abs(values) < 2**53) | (values % 1 != 0))
        return values.astype(np.int64)
    if pd.api.types.is_integer_dtype(column.dtype):
        return column.to_numpy(column.dtype if isinstance(column.dtype, np.dtype) else np.int64)
    _refuse(column, name, rule, _where(column, lambda value: not _is_id(value)))
    return column.to_numpy(object)


def _is_id(value: object) -> bool:
    is_number = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return is_number or (isinstance(value, str) and value != "")


def _times_s(column: pd.Series, time_unit: str) -> NDArray[np.float64]:
    """Reads seconds ``[M]``: of numbers by their unit, of datetimes since 1970 in UTC."""
    rule = "a finite number or a datetime"
    _refuse(column, "time", rule, column.isna().to_numpy(np.bool_))
    if pd.api.types.is_bool_dtype(column.dtype):
        _refuse(column, "time", rule, np.ones(len(column), np.bool_))
    if pd.api.types.is_numeric_dtype(column.dtype):
        values = column.to_numpy(np.float64)
        _refuse(column, "time", rule, ~np.isfinite(values))
        return seconds_of(values, unit_of(values, time_unit), f"data: {SOURCE}")
    if not isinstance(column.dtype, np.dtype | pd.DatetimeTZDtype) or column.dtype.kind != "M":
        text = f"{rule} (pandas.to_datetime reads texts)"
        _refuse(column, "time", text, _where(column, lambda value: not isinstance(value, date)))
        try:
            column = pd.to_datetime(column, utc=True)
        except ValueError as error:
            raise UserError(f"data: column time of {SOURCE} cannot be read: {error}") from error
    return seconds_since_1970(column)


def _contexts(frame: pd.DataFrame) -> NDArray[np.int64] | None:
    """Numbers the contexts of rows in sorted order, or tells where a drift is; None without."""
    if DRIFT in frame:
        column = frame[DRIFT]
        _refuse(column, DRIFT, "true or false", column.isna().to_numpy(np.bool_))
        is_wrong = _where(column, lambda value: value not in (False, True))
        _refuse(column, DRIFT, "true or false", is_wrong)
        return column.to_numpy(np.bool_).astype(np.int64)
    if CONTEXT not in frame:
        return None
    column = frame[CONTEXT]
    texts = column.map(str) if column.dtype.kind == "O" else column
    codes, _ = pd.factorize(texts.where(column.notna()), sort=True)  # -1 for an absent one
    return codes.astype(np.int64)


def _since_drifts(events: EventTable) -> EventTable:
    """Counts the drifts of each device up to each event, in the order of time."""
    assert events.contexts is not None
    total = np.concatenate([[0], np.cumsum(events.contexts)])
    before = np.repeat(total[events.offsets[:-1]], np.diff(events.offsets))
    return replace(events, contexts=total[1:] - before)
