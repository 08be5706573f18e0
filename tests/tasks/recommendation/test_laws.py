"""Regimes and cohorts: events are those of the law, and of no other device or segment."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from law_cases import LAWS, law, plain_items, regimes_stream
from omegaconf import OmegaConf

import cdc_flower.configs
from cdc_flower.core.errors import UserError
from cdc_flower.tasks.data import StreamShape, data_of
from cdc_flower.tasks.recommendation.laws import streams
from cdc_flower.tasks.recommendation.laws.streams import events_of

SMALL: dict[str, dict[str, Any]] = {
    "regimes": {"num_topics": 4, "items_per_topic": 3, "num_contexts": 3},
    "cohorts": {"items": 9, "place_size": 2, "num_contexts": 3},
}
KNOBS: list[dict[str, Any]] = [
    {},
    {"contexts": "own", "num_visited": 2},
    {"shift": "gradual", "period": 3},
    {"shift": "blended", "period": 2, "phase": "shared", "unseen_from": 1},
    {"unseen_from": 0, "num_contexts": 1, "period": 1},
]


def small(name: str, **options: Any) -> Any:
    brief = {"events_per_segment": 3, "history_segments": 2}
    return law(name, 3, **{**SMALL[name], **brief, **options})


@pytest.mark.parametrize("knobs", KNOBS)
@pytest.mark.parametrize("name", LAWS)
def test_events_are_those_of_a_plain_loop(name: str, knobs: dict[str, Any]) -> None:
    which = small(name, **knobs)
    events = events_of(which, 3, 3)
    for device in range(3):
        own = events.items[events.offsets[device] : events.offsets[device + 1]]
        assert own.tolist() == plain_items(which, device, range(-2, 3))


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(sorted(LAWS)),
    knobs=st.sampled_from(KNOBS),
    num_devices=st.integers(1, 5),
    more=st.integers(0, 4),
    num_segments=st.integers(1, 4),
    later=st.integers(0, 9),
)
def test_a_device_depends_on_no_other_device_and_on_no_later_segment(
    name: str, knobs: dict[str, Any], num_devices: int, more: int, num_segments: int, later: int
) -> None:
    which = small(name, **knobs)
    few = events_of(which, num_devices, num_segments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "_CHUNK", 2)
        many = events_of(which, num_devices + more, num_segments + later)
    for device in range(num_devices):
        here, there = few.offsets[device], many.offsets[device]
        length = few.offsets[device + 1] - here
        assert (few.items[here : here + length] == many.items[there : there + length]).all()
    assert (few.context_id == many.context_id[:num_devices, :num_segments]).all()
    assert (few.is_shift == many.is_shift[:num_devices, :num_segments]).all()


def test_a_topic_is_followed_as_its_regime_says() -> None:
    which = law(num_contexts=2, period=1)
    events = events_of(which, 300, 4)
    items = events.items.reshape(300, -1, 9)
    context = which.jumps.context_id(np.arange(300), np.arange(-11, 4))
    topic = which.topics()[items]
    maps = which.maps(np.zeros(1, np.int64))[0]
    before, after = topic[:, :, :-1], topic[:, :, 1:]
    follows = maps[context[..., None], before] == after
    # another topic than the regime's comes by chance, and so does the regime's itself
    wanted = 0.85 + 0.15 / 12
    assert follows.mean() == pytest.approx(wanted, abs=4 * np.sqrt(wanted / follows.size))
    others = np.bincount(after[~follows], minlength=12) / (~follows).sum()
    assert others == pytest.approx(np.full(12, 1 / 12), abs=0.02)
    places = np.array([np.flatnonzero(which.topic_items() == item)[0] % 20 for item in items.flat])
    share = np.bincount(places, minlength=20) / len(places)
    assert share == pytest.approx(which.popularity(), abs=0.01)


def test_a_cohort_chooses_items_in_the_direction_of_its_taste() -> None:
    which = law("cohorts", num_contexts=2, unseen_from=None, period=1)
    events = events_of(which, 400, 4)
    items = events.items.reshape(400, -1, 9)
    context = which.jumps.context_id(np.arange(400), np.arange(-11, 4))
    for number, table in enumerate(which.tables(np.zeros(1, np.int64))[0]):
        chosen = items[context == number].reshape(-1)
        counts = np.bincount(chosen, minlength=241)[1:]
        wanted = table * len(chosen)
        assert (np.abs(counts - wanted) <= 5 * np.sqrt(wanted) + 5).all()


def test_regimes_map_no_topic_to_itself_and_differ() -> None:
    maps = law(contexts="own").maps(np.arange(20))
    assert maps.shape == (20, 12, 12)
    assert (np.sort(maps, axis=-1) == np.arange(12)).all()
    assert not (maps == np.arange(12)).any()
    assert len(np.unique(maps.reshape(240, 12), axis=0)) == 240
    shared = law().maps(np.arange(3))
    assert (shared[0] == shared[2]).all()


@pytest.mark.parametrize("phase", ["own", "shared"])
def test_every_device_jumps_once_inside_the_eight_segments_that_are_played(phase: str) -> None:
    stream = regimes_stream(200, phase=phase)
    assert (stream.is_shift.sum(axis=1) == 1).all() and not stream.is_shift[:, 0].any()
    jumps = np.flatnonzero(stream.is_shift.any(axis=0)).tolist()
    assert jumps == ([4] if phase == "shared" else list(range(1, 8)))


def test_the_share_of_the_next_context_rises() -> None:
    segments = np.arange(4)
    weights = {
        shift: law(shift=shift, period=4, phase="shared").jumps.weights(np.arange(2), segments - 2)
        for shift in ("abrupt", "gradual", "blended")
    }
    assert {shift: np.sort(each[0], axis=1)[:, -2].tolist() for shift, each in weights.items()} == {
        "abrupt": [0, 0, 0, 0],
        "gradual": [0, 0, pytest.approx(1 / 3), pytest.approx(1 / 3)],
        "blended": [0, 0.25, 0.5, 0.25],
    }
    for each in weights.values():
        assert each.sum(axis=-1) == pytest.approx(np.ones((2, 4)))


def test_contexts_that_are_unseen_follow_no_historical_event_and_all_devices_move_at_once() -> None:
    jumps = law(unseen_from=3, period=2).jumps
    context = jumps.context_id(np.arange(50), np.arange(-11, 8))
    assert (context[:, :14] < 12).all() and set(context[:, 14:].flat) == {12, 13, 14}
    assert jumps.is_shift(np.arange(50), np.array([3])).all()


def test_a_device_returns_to_the_few_contexts_that_it_visits() -> None:
    context = law(num_visited=2, period=1).jumps.context_id(np.arange(50), np.arange(9))
    assert all(len(set(row)) == 2 for row in context.tolist())
    assert (context[:, 2:] == context[:, :-2]).all()
    assert len(set(context.flat)) == 12


@pytest.mark.parametrize(
    ("name", "neutral"),
    [
        ("regimes", {"num_contexts": 1}),
        ("regimes", {"follow": 0}),
        ("cohorts", {"num_contexts": 1, "unseen_from": None}),
        ("cohorts", {"taste_strength": 0}),
    ],
)
def test_at_neutral_values_the_context_tells_nothing(name: str, neutral: dict[str, Any]) -> None:
    which = law(name, **neutral)
    num_contexts = which.options.num_all_contexts
    items = np.broadcast_to(np.arange(1, 241, dtype=np.int32), (num_contexts, 240))
    last, devices = np.full(num_contexts, 7), np.zeros(num_contexts, np.int64)
    known = which.chances(devices, np.eye(num_contexts), last, items)
    even = np.full((num_contexts, num_contexts), 1 / num_contexts)
    assert known == pytest.approx(which.chances(devices, even, last, items))
    assert known.sum(axis=1) == pytest.approx(np.ones(num_contexts))


@pytest.mark.parametrize("contexts", ["shared", "own"])
@pytest.mark.parametrize("name", LAWS)
def test_items_follow_the_chances_that_the_law_states(name: str, contexts: str) -> None:
    which = small(name, contexts=contexts, shift="blended", period=4, events_per_segment=8)
    num_devices, num_segments = 300, 4
    events, device_ids = events_of(which, num_devices, num_segments), np.arange(num_devices)
    items = events.items.reshape(num_devices, -1)
    weights = which.jumps.weights(device_ids, np.arange(num_segments))
    weights = np.repeat(weights, 8, axis=1).reshape(-1, weights.shape[-1])
    every = np.arange(1, which.options.num_items + 1, dtype=np.int32)
    last, chosen = items[:, 15:-1].reshape(-1), items[:, 16:].reshape(-1)
    law_of = which.chances(
        np.repeat(device_ids, 8 * num_segments),
        weights,
        last.astype(np.int64),
        np.broadcast_to(every, (len(last), len(every))),
    )
    assert law_of.sum(axis=1) == pytest.approx(np.ones(len(last)))
    # the chance that the law gave to the item that came is, on average, the sum of its squares
    found = law_of[np.arange(len(last)), chosen - 1]
    expected = (law_of**2).sum(axis=1).mean()
    assert found.mean() == pytest.approx(expected, abs=4 * found.std() / np.sqrt(len(last)))
    counts, wanted = np.bincount(chosen, minlength=len(every) + 1)[1:], law_of.sum(axis=0)
    assert (np.abs(counts - wanted) <= 4 * np.sqrt(wanted)).all()


@pytest.mark.parametrize("name", LAWS)
def test_the_yaml_holds_exactly_the_options_with_their_defaults(name: str) -> None:
    path = Path(cdc_flower.configs.__path__[0]) / "data" / f"{name}.yaml"
    values = OmegaConf.to_container(OmegaConf.load(path))
    assert LAWS[name][1](**values) == LAWS[name][1]()
    assert sorted(values) == sorted(vars(LAWS[name][1]()))


def test_a_run_may_leave_the_last_event_of_each_device_out() -> None:
    data = data_of({"name": "regimes", "cut": "last"})
    stream = data.stream(StreamShape(1, 0, 5, 2))
    assert stream.num_events(np.arange(5), 0).tolist() == [1] * 5
    assert stream.events_per_segment == 0  # a report is of that very moment


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize(
    ("num_devices", "knobs", "num_past"),
    [
        (1000, {}, 11),
        (250, {}, 11),
        (60, {}, 45),  # 24,000 events are 44.4 segments of 60 devices with 9 events
        (60, {"events_per_segment": 30}, 14),
        (60, {"history_segments": 2}, 2),
    ],
)
def test_few_devices_have_a_longer_history_unless_it_is_given(
    name: str, num_devices: int, knobs: dict[str, Any], num_past: int
) -> None:
    stream = data_of({"name": name, **knobs}).stream(StreamShape(1, 0, num_devices, 2))
    size = knobs.get("events_per_segment", 9)
    assert (np.diff(stream.historical().offsets) == num_past * size).all()


def test_the_events_of_a_segment_are_known_from_history() -> None:
    assert regimes_stream(3).events_per_segment == 9
    assert regimes_stream(3, history_segments=0).events_per_segment == 0


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"num_visited": 13}, "data.num_visited must be <= 12, the contexts, got 13"),
        ({"follow": 1.5}, r"data.follow must be a number in \[0, 1\], got 1.5"),
        ({"shift": "sudden"}, "data.shift must be one of abrupt, gradual, blended, got sudden"),
        ({"folow": 0.5}, "data: unknown key 'folow'; did you mean 'follow'"),
    ],
)
def test_a_wrong_knob_names_its_key(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        data_of({"name": "regimes", **knobs})
