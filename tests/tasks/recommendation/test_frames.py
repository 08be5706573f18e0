"""Events of a DataFrame."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.data.interactions import EventFileOptions, FrameOptions
from cdc_flower.tasks.data.registry import StreamShape
from cdc_flower.tasks.recommendation.contexts import segment_contexts
from cdc_flower.tasks.recommendation.event_files import read_events
from cdc_flower.tasks.recommendation.frames import FrameSource, events_of


def frame(**changed: Any) -> pd.DataFrame:
    columns = {"user": ["b", "a", "b", "a"], "item": [7, 5, 5, 9], "time": [2.0, 1.0, 1.0, 3.0]}
    return pd.DataFrame({**columns, **changed})


def test_a_frame_gives_the_table_of_a_file_with_the_same_rows(tmp_path: Path) -> None:
    rows = frame()
    rows.to_csv(tmp_path / "rows.csv", index=False)
    layout = {"format": "delimited", "columns": ("user", "item", "time"), "sep": ","}
    file = read_events(EventFileOptions(path=str(tmp_path / "rows.csv"), **layout))  # type: ignore[arg-type]

    events = events_of(rows)
    assert events.content_hash() == file.content_hash()
    assert events.device_names == ["a", "b"] and events.item_names == ["5", "7", "9"]
    assert events.items.tolist() == [1, 3, 1, 2]  # by device, then by time


def test_the_index_and_the_order_of_rows_do_not_matter() -> None:
    rows = frame()
    shuffled = rows.iloc[[3, 0, 2, 1]].set_index(pd.Index([9, 9, 9, 1]))
    assert events_of(shuffled).content_hash() == events_of(rows).content_hash()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_datetimes_are_seconds_in_utc_whatever_their_unit(unit: str) -> None:
    at = pd.Series(pd.to_datetime(["2024-01-01", "2024-01-02"] * 2)).astype(f"datetime64[{unit}]")
    one = events_of(frame(time=at)).times_s
    other = events_of(frame(time=at.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"))).times_s
    assert one is not None and other is not None
    assert one.tolist() == other.tolist()
    assert one.tolist() == [1704153600.0] * 2 + [1704067200.0] * 2  # by device


def test_datetimes_of_years_beyond_nanoseconds_are_read() -> None:
    at = pd.Series(np.array(["3005-01-01", "3005-01-02"] * 2, "datetime64[s]"))
    times = events_of(frame(time=at)).times_s
    assert times is not None and np.ptp(times) == 24 * 3600 and times.min() > 3e10


def test_objects_that_are_datetimes_are_read_too() -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    at = pd.Series([start + timedelta(hours=hour) for hour in range(4)], dtype=object)
    times = events_of(frame(time=at)).times_s
    assert times is not None and np.ptp(times) == 3 * 3600


def test_ids_may_be_texts_whole_numbers_or_categories() -> None:
    expected = events_of(frame())
    for items in ([7.0, 5.0, 5.0, 9.0], ["7", "5", "5", "9"], pd.array([7, 5, 5, 9], "Int64")):
        assert events_of(frame(item=items)).content_hash() == expected.content_hash()
    users = pd.Categorical(["b", "a", "b", "a"])
    assert events_of(frame(user=users)).device_names == ["a", "b"]


MISTAKES: list[tuple[pd.DataFrame, str]] = [
    (frame(user=["b", None, "b", "a"]), "row 1 of the DataFrame (from 0), column user: must be a"),
    (frame(item=[7, np.nan, 5, 9]), "row 1 of the DataFrame (from 0), column item"),
    (frame(item=[7, 5, 5.5, 9]), "row 2 of the DataFrame (from 0), column item"),
    (frame(item=[True, False, True, True]), "row 0 of the DataFrame (from 0), column item"),
    (frame(user=["b", "a", "", "a"]), "row 2 of the DataFrame (from 0), column user"),
    (frame(user=["b", "a", 1.5, "a"]), "row 2 of the DataFrame (from 0), column user"),
    (frame(time=[0, np.inf, 1, 2]), "row 1 of the DataFrame (from 0), column time"),
    (frame(time=[0, 1, np.nan, 2]), "row 2 of the DataFrame (from 0), column time"),
    (frame(time=["1", "2", "3", "4"]), "row 0 of the DataFrame (from 0), column time"),
    (frame(time=pd.to_datetime(["2024-01-01", None, None, None])), "row 1 of the DataFrame"),
    (frame(drift=[0, 1, 2, 0]), "row 2 of the DataFrame (from 0), column drift"),
    (
        frame(drift=pd.array([True, None, False, False], "boolean")),
        "column drift: must be true or false, got <NA>",
    ),
    (frame(time=[0.0, 1.0, np.nan, 3.0]), "must be a finite number or a datetime, got nan"),
    (frame(drift=[0, 1, 1, 0], context=[0, 1, 1, 0]), "must have one of context and drift"),
    (frame().rename(columns={"user": "userId"}), "rename userId?"),
    (frame().drop(columns="time"), "where the order of the rows is all that is known, number them"),
    (frame().iloc[:0], "must hold at least one event, got none"),
    (pd.concat([frame(), frame()[["item"]]], axis=1), "must have one column item, got 2"),
    (pd.DataFrame(), "must have the columns user, item, time, got none"),
]


@pytest.mark.parametrize(("rows", "text"), MISTAKES, ids=[text[:60] for _, text in MISTAKES])
def test_a_mistake_is_told_with_its_row_and_column(rows: pd.DataFrame, text: str) -> None:
    with pytest.raises(UserError) as told:
        events_of(rows)
    assert text in str(told.value) and "\n" not in str(told.value)


def shape(num_segments: int = 2, num_devices: int | None = None) -> StreamShape:
    return StreamShape(num_segments, 0, num_devices, history_length=3, num_negatives=1)


def test_contexts_of_events_become_those_of_segments() -> None:
    contexts = ["x", "x", "y", "y", "y", "x", None, None]
    rows = pd.DataFrame(
        {"user": 1, "item": np.arange(8), "time": np.arange(8), "context": contexts}
    )
    source = FrameSource(
        events_of(rows), FrameOptions(historical_fraction=0.25, exclude_seen=False)
    )
    stream = source.stream(shape(num_segments=3))

    assert stream.context_id.tolist() == [[1, 0, 0]]  # y y | y x: a tie | nobody knows
    assert stream.is_shift.tolist() == [[True, True, False]]


def test_a_drift_begins_a_new_context_of_its_device_in_the_order_of_time() -> None:
    rows = pd.DataFrame(
        {
            "user": [1] * 4 + [2] * 4,
            "item": np.arange(8),
            "time": [3, 2, 1, 0, 0, 1, 2, 3],
            "drift": [False, True, False, False, False, False, False, True],
        }
    )
    source = FrameSource(
        events_of(rows), FrameOptions(historical_fraction=0.25, exclude_seen=False)
    )
    stream = source.stream(shape(num_segments=3))

    assert stream.context_id.tolist() == [[0, 1, 1], [0, 0, 1]]
    assert stream.is_shift.tolist() == [[False, True, False], [False, False, True]]


def test_rare_devices_and_items_are_left_out_and_contexts_stay_with_their_events() -> None:
    rows = pd.DataFrame(
        {
            "user": [1, 2, 2, 2, 2, 3, 3, 3, 3],
            "item": [0, 0, 1, 2, 3, 3, 2, 1, 0],
            "time": range(9),
            "context": [0, 5, 5, 6, 6, 7, 7, 8, 8],
        }
    )
    options = FrameOptions(min_user_events=2, historical_fraction=0.25, exclude_seen=False)
    stream = FrameSource(events_of(rows), options).stream(shape(num_segments=1))
    assert stream.num_devices == 2
    assert stream.context_id.tolist() == [[2], [4]]
    first = FrameSource(events_of(rows), options).stream(shape(1, num_devices=1))
    assert first.context_id.tolist() == [[2]]


def test_contexts_count_in_the_name_of_the_content() -> None:
    plain, labeled, other = (
        FrameSource(events_of(rows), FrameOptions()).content_hash()
        for rows in (frame(), frame(context=[0, 0, 1, 1]), frame(context=[0, 1, 1, 1]))
    )
    assert len({plain, labeled, other}) == 3


def test_from_what_nobody_knows_there_is_no_shift() -> None:
    offsets, bounds = np.array([0, 4]), np.array([[1, 2, 3, 4]])
    context_id, is_shift = segment_contexts(np.array([-1, -1, 2, 1]), offsets, bounds)
    assert context_id is not None and is_shift is not None
    assert context_id.tolist() == [[-1, 2, 1]]
    assert is_shift.tolist() == [[False, False, True]]
