import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from video_tiny import video_stream

from cdc_flower.core.errors import UserError
from cdc_flower.core.stream import TruthAccessError
from cdc_flower.devices.app import LabelBudget
from cdc_flower.tasks.data import data_of
from cdc_flower.tasks.recommendation.metrics import RankingMetrics
from cdc_flower.tasks.video.moving_digits import digits_stream
from cdc_flower.tasks.video.questions import ANSWERS, WORDS
from cdc_flower.tasks.video.stream import VideoStream

IDS = np.arange(4)


def test_a_device_has_the_same_clips_whatever_the_number_of_devices_and_segments() -> None:
    small, large = digits_stream(2, 3, seed=1), digits_stream(5, 6, seed=1)
    for segment in range(3):
        one, other = (
            stream.segment(np.arange(2), segment).history[:, 0] for stream in (small, large)
        )
        clips = small.table.clips, large.table.clips
        np.testing.assert_array_equal(clips[0].frames(one), clips[1].frames(other))
        np.testing.assert_array_equal(clips[0].tokens(one), clips[1].tokens(other))


@given(st.lists(st.integers(0, 143), min_size=1, max_size=6))
def test_clips_do_not_depend_on_what_else_is_asked_for(ids: list[int]) -> None:
    clips = video_stream().table.clips
    together = clips.frames(np.array(ids))
    assert together.dtype == np.uint8 and together.shape[1:] == (3, 32, 32, 3)
    fresh = pickle.loads(pickle.dumps(clips))
    for place, clip in enumerate(ids):
        np.testing.assert_array_equal(fresh.frames(np.array([clip]))[0], together[place])


def test_a_segment_opens_with_the_clip_of_its_first_query() -> None:
    stream = video_stream()
    data = stream.segment(IDS, 2)
    clips, queries = stream.opening(IDS, 2)
    np.testing.assert_array_equal(queries, data.history[data.slot == 0, 0])
    np.testing.assert_array_equal(clips, stream.table.clips.clip_of(queries))
    assert (data.times_s > stream.segment_starts_s[2]).all()


def test_the_truth_is_locked_and_labels_are_paid_for() -> None:
    stream = video_stream()
    with pytest.raises(TruthAccessError):
        _ = stream.segment(IDS, 0).truth.positive
    with pytest.raises(TruthAccessError):
        stream.labelled(object(), IDS, 1, 4, 4)  # type: ignore[arg-type]
    examples = stream.labelled(LabelBudget(), IDS, 1, 6, 4)
    assert (examples.num_examples == 6).all()
    np.testing.assert_array_equal(
        examples.candidates[:, 0], stream.table.answer[examples.history[:, 0]]
    )
    now = stream.segment(IDS, 1).history[:, 0]
    assert examples.history.max() < now.max() and not np.isin(examples.history[:, 0], now).any()


@pytest.mark.parametrize("captions", [False, True])
def test_the_true_candidate_is_where_the_truth_says(captions: bool) -> None:
    stream = video_stream(captions)
    data = stream.segment(IDS, 1)
    column, place, _ = data.truth.read(RankingMetrics())
    chosen = data.candidates[np.arange(len(column)), column]
    np.testing.assert_array_equal(chosen, stream.table.answer[data.history[:, 0]])
    np.testing.assert_array_equal(place, stream.table.clips.place[IDS, 3 + 1])  # type: ignore[attr-defined]
    if captions:  # a device searches the clips of its own segment
        assert (
            np.sort(data.candidates[data.row == 2], axis=1)
            == np.sort(data.history[data.row == 2, 0])
        ).all()


def test_history_and_stream_have_no_query_and_no_handwriting_in_common() -> None:
    stream = video_stream()
    past = stream.historical().queries
    now = np.concatenate([stream.segment(IDS, segment).history[:, 0] for segment in range(6)])
    assert not np.isin(now, past).any()
    assert len(past) + len(now) == stream.num_items


def test_openings_are_of_the_same_device_and_segment() -> None:
    history = video_stream().historical()
    rows = np.arange(history.num_examples)
    for value in (0.0, 0.5, 0.999):
        found = history.openings(rows, np.full(len(rows), value))
        for mine, other in zip(
            history.table.place(history.queries[rows]), history.table.place(found), strict=True
        ):
            np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("captions", [False, True])
def test_in_training_a_device_tells_of_a_clip_before_it_is_asked(captions: bool) -> None:
    history = video_stream(captions).historical()
    rows = np.arange(history.num_examples)
    told, asked = history.lagged(rows, np.zeros_like(rows))[:, 0], history.queries
    for mine, other in zip(history.table.place(asked), history.table.place(told), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert (told == asked).mean() == pytest.approx(0.25, abs=0.15)  # four clips in a segment
    np.testing.assert_array_equal(history.lagged(rows, np.ones_like(rows))[1:12, 0], asked[:11])


@pytest.mark.parametrize("captions", [False, True])
def test_which_clip_is_told_of_in_training_changes_with_the_seed_of_the_run_on_both_parts(
    captions: bool,
) -> None:
    def told(seed: int) -> list[list[int]]:
        # The same questions and the same parts, whatever the seed: only the draw may differ.
        history = VideoStream(video_stream(captions).table, segment_s=60.0, seed=seed).historical()
        parts = (history, *history.split(0.5, 0))
        every = [np.arange(part.num_examples) for part in parts]
        return [
            part.lagged(rows, np.zeros_like(rows)).tolist()
            for part, rows in zip(parts, every, strict=True)
        ]

    assert told(1) == told(1)
    for one, other in zip(told(0), told(1), strict=True):
        assert one != other


def test_devices_are_held_out_whole_and_a_change_of_content_changes_the_hash() -> None:
    history = video_stream().historical()
    train, held_out = history.split(0.25, 0)
    assert len(train.device_ids) == 3 and len(held_out.device_ids) == 1
    assert (
        train.content_hash() != held_out.content_hash() == history.split(0.25, 0)[1].content_hash()
    )
    other = video_stream(noise=0.01).historical()
    assert other.content_hash() != history.content_hash()


def test_words_and_answers_are_what_the_model_is_told() -> None:
    stream = video_stream()
    assert stream.table.num_answers == len(ANSWERS) == 16
    tokens = stream.table.clips.tokens(np.arange(50))
    assert tokens.max() < len(WORDS) and (tokens[:, 0] > 0).all()


@pytest.mark.parametrize(
    ("knob", "rule"),
    [
        ({"clips_per_segment": 0}, "data.clips_per_segment must be a whole number >= 1, got 0"),
        (
            {"num_contexts": 9, "num_places": 4},
            "data.num_contexts must be <= data.num_places = 4, got 9",
        ),
        ({"noise": -1.0}, "data.noise must be a number >= 0, got -1.0"),
        ({"shift": "sudden"}, "data.shift must be one of .*, got sudden"),
        ({"segment_s": 0.0}, "data.segment_s must be a number > 0, got 0.0"),
    ],
)
def test_a_wrong_knob_is_refused(knob: dict, rule: str) -> None:
    with pytest.raises(UserError, match=rule):
        data_of({"name": "moving_digits", **knob})


def test_historical_queries_that_share_their_clips_come_together() -> None:
    history = video_stream(captions=True).historical()
    batches = list(history.batches(4, 0, 0, 4))
    assert all(len({tuple(sorted(row)) for row in batch.candidates}) == 1 for batch in batches)
    rows = np.concatenate([batch.rows for batch in batches])
    assert sorted(rows) == list(range(history.num_examples))
    assert (rows != np.concatenate([batch.rows for batch in history.batches(4, 1, 0, 4)])).any()
