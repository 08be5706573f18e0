import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_flower.tasks.recommendation.history import HistoricalData


def by_hand() -> HistoricalData:
    # devices 3, 5, 6 and 9 with 4, 0, 1 and 2 events
    items = np.array([1, 2, 3, 4, 5, 6, 7], dtype=np.int32)
    return HistoricalData(np.array([3, 5, 6, 9]), np.array([0, 4, 4, 5, 7]), items, 40, 2)


def test_every_event_but_the_first_of_a_device_is_an_example() -> None:
    data = by_hand()
    assert (data.num_devices, data.num_examples) == (4, 4)
    assert data.target.tolist() == [2, 3, 4, 7]
    assert data.device.tolist() == [3, 3, 3, 9]
    assert data.history().tolist() == [[1, 0], [1, 2], [2, 3], [6, 0]]
    assert data.history(np.array([3, 1])).tolist() == [[6, 0], [1, 2]]


def test_a_lag_goes_back_but_not_beyond_the_first_example() -> None:
    data = by_hand()
    rows = np.arange(4)
    assert (data.lagged(rows, np.zeros(4, dtype=np.int64)) == data.history()).all()
    assert data.lagged(rows, np.full(4, 1)).tolist() == [[1, 0], [1, 0], [1, 2], [6, 0]]
    assert data.lagged(rows, np.full(4, 99)).tolist() == [[1, 0], [1, 0], [1, 0], [6, 0]]
    with pytest.raises(ValueError, match="lag must be >= 0, got -1"):
        data.lagged(rows, np.array([0, -1, 0, 0]))


def test_popularity_counts_all_historical_items() -> None:
    assert by_hand().popularity()[:9].tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 0]
    assert len(by_hand().popularity()) == 41


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 3), st.booleans())
def test_an_epoch_visits_every_example_once(batch_size: int, epoch: int, shuffle: bool) -> None:
    data = by_hand()
    batches = list(data.batches(batch_size, epoch, seed=0, num_negatives=3, shuffle=shuffle))
    rows = np.concatenate([batch.rows for batch in batches])
    assert sorted(rows.tolist()) == [0, 1, 2, 3]
    assert shuffle or rows.tolist() == [0, 1, 2, 3]
    for batch in batches:
        assert len(batch.rows) <= batch_size
        assert batch.candidates.shape == (len(batch.rows), 4)
        assert (batch.candidates[:, 0] == data.target[batch.rows]).all()
        assert (batch.history == data.history(batch.rows)).all()
        assert (batch.device == data.device[batch.rows]).all()


def test_negatives_are_new_in_each_epoch_and_the_same_in_any_batch() -> None:
    data = by_hand()

    def negatives(epoch: int, batch_size: int) -> list[list[int]]:
        batches = list(data.batches(batch_size, epoch, 0, 5))
        order = np.argsort(np.concatenate([batch.rows for batch in batches]))
        return np.concatenate([batch.candidates for batch in batches])[order].tolist()

    assert negatives(0, 2) == negatives(0, 4) == negatives(0, 2)
    assert negatives(0, 2) != negatives(1, 2)


def test_negatives_differ_from_event_to_event_and_survive_a_split() -> None:
    data = by_hand()
    whole = data.batch(np.arange(4), 0, 0, 9).candidates[:, 1:]
    assert len({tuple(row) for row in whole.tolist()}) == 4
    for part in data.split(0.5, seed=0):
        found = part.batch(np.arange(part.num_examples), 0, 0, 9)
        assert (found.candidates[:, 1:] == whole[np.isin(data.device, found.device)]).all()


def test_negatives_avoid_what_the_device_has_in_its_past() -> None:
    batch = next(by_hand().batches(4, 0, 0, 38, shuffle=False))
    assert set(batch.candidates[2, 1:37].tolist()) == set(range(5, 41))  # device 3 has 1, 2, 3, 4
    assert set(batch.candidates[3, 1:].tolist()) == set(range(1, 41)) - {6, 7}


def test_a_split_parts_whole_devices_and_loses_none() -> None:
    events, rng = np.array([0, 3, 5, 9, 14, 15, 18]), np.random.default_rng(0)
    data = HistoricalData(np.arange(6), events, rng.integers(1, 9, 18).astype(np.int32), 9, 3)
    train, validation = data.split(0.3, seed=0)
    assert (train.num_devices, validation.num_devices) == (4, 2)
    assert sorted([*train.device_ids, *validation.device_ids]) == list(range(6))
    for part in (train, validation):
        for device in part.device_ids:
            assert (
                part.history()[part.device == device] == data.history()[data.device == device]
            ).all()
            assert (part.target[part.device == device] == data.target[data.device == device]).all()
    assert train.device_ids.tolist() == data.split(0.3, seed=0)[0].device_ids.tolist()
    assert any(
        data.split(0.3, seed=s)[1].device_ids.tolist() != validation.device_ids.tolist()
        for s in range(1, 5)
    )


def test_a_split_of_zero_leaves_everything_for_training() -> None:
    train, validation = by_hand().split(0.0, seed=0)
    assert train.content_hash() == by_hand().content_hash()
    assert (validation.num_devices, validation.num_examples) == (0, 0)
    assert [part.num_devices for part in by_hand().split(0.01, seed=0)] == [3, 1]
    with pytest.raises(ValueError, match=r"fraction must be in \[0, 1\), got 1"):
        by_hand().split(1, seed=0)


def test_the_last_example_of_each_device_can_be_held_out() -> None:
    train, held_out = by_hand().split_last()
    assert train.target.tolist() == [
        2,
        3,
    ]  # device 3 keeps 1, 2, 3; of device 9 only the first event is left
    assert train.items.tolist() == [1, 2, 3, 5, 6] and train.offsets.tolist() == [0, 3, 3, 4, 5]
    assert held_out.target.tolist() == [4, 7] and held_out.device.tolist() == [3, 9]
    assert held_out.history().tolist() == [[2, 3], [6, 0]]
    assert held_out.lagged(np.arange(2), np.array([1, 0])).tolist() == [[1, 2], [6, 0]]
    assert held_out.lagged(np.arange(2), np.array([9, 9])).tolist() == [[1, 0], [6, 0]]
    with pytest.raises(ValueError, match="first_example must be >= 1, got 0"):
        HistoricalData(
            held_out.device_ids,
            held_out.offsets,
            held_out.items,
            40,
            2,
            first_example=np.zeros(4, int),
        )


def test_nothing_of_what_is_held_out_is_in_training() -> None:
    train, held_out = by_hand().split_last()
    negatives = np.concatenate([batch.candidates[:, 1:] for batch in train.batches(2, 0, 0, 37)])
    assert 4 in negatives  # if they avoided the item that is held out, they would tell it
    assert not np.isin([1, 2, 3], negatives).any()
    avoided = held_out.batch(np.array([0]), 0, 0, 36).candidates[0, 1:]
    assert set(avoided.tolist()) == set(range(5, 41))


def test_a_part_of_what_is_held_out_keeps_its_examples() -> None:
    _, held_out = by_hand().split_last()
    parts = held_out.split(0.5, seed=0)
    assert sorted(target for part in parts for target in part.target.tolist()) == [4, 7]


def test_the_content_hash_changes_with_an_item_a_device_or_a_length() -> None:
    data = by_hand()
    others = [
        HistoricalData(data.device_ids, data.offsets, data.items[::-1], 40, 2),
        HistoricalData(data.device_ids + 1, data.offsets, data.items, 40, 2),
        HistoricalData(data.device_ids, np.array([0, 3, 4, 5, 7]), data.items, 40, 2),
        HistoricalData(data.device_ids, data.offsets, data.items, 41, 2),
        HistoricalData(data.device_ids, data.offsets, data.items, 40, 3),
        HistoricalData(data.device_ids, data.offsets, data.items, 40, 2, exclude_seen=False),
        *data.split_last(),
    ]
    assert len({data.content_hash(), *(other.content_hash() for other in others)}) == 9
    ones = HistoricalData(
        data.device_ids, data.offsets, data.items, 40, 2, first_example=np.ones(4, int)
    )
    assert ones.content_hash() == data.content_hash()
    assert by_hand().content_hash() == data.content_hash()


def test_a_batch_size_below_one_is_an_error() -> None:
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        next(by_hand().batches(0, 0, 0, 1))
