"""The law of places: what follows from a light, where nobody has been, and neutral values."""

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.data import data_of
from cdc_flower.tasks.data.moving_digits import DigitsOptions
from cdc_flower.tasks.video.moving_digits import DrawnClips, digits_stream
from cdc_flower.tasks.video.places import Places
from cdc_flower.tasks.video.stream import VideoStream

NUM_PAST = 3
SMALL: dict[str, Any] = {
    "clips_per_segment": 2,
    "history_segments": NUM_PAST,
    "num_places": 8,
    "num_namings": 4,
}


def stream(num_devices: int = 5, num_segments: int = 6, **knobs: Any) -> VideoStream:
    return digits_stream(num_devices, num_segments, DigitsOptions(**{**SMALL, **knobs}), seed=3)


def clips_of(made: VideoStream) -> DrawnClips:
    assert isinstance(made.table.clips, DrawnClips)
    return made.table.clips


def told_by_light(gain: np.ndarray, num_namings: int) -> tuple[int, bool]:
    """Reads the way of naming and the mirror off one light, as somebody would who knows the law."""
    angle = np.angle((gain * np.exp(2j * np.pi * np.arange(3) / 3)).sum())
    return int((angle / (2 * np.pi) % 1) * num_namings), bool(gain.mean() < 0.4)


def test_at_neutral_values_streams_are_those_from_before_there_were_unseen_places() -> None:
    digest = hashlib.sha256()
    for captions in (False, True):
        options = DigitsOptions(num_places=7, num_namings=5)
        table = digits_stream(6, 5, options, seed=4, captions=captions).table
        drawn = clips_of(digits_stream(1, 1, options, seed=4, captions=captions)).places
        digest.update(drawn.names.tobytes() + drawn.is_mirrored.tobytes())
        digest.update(np.round(drawn.light * 1e4).astype(np.int64).tobytes())
        np.testing.assert_allclose(drawn.background.mean((1, 2)).sum(1), WALLS, rtol=1e-5)
        for part in (table.clips.tokens(np.arange(table.clips.num_queries)), table.answer):
            digest.update(np.ascontiguousarray(part, np.int64).tobytes())
        digest.update(table.context_id.tobytes() + table.is_shift.tobytes())
    assert digest.hexdigest() == BEFORE


#: Mean of the walls over pixels, summed over colors, of each place.
WALLS = [0.587152, 0.416237, 0.769551, 0.770775, 0.602347, 0.518411, 0.65355]
BEFORE = "8978e47420906c3640a35390a909319ef3c4bd12e1c3454759498eff992dcd2e"


@pytest.mark.parametrize("num_namings", [2, 4, 12])
@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_the_share_of_places_that_obey_their_light_is_as_configured(
    share: float, num_namings: int
) -> None:
    places = Places(7, num_places=400, num_namings=num_namings, num_unseen=400, systematic=share)
    told = [told_by_light(gain, num_namings) for gain in places.light]
    obeys = np.array(
        [
            told_way == way and is_dim == mirrored
            for (told_way, is_dim), way, mirrored in zip(
                told, places.naming, places.is_mirrored, strict=True
            )
        ]
    )
    assert obeys[places.is_systematic].all()
    by_chance = 0.5 / num_namings  # a way and a mirror, guessed
    for half in (obeys[:400], obeys[400:]):
        expected = share + (1 - share) * by_chance
        assert half.mean() == pytest.approx(expected, abs=0.06)
    assert places.is_systematic[:400].sum() == places.is_systematic[400:].sum() == 400 * share


def test_more_systematic_places_are_those_from_before_and_more() -> None:
    some, more = (Places(1, 40, num_unseen=40, systematic=share) for share in (0.3, 0.6))
    assert (more.is_systematic | ~some.is_systematic).all()
    np.testing.assert_array_equal(some.light, more.light)


def test_lights_of_one_way_differ_and_white_shows_them() -> None:
    places = Places(1, 60, num_namings=4, systematic=0.5)
    assert len(np.unique(places.light, axis=0)) == 60 and places.light.max() <= 1.0
    assert len({told_by_light(gain, 4) for gain in places.light}) == 8


def test_where_all_name_alike_nothing_follows_from_a_light() -> None:
    places = Places(1, 12, num_namings=1, systematic=1.0)
    assert not places.is_mirrored.any() and not places.naming.any()


@pytest.mark.parametrize("unseen_from", [0, 2, 5, 9])
def test_from_a_segment_on_all_devices_are_where_no_historical_clip_was(unseen_from: int) -> None:
    made, never = stream(unseen_from=unseen_from), stream()
    place = clips_of(made).place
    past, now = place[:, :NUM_PAST], place[:, NUM_PAST:]
    is_unseen = np.arange(now.shape[1]) >= unseen_from
    assert (past < 8).all() and (now[:, ~is_unseen] < 8).all() and (now[:, is_unseen] >= 8).all()
    if 0 < unseen_from < 6:
        assert made.table.is_shift[:, unseen_from].all()
    np.testing.assert_array_equal(
        now[:, ~is_unseen], clips_of(never).place[:, NUM_PAST:][:, ~is_unseen]
    )


def test_unseen_places_change_nothing_of_history_and_of_the_segments_before() -> None:
    knobs = {"systematic": 0.5}
    made, never = stream(unseen_from=2, **knobs), stream(**knobs)
    assert made.historical().content_hash() == never.historical().content_hash()
    for segment in (0, 1):
        one, other = (each.segment(np.arange(5), segment).history[:, 0] for each in (made, never))
        np.testing.assert_array_equal(clips_of(made).frames(one), clips_of(never).frames(other))
    late = made.segment(np.arange(5), 2).history[:, 0]
    assert (clips_of(made).frames(late) != clips_of(never).frames(late)).any()


@given(st.integers(1, 4), st.integers(1, 5))
def test_a_device_has_the_same_clips_whatever_else_there_is(
    num_devices: int, num_segments: int
) -> None:
    knobs = {"unseen_from": 2, "systematic": 0.5, "white_balance": 1.0}
    small, large = stream(num_devices, num_segments, **knobs), stream(6, 7, **knobs)
    one, other = (
        each.segment(np.arange(num_devices), num_segments - 1).history[:, 0]
        for each in (small, large)
    )
    np.testing.assert_array_equal(clips_of(small).frames(one), clips_of(large).frames(other))
    np.testing.assert_array_equal(small.table.answer[one], large.table.answer[other])


def test_with_a_white_balance_of_one_only_the_clip_that_opens_a_segment_shows_the_light() -> None:
    quiet = {"noise": 0.0, "flicker": 0.0, "systematic": 1.0}
    balanced, shown = stream(white_balance=1.0, **quiet), stream(**quiet)
    ids = np.arange(balanced.table.clips.num_clips)
    one, other = (clips_of(each).frames(ids) for each in (balanced, shown))
    is_first = clips_of(balanced).key(ids)[2] == 0
    np.testing.assert_array_equal(one[is_first], other[is_first])
    white = one.max((1, 2, 3)).astype(int)
    # What is brightest in a clip is ink; it is gray where the light is balanced away.
    spread = np.ptp(white, axis=1)
    assert spread[~is_first].max() <= 25 < np.median(spread[is_first])
    assert (other[~is_first] != one[~is_first]).any()


@pytest.mark.parametrize("captions", [False, True])
def test_history_opens_with_first_clips_where_they_show_more(captions: bool) -> None:
    options = DigitsOptions(**SMALL, white_balance=0.5)
    history = digits_stream(5, 2, options, seed=3, captions=captions).historical()
    rows = np.arange(history.num_examples)
    for uniform in (0.0, 0.6, 0.99):
        opened = history.openings(rows, np.full(len(rows), uniform))
        np.testing.assert_array_equal(opened % SMALL["clips_per_segment"], 0)
        np.testing.assert_array_equal(opened // 2, history.queries[rows] // 2)


@pytest.mark.parametrize(
    ("knob", "rule"),
    [
        ({"systematic": 1.5}, r"data.systematic must be a number in \[0, 1\], got 1.5"),
        ({"white_balance": -0.1}, r"data.white_balance must be a number in \[0, 1\], got -0.1"),
        ({"unseen_from": -1}, "data.unseen_from must be a whole number >= 0 or null, got -1"),
    ],
)
def test_a_wrong_knob_is_refused(knob: dict[str, object], rule: str) -> None:
    with pytest.raises(UserError, match=rule):
        data_of({"name": "moving_digits", **knob})
