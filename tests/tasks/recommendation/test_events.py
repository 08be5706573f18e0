"""Raw ids and times into numbered, sorted events."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.recommendation.events import EventTable

EVENTS = st.lists(
    st.tuples(st.integers(-3, 12), st.sampled_from(["9", "10", "b", "B", "é"]), st.integers(0, 4)),
    max_size=30,
)


def test_three_events_of_two_devices_are_sorted_by_device_then_time() -> None:
    # Device 2 comes before device 10 as a number; item 7 is item 1 and item 30 is item 2.
    table = EventTable.build(["10", "2", "2"], [30, 30, 7], [5.0, 9.0, 8.0], "FILE")
    assert table.device_names == ["2", "10"]
    assert table.item_names == ["7", "30"]
    assert table.offsets.tolist() == [0, 2, 3]
    assert table.items.tolist() == [1, 2, 2]
    assert table.times_s is not None and table.times_s.tolist() == [8.0, 9.0, 5.0]
    assert (table.num_devices, table.num_items, table.num_events, table.num_skipped) == (2, 2, 3, 0)
    assert (table.offsets.dtype, table.items.dtype, table.times_s.dtype) == (
        np.int64,
        np.int32,
        np.float64,
    )


def test_one_id_that_is_no_integer_makes_the_order_that_of_characters() -> None:
    assert EventTable.build(["10", "2", "x"], [1, 1, 1], None, "FILE").device_names == [
        "10",
        "2",
        "x",
    ]


def test_ids_that_are_equal_as_numbers_stay_two_devices() -> None:
    assert EventTable.build(["7", "07", "-1"], [1, 1, 1], None, "FILE").device_names == [
        "-1",
        "07",
        "7",
    ]


def test_digits_beyond_what_python_turns_into_integers_are_text() -> None:
    assert (
        EventTable.build(["2", "1" * 5000, "10"], [1, 1, 1], None, "FILE").device_names[-1] == "2"
    )


def test_strings_integers_and_arrays_of_the_same_ids_give_the_same_table() -> None:
    ids = [3, 1, 3, 20]
    tables = [
        EventTable.build(users, users, None, "FILE")
        for users in (ids, [str(i) for i in ids], np.array(ids), [3, "1", np.int32(3), "20"])
    ]
    assert len({table.content_hash() for table in tables}) == 1
    assert all(table.device_names == ["1", "3", "20"] for table in tables)


def test_no_events_make_a_table_of_no_devices() -> None:
    table = EventTable.build([], [], [], "FILE")
    assert (table.num_devices, table.num_items, table.num_events, table.offsets.tolist()) == (
        0,
        0,
        0,
        [0],
    )


@pytest.mark.parametrize("times", [None, np.zeros(5000)])
def test_thousands_of_ties_keep_the_order_of_the_rows(times) -> None:
    table = EventTable.build(np.arange(5000) % 2, np.arange(5000), times, "FILE")
    assert (np.diff(table.items.reshape(2, 2500)) == 2).all()


@settings(max_examples=40, deadline=None)
@given(EVENTS, st.booleans())
def test_the_table_equals_a_plain_stable_sort(
    events: list[tuple[int, str, int]], timed: bool
) -> None:
    users, items, times = ([event[k] for event in events] for k in range(3))
    table = EventTable.build(users, items, times if timed else None, "FILE")
    expected = sorted(
        events, key=(lambda event: (event[0], event[2])) if timed else (lambda event: event[0])
    )
    device = np.repeat(np.arange(table.num_devices), np.diff(table.offsets))
    assert [table.device_names[d] for d in device] == [str(event[0]) for event in expected]
    assert [table.item_names[item - 1] for item in table.items] == [event[1] for event in expected]
    assert (table.times_s is None) != timed
    assert table.times_s is None or table.times_s.tolist() == [event[2] for event in expected]
    assert table.device_names == [str(number) for number in sorted(set(users))]


def test_the_first_devices_keep_the_whole_catalog() -> None:
    table = EventTable.build([1, 2, 3, 1], [50, 10, 20, 20], [0, 1, 2, 3], "FILE", num_skipped=4)
    first = table.first_devices(2)
    assert first.offsets.tolist() == [0, 2, 3]
    assert first.items.tolist() == [3, 2, 1]
    assert first.times_s is not None and first.times_s.tolist() == [0, 3, 1]
    assert (first.device_names, first.num_items, first.num_skipped) == (["1", "2"], 3, 4)


def test_all_devices_are_the_table_itself() -> None:
    table = EventTable.build([1, 2], [1, 2], None, "FILE")
    assert table.first_devices(2).content_hash() == table.content_hash()


def test_more_devices_than_the_file_has_is_a_mistake_of_the_user() -> None:
    table = EventTable.build([1, 2], [1, 2], None, "FILE")
    with pytest.raises(UserError) as caught:
        table.first_devices(5000)
    assert (
        str(caught.value)
        == "fleet.num_devices must be <= 2, the number of devices in FILE, got 5000"
    )
    with pytest.raises(UserError, match=r"fleet.num_devices must be >= 1, got 0"):
        table.first_devices(0)


def test_the_hash_changes_with_an_item_a_time_or_a_device_and_with_nothing_else() -> None:
    def hash_of(
        users: list[int], items: list[str], times: list[float] | None, source: str = "A"
    ) -> str:
        return EventTable.build(users, items, times, source).content_hash()

    base = hash_of([1, 1, 2], ["a", "b", "a"], [0, 1, 0])
    assert base == hash_of([1, 1, 2], ["a", "b", "a"], [0, 1, 0], "B")
    assert base == hash_of(
        [2, 1, 1], ["a", "b", "a"], [0, 1, 0]
    )  # the order of the rows of one file
    others = [
        hash_of([1, 1, 2], ["b", "b", "a"], [0, 1, 0]),
        hash_of([1, 1, 2], ["a", "b", "a"], [0, 2, 0]),
        hash_of([1, 2, 2], ["a", "b", "a"], [0, 1, 2]),
        hash_of([1, 1, 2], ["a", "b", "a"], None),
    ]
    assert len({base, *others}) == 5


def test_rare_devices_and_items_are_left_out_in_one_pass_and_the_others_are_numbered_anew() -> None:
    # user 1: a b c, user 2: a b, user 3: a, user 4: b c d; a 3 times, b 3, c 2, d 1
    users, items = [1, 1, 1, 2, 2, 3, 4, 4, 4], ["a", "b", "c", "a", "b", "a", "b", "c", "d"]
    table = EventTable.build(users, items, list(range(9)), "FILE")

    kept = table.frequent(min_user_events=2, min_item_events=3)
    # User 3 has one event. Of a, b, c and d only a and b are frequent: user 4 keeps one event of
    # three.
    assert kept.device_names == ["1", "2", "4"] and kept.item_names == ["a", "b"]
    assert kept.offsets.tolist() == [0, 2, 4, 5]
    assert kept.items.tolist() == [1, 2, 1, 2, 2]
    assert kept.times_s is not None and kept.times_s.tolist() == [0, 1, 3, 4, 6]

    # Counted in the table as it is: c is frequent enough although user 4, who is not, gives one of
    # its two events.
    users[8] = 5
    again = EventTable.build(users, items, None, "FILE").frequent(
        min_user_events=3, min_item_events=2
    )
    assert (again.device_names, again.item_names, again.items.tolist()) == (
        ["1"],
        ["a", "b", "c"],
        [1, 2, 3],
    )


def test_minimums_of_one_leave_the_table_as_it_is_and_too_high_ones_are_an_error() -> None:
    table = EventTable.build([1, 1, 2], [5, 6, 6], None, "FILE")
    assert table.frequent(1, 1) is table
    with pytest.raises(
        UserError,
        match=r"data\.min_user_events=3 and data.min_item_events=1 leave no event of FILE",
    ):
        table.frequent(min_user_events=3)
    with pytest.raises(
        UserError, match=r"data\.min_item_events must be a whole number >= 1, got 0"
    ):
        table.frequent(min_item_events=0)


@given(EVENTS, st.integers(1, 4), st.integers(1, 4))
def test_what_is_left_keeps_its_order_and_leaves_no_gap(
    rows: list, least: int, least_item: int
) -> None:
    table = EventTable.build(
        [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows], "FILE"
    )
    try:
        kept = table.frequent(least, least_item)
    except UserError:
        return
    users, items = [str(row[0]) for row in rows], [row[1] for row in rows]
    device = np.repeat(np.arange(table.num_devices), np.diff(table.offsets))
    wanted = [
        (table.device_names[d], table.item_names[i - 1])
        for d, i in zip(device, table.items, strict=True)
        if users.count(table.device_names[d]) >= least
        and items.count(table.item_names[i - 1]) >= least_item
    ]
    device = np.repeat(np.arange(kept.num_devices), np.diff(kept.offsets))
    found = [
        (kept.device_names[d], kept.item_names[i - 1])
        for d, i in zip(device, kept.items, strict=True)
    ]
    assert found == wanted
    assert (np.diff(kept.offsets) > 0).all() and set(kept.items) == set(
        range(1, kept.num_items + 1)
    )


@pytest.mark.parametrize(
    ("users", "items", "times", "rule"),
    [
        ([1, 2], [1], None, r"items must be as many as users \(2\), got 1"),
        ([1], [1], [0, 1], r"times_s must be as many as users \(1\), got shape \(2,\)"),
        ([1], [1], [np.nan], "times_s must be finite, got nan"),
        ([1, None], [1, 1], None, "user ids must be strings or integers, got None"),
        (
            [1],
            np.array([1.5]),
            None,
            "item ids must be strings or integers, got an array of float64",
        ),
        (np.zeros((2, 2), int), [1], None, "user ids must be a flat sequence, got 2 dimensions"),
    ],
)
def test_a_programming_error_says_the_rule_and_the_value(users, items, times, rule) -> None:
    with pytest.raises(ValueError, match=rule):
        EventTable.build(users, items, times, "FILE")
