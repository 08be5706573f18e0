"""Slots by hand: what a decoder holds on devices is selected, replaced and renumbered."""

import numpy as np

from cdc_flower.devices.slots import Slot, flattened, restored, shifted


def slot() -> Slot:
    """Three devices: the first and the last hold parameters, and each a number of its own."""
    return Slot({"base": np.array([0, -1, 2])}, {"gate": np.array([[1.0], [2.0], [3.0]])})


def test_none_stays_none_when_indices_are_shifted() -> None:
    assert shifted(np.array([0, -1, 2]), 5).tolist() == [5, -1, 7]


def test_the_rows_of_some_devices_are_replaced_and_the_slot_from_before_is_left() -> None:
    before = slot()
    changed = Slot({"base": np.array([1, -1])}, {"gate": np.array([[8.0], [9.0]])})
    after = before.update(np.array([2, 0]), changed, offset=10)
    assert after.index["base"].tolist() == [-1, -1, 11]
    assert after.rows["gate"].tolist() == [[9.0], [2.0], [8.0]]
    assert before.index["base"].tolist() == [0, -1, 2]
    assert before.rows["gate"].tolist() == [[1.0], [2.0], [3.0]]


def test_devices_are_selected_in_the_order_asked_for() -> None:
    some = slot().select(np.array([2, 1]))
    assert some.index["base"].tolist() == [2, -1]
    assert some.rows["gate"].tolist() == [[3.0], [2.0]]


def test_devices_without_a_deployment_hold_none_and_zeros() -> None:
    empty = slot().empty(2)
    assert empty.index["base"].tolist() == [-1, -1]
    assert empty.rows["gate"].tolist() == [[0.0], [0.0]]


def test_indices_are_renumbered_and_none_is_the_last_of_the_new_ones() -> None:
    after = slot().renumbered(np.array([4, 7, 5, -1]))
    assert after.index["base"].tolist() == [4, -1, 5]
    assert after.rows["gate"].tolist() == [[1.0], [2.0], [3.0]]


def test_slots_come_back_from_their_records_though_one_name_begins_with_another() -> None:
    slots = {"low": slot(), "low_rank": Slot({"base": np.array([3, 3, 3])})}
    back = restored(flattened(slots, "index"), flattened(slots, "rows"))
    assert {name: held.index["base"].tolist() for name, held in back.items()} == {
        "low": [0, -1, 2],
        "low_rank": [3, 3, 3],
    }
    assert {name: list(held.rows) for name, held in back.items()} == {
        "low": ["gate"],
        "low_rank": [],
    }
    assert {name: list(held.index) for name, held in back.items()} == {
        "low": ["base"],
        "low_rank": ["base"],
    }


def test_memory_is_that_of_all_arrays() -> None:
    assert slot().nbytes == 3 * 8 + 3 * 8
