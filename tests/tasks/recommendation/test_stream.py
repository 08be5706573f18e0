import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.stream import Stream, TruthAccessError, TruthReader
from cdc_flower.tasks.data.interactions import CutOptions
from cdc_flower.tasks.recommendation.cut_streams import event_stream
from cdc_flower.tasks.recommendation.interests import shifting_interests
from cdc_flower.tasks.recommendation.stream import Cut, EventStream, Ranking


@dataclass(frozen=True)
class Table:
    """A stand-in for a table of events that was read from a file."""

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    num_items: int = 50
    times_s: NDArray[np.float64] | None = None
    source: str = "table.csv"


def by_hand(**options: object) -> EventStream:
    # device 0: 3 historical events, then segments [4], [5, 6]; device 1: no history, segments [7,
    # 8], [9]; device 2: nothing at all
    table = Table(np.array([0, 6, 9, 9]), np.arange(1, 10, dtype=np.int32))
    bounds = np.array([[3, 4, 6], [6, 8, 9], [9, 9, 9]])
    known = {name: options.pop(name, None) for name in ("context_id", "is_shift")}
    values: Any = {"history_length": 3, "num_negatives": 5} | options
    cut = Cut(bounds, np.array([0.0, 60.0, 120.0]), **known)  # type: ignore[arg-type]
    return EventStream(table, cut, Ranking(**values), seed=0)


def true_items(stream: EventStream, ids: list[int], segment: int) -> list[int]:
    batch = stream.segment(np.array(ids), segment)
    positive, _, _ = batch.truth.read(TruthReader())
    return batch.candidates[np.arange(len(positive)), positive].tolist()


def test_a_segment_by_hand() -> None:
    stream: Stream = by_hand()
    batch = stream.segment(np.array([1, 2, 0]), 1)
    assert batch.num_events.tolist() == [1, 0, 2]
    assert batch.row.tolist() == [0, 2, 2]
    assert batch.slot.tolist() == [0, 0, 1]
    assert batch.history.tolist() == [[7, 8, 0], [2, 3, 4], [3, 4, 5]]
    assert batch.times_s.tolist() == [90.0, 75.0, 105.0]
    assert batch.candidates.shape == (3, 6)
    assert true_items(by_hand(), [1, 2, 0], 1) == [9, 5, 6]


def test_an_event_that_nothing_precedes_is_never_scored() -> None:
    stream = by_hand()
    assert stream.num_events(np.array([0, 1, 2]), 0).tolist() == [1, 1, 0]
    batch = stream.segment(np.array([1]), 0)
    assert batch.history.tolist() == [[7, 0, 0]]
    assert batch.times_s.tolist() == [45.0]  # still the second of two in its minute
    assert true_items(stream, [1], 0) == [8]


def test_the_true_item_occurs_once_and_no_other_candidate_is_seen() -> None:
    stream = by_hand(num_negatives=40)
    batch = stream.segment(np.array([0]), 1)
    assert not set(batch.candidates[0].tolist()) & {1, 2, 3, 4, 6}
    assert (batch.candidates[0] == 5).sum() == 1
    careless = by_hand(num_negatives=400, exclude_seen=False).segment(np.array([0]), 1)
    assert set(careless.candidates[0].tolist()) == set(range(1, 51))
    assert (careless.candidates[0] == 5).sum() == 1


def test_the_true_column_is_uniform_and_hidden() -> None:
    events = shifting_interests(200, 2, seed=0)
    cut = Cut(events.bounds, np.arange(3.0))
    stream = EventStream(events, cut, Ranking(num_negatives=4), seed=0)
    batch = stream.segment(np.arange(200), 0)
    positive, context_id, is_shift = batch.truth.read(TruthReader())
    shares = np.bincount(positive, minlength=5) / len(positive)
    assert np.abs(shares - 0.2).max() < 0.05
    assert (context_id == -1).all() and not is_shift.any()
    with pytest.raises(TruthAccessError):
        batch.truth.positive  # noqa: B018


def test_answers_depend_neither_on_order_nor_on_company_nor_on_earlier_calls() -> None:
    events = shifting_interests(9, 3, seed=0)
    stream = EventStream(events, Cut(events.bounds, np.arange(4.0)), seed=0)
    whole = stream.segment(np.arange(9), 2)
    stream.segment(np.array([1]), 0)
    part = stream.segment(np.array([7, 4]), 2)
    for row, device in enumerate([7, 4]):
        for name in ("candidates", "history", "times_s", "slot"):
            assert (
                getattr(part, name)[part.row == row] == getattr(whole, name)[whole.row == device]
            ).all()


def test_a_device_sees_the_same_data_whoever_else_is_in_the_table() -> None:
    small, large = (shifting_interests(n, 3, seed=0) for n in (3, 11))
    streams = [
        EventStream(events, Cut(events.bounds, np.arange(4.0)), seed=0) for events in (small, large)
    ]
    batches = [stream.segment(np.array([2, 0]), 1) for stream in streams]
    assert (batches[0].candidates == batches[1].candidates).all()
    assert (batches[0].history == batches[1].history).all()


def test_a_device_sees_the_same_data_however_much_its_neighbors_have() -> None:
    batches, labels = [], []
    for neighbor in (4, 9):  # events of device 0; device 1 always has items 21..26
        items = np.concatenate([np.arange(1, neighbor + 1), np.arange(21, 27)]).astype(np.int32)
        stream = event_stream(
            Table(np.array([0, neighbor, neighbor + 6]), items), num_segments=2, seed=0
        )
        batches.append(stream.segment(np.array([1]), 1))
        labels.append(stream.labelled(TruthReader(), np.array([1]), 1, 3, 9))
    assert (batches[0].candidates == batches[1].candidates).all()
    assert (labels[0].candidates == labels[1].candidates).all()


def test_a_stream_survives_pickling() -> None:
    stream = by_hand()
    copy = pickle.loads(pickle.dumps(stream))
    assert (
        copy.segment(np.array([0]), 1).candidates == stream.segment(np.array([0]), 1).candidates
    ).all()


def test_recent_items_are_those_before_the_segment() -> None:
    stream = by_hand()
    assert stream.recent(np.array([0, 1, 2]), 0).tolist() == [[1, 2, 3], [0, 0, 0], [0, 0, 0]]
    assert stream.recent(np.array([1, 0]), 1).tolist() == [[7, 8, 0], [2, 3, 4]]
    assert stream.recent(np.array([0]), 2).tolist() == [[4, 5, 6]]


def test_recent_items_can_be_asked_for_as_they_were_some_events_earlier() -> None:
    stream, everyone = by_hand(), np.array([0, 1, 2])
    assert (stream.recent(everyone, 1, lag=0) == stream.recent(everyone, 1)).all()
    assert stream.recent(everyone, 1, lag=1).tolist() == [[1, 2, 3], [7, 0, 0], [0, 0, 0]]
    # not further back than the first event; a device that has none yet has none
    assert stream.recent(everyone, 1, lag=99).tolist() == [[1, 0, 0], [7, 0, 0], [0, 0, 0]]
    assert stream.recent(everyone, 0, lag=2).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="lag must be >= 0, got -1"):
        stream.recent(everyone, 0, lag=-1)


def test_a_cut_of_the_last_event_scores_it_alone() -> None:
    # devices with 6, 3 and 2 events: the third has too few, so it is not scored
    table = Table(np.array([0, 6, 9, 11]), np.arange(1, 12, dtype=np.int32))
    last, ranking = CutOptions(cut="last"), Ranking(history_length=3, num_negatives=5)
    stream = event_stream(table, last, num_segments=1, seed=0, ranking=ranking)
    batch = stream.segment(np.arange(3), 0)
    assert batch.num_events.tolist() == [1, 1, 0]
    assert batch.history.tolist() == [[3, 4, 5], [7, 8, 0]]
    assert true_items(stream, [0, 1, 2], 0) == [6, 9]
    assert stream.historical().items.tolist() == [1, 2, 3, 4, 5, 7, 8, 10, 11]
    with pytest.raises(UserError, match=r"num_segments must be 1 with data.cut=last, got 2"):
        event_stream(table, last, num_segments=2, seed=0)


def test_labelled_examples_are_the_newest_before_the_segment() -> None:
    batch = by_hand().labelled(TruthReader(), np.array([0, 2, 1]), 1, 2, 4)
    assert batch.num_examples.tolist() == [2, 0, 1]
    assert batch.row.tolist() == [0, 0, 2]
    assert batch.slot.tolist() == [0, 1, 0]
    assert batch.history.tolist() == [[1, 2, 0], [1, 2, 3], [7, 0, 0]]
    assert batch.candidates[:, 0].tolist() == [3, 4, 8]
    assert batch.candidates.shape == (3, 5)


def test_labelled_negatives_may_hold_the_future_but_not_the_past() -> None:
    batch = by_hand().labelled(TruthReader(), np.array([1, 0]), 1, 1, 48)
    assert set(batch.candidates[1, 1:47].tolist()) == set(range(5, 51))
    assert set(batch.candidates[0, 1:].tolist()) == set(range(1, 51)) - {7, 8}


def test_zero_labelled_examples_cost_nothing() -> None:
    batch = by_hand().labelled(TruthReader(), np.array([0, 1]), 1, 0, 4)
    assert batch.num_examples.tolist() == [0, 0] and batch.candidates.shape == (0, 5)


def test_only_a_truth_reader_gets_labels() -> None:
    with pytest.raises(TruthAccessError, match="str does not"):
        by_hand().labelled("strategy", np.array([0]), 1, 2, 4)  # type: ignore[arg-type]


def test_the_historical_part_ends_at_the_cut() -> None:
    data = by_hand().historical()
    assert data.offsets.tolist() == [0, 3, 3, 3]
    assert data.items.tolist() == [1, 2, 3]
    assert data.target.tolist() == [2, 3]
    assert (data.num_items, data.history_length, data.num_devices) == (50, 3, 3)


def test_known_contexts_reach_the_reader() -> None:
    context_id, is_shift = (
        np.array([[0, 1], [2, 2], [0, 0]]),
        np.array([[False, True], [False] * 2, [False] * 2]),
    )
    batch = by_hand(context_id=context_id, is_shift=is_shift).segment(np.array([1, 0]), 1)
    _, context, shifted = batch.truth.read(TruthReader())
    assert context.tolist() == [2, 1] and shifted.tolist() == [False, True]


def test_a_calendar_stream_keeps_real_times_from_the_cut_on() -> None:
    table = Table(
        np.array([0, 5]),
        np.arange(1, 6, dtype=np.int32),
        times_s=1e9 + np.array([0.0, 10, 20, 30, 40]),
    )
    options = CutOptions(cut="calendar", historical_fraction=0.5)
    stream = event_stream(table, options, num_segments=2, seed=0)
    assert stream.segment_starts_s == pytest.approx([0, 10, 20])
    assert stream.segment(np.array([0]), 0).times_s.tolist() == [0.0]
    assert stream.segment(np.array([0]), 1).times_s.tolist() == [10.0, 20.0]


def test_a_stream_cut_by_events_lasts_segment_s_a_segment() -> None:
    table = Table(np.array([0, 8]), np.arange(1, 9, dtype=np.int32))
    options = CutOptions(historical_fraction=0.5, segment_s=10)
    stream = event_stream(table, options, num_segments=2, seed=0)
    assert stream.segment_starts_s.tolist() == [0, 10, 20]
    assert stream.segment(np.array([0]), 1).times_s.tolist() == [12.5, 17.5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cut": "calender"}, "data.cut must be one of .*, got calender; did you mean calendar"),
        ({"cut": "calendar"}, "data.cut=calendar needs times and table.csv has order only"),
        ({"segment_s": 0}, "data.segment_s must be a number > 0, got 0"),
    ],
)
def test_a_wrong_configuration_names_its_key(options: dict, message: str) -> None:
    table = Table(np.array([0, 8]), np.arange(1, 9, dtype=np.int32))
    with pytest.raises(UserError, match=message):
        event_stream(table, CutOptions(**options), num_segments=2, seed=0)


@pytest.mark.parametrize("name", ["history_length", "num_negatives"])
def test_a_ranking_of_nothing_names_its_key(name: str) -> None:
    with pytest.raises(UserError, match=f"data.{name} must be >= 1, got 0"):
        Ranking(**{name: 0})


def test_a_stream_without_segments_is_refused() -> None:
    table = Table(np.array([0, 8]), np.arange(1, 9, dtype=np.int32))
    with pytest.raises(UserError, match="num_segments must be >= 1, got 0"):
        event_stream(table, num_segments=0, seed=0)


def test_one_item_cannot_be_ranked() -> None:
    table = Table(np.array([0, 3]), np.ones(3, dtype=np.int32), num_items=1)
    with pytest.raises(UserError, match="a stream needs >= 2 items to rank, got 1"):
        event_stream(table, num_segments=1, seed=0)


def test_a_device_or_segment_out_of_range_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"segment must be in 0..1, got 2"):
        by_hand().segment(np.array([0]), 2)
    with pytest.raises(ValueError, match=r"device_ids must be in 0..2, got -1"):
        by_hand().recent(np.array([0, -1]), 0)
    with pytest.raises(ValueError, match=r"context_id must have shape \(3, 2\), got \(3, 3\)"):
        by_hand(context_id=np.zeros((3, 3), dtype=np.int64))
