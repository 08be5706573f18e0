from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

import cdc_flower.configs
from cdc_flower.core.errors import UserError
from cdc_flower.core.stream import TruthReader
from cdc_flower.tasks.data import data_of
from cdc_flower.tasks.data.shifting_interests import InterestsOptions
from cdc_flower.tasks.recommendation import interests
from cdc_flower.tasks.recommendation.interests import GeneratedEvents, interests_stream
from cdc_flower.tasks.recommendation.population import Population
from cdc_flower.tasks.shift import ShiftSchedule


def shifting_interests(
    num_devices: int, num_segments: int, *, seed: int, **options: Any
) -> GeneratedEvents:
    law = InterestsOptions(**options)
    return interests.shifting_interests(num_devices, num_segments, law, seed=seed)


def test_bounds_cut_every_device_into_a_past_and_segments() -> None:
    events = shifting_interests(
        20, 5, seed=0, events_per_segment=9, events_jitter=2, history_events=60
    )
    counts = np.diff(events.bounds, axis=1)
    assert events.bounds.shape == (20, 6) and events.context_id.shape == events.is_shift.shape == (
        20,
        5,
    )
    assert (counts.min(), counts.max()) == (7, 11)
    assert (events.bounds[:, -1] == events.offsets[1:]).all()
    assert (events.bounds[:, 0] - events.offsets[:-1]).mean() == pytest.approx(60, abs=3)
    assert events.items.min() >= 1 and events.items.max() <= 600
    assert len(events.items) == events.offsets[-1] == events.num_events


def test_without_jitter_and_past_the_counts_are_exact() -> None:
    events = shifting_interests(
        3, 2, seed=0, events_per_segment=4, events_jitter=0, history_events=0
    )
    assert events.bounds.tolist() == [[0, 4, 8], [8, 12, 16], [16, 20, 24]]
    events = shifting_interests(
        2, 1, seed=0, events_per_segment=4, events_jitter=0, history_events=10
    )
    assert events.bounds.tolist() == [[10, 14], [24, 28]]


@pytest.mark.parametrize("shift", ["abrupt", "gradual", "incremental", "recurring", "none"])
def test_a_device_depends_on_no_other_device_and_on_no_later_segment(
    shift: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = shifting_interests(3, 4, seed=5, shift=shift)
    monkeypatch.setattr(interests, "_CHUNK", 4)
    many = shifting_interests(10, 6, seed=5, shift=shift)
    for device in range(3):
        here, there = few.offsets[device], many.offsets[device]
        length = few.bounds[device, -1] - here
        assert (few.items[here : here + length] == many.items[there : there + length]).all()
        assert (few.bounds[device] - here == many.bounds[device, :5] - there).all()
    assert (few.context_id == many.context_id[:3, :4]).all()


def test_another_seed_gives_other_events() -> None:
    first, second = (shifting_interests(3, 4, seed=seed, events_jitter=0).items for seed in (0, 1))
    assert (first != second).mean() > 0.9


@pytest.mark.parametrize("shift", ["abrupt", "gradual", "incremental"])
def test_items_follow_the_law_that_the_oracle_states(shift: str) -> None:
    knobs = {"num_items": 12, "num_topics": 3, "num_contexts": 2, "noise": 0.2, "no_repeat": 0}
    num_devices, num_segments, size = 400, 4, 8
    events = shifting_interests(
        num_devices,
        num_segments,
        seed=0,
        shift=shift,
        events_per_segment=size,
        events_jitter=0,
        history_events=1,
        **knobs,
    )
    population, ids = Population(0, **knobs), np.repeat(np.arange(num_devices), num_segments * size)
    weights = ShiftSchedule(shift, num_segments, 2, 4, 0).weights(np.arange(num_devices))
    weights = np.repeat(weights.reshape(-1, 2), size, axis=0)
    items = np.concatenate([events.items[first:end] for first, end in events.bounds[:, [0, -1]]])
    last = np.concatenate(
        [events.items[first - 1 : end - 1] for first, end in events.bounds[:, [0, -1]]]
    )
    last = population.item_topics()[last]
    blended = population.probabilities(ids, weights, last)
    each = [population.probabilities(ids, np.tile(row, (len(ids), 1)), last) for row in np.eye(2)]
    by_chance = sum(
        share[:, None] * chances for share, chances in zip(weights.T, each, strict=True)
    )
    law, other = (blended, by_chance) if shift == "incremental" else (by_chance, blended)
    assert law.sum(axis=1) == pytest.approx(np.ones(len(ids)))
    # the chance that the law gave to the item that came is, on average, the sum of its squares
    found, expected = law[np.arange(len(items)), items], (law**2).sum(axis=1)
    assert found.mean() == pytest.approx(expected.mean(), abs=4 * found.std() / np.sqrt(len(items)))
    assert np.log(found).mean() >= np.log(other[np.arange(len(items)), items]).mean()
    counts, wanted = np.bincount(items, minlength=13), law.sum(axis=0)
    assert (np.abs(counts - wanted) <= 4 * np.sqrt(wanted)).all()


def test_every_topic_holds_its_items_once() -> None:
    population = Population(0, num_items=11, num_topics=3)
    table = population.topic_items()
    assert sorted(table[table > 0].tolist()) == list(range(1, 12))
    assert np.bincount(population.item_topics()[1:]).tolist() == [4, 4, 3]
    assert population.item_topics()[0] == -1


def test_an_item_does_not_return_too_soon() -> None:
    events = shifting_interests(5, 8, seed=0, no_repeat=10)
    for device in range(5):
        items = events.items[events.offsets[device] : events.offsets[device + 1]]
        assert all(
            len(set(items[k : k + 11].tolist())) == len(items[k : k + 11])
            for k in range(len(items))
        )


@pytest.mark.parametrize(
    ("no_repeat", "nearest"),
    [(0, 1), (1, 2), (2, 3), (3, 4), (50, 4)],  # one of the four items of a topic stays free
)
def test_an_item_returns_as_soon_as_it_may_and_no_sooner(no_repeat: int, nearest: int) -> None:
    knobs = {"num_items": 12, "num_topics": 3, "noise": 0.1, "events_jitter": 3}
    events = shifting_interests(40, 6, seed=0, no_repeat=no_repeat, **knobs)
    gaps = []
    for first, end in pairwise(events.offsets):
        items = events.items[first:end]
        for item in range(1, 13):
            gaps += np.diff(np.flatnonzero(items == item)).tolist()
    assert min(gaps) == nearest and max(gaps) > 12


def test_all_noise_is_popularity() -> None:
    population = Population(0, noise=1.0)
    chances = population.probabilities(np.arange(3), np.eye(3), np.array([-1, 0, 5]))
    assert chances == pytest.approx(np.broadcast_to(population.popularity(), chances.shape))


def test_with_every_strength_at_zero_only_popularity_is_left() -> None:
    still = Population(0, interest_strength=0, sequence_strength=0, taste_strength=0, noise=0)
    chances = still.probabilities(np.arange(3), np.eye(3), np.array([-1, 0, 5]))
    assert chances == pytest.approx(np.broadcast_to(still.popularity(), chances.shape))
    assert replace(still, popularity_exponent=0).popularity()[1:] == pytest.approx(
        np.full(600, 1 / 600)
    )


def test_an_oracle_beats_popularity_and_the_old_context_fails_after_a_shift() -> None:
    num_devices, num_segments = 150, 8
    events = shifting_interests(num_devices, num_segments, seed=1)
    stream = interests_stream(num_devices, num_segments, seed=1)
    population = Population(1)
    popular = stream.historical().popularity().astype(float)
    topics, hits = (
        population.item_topics(),
        {"oracle": [], "bag": [], "popular": [], "new": [], "old": []},
    )

    def hit(scores: np.ndarray, candidates: np.ndarray, positive: np.ndarray) -> np.ndarray:
        chosen = np.take_along_axis(scores, candidates.astype(np.int64), axis=1)
        return (chosen > chosen[np.arange(len(positive)), positive][:, None]).sum(axis=1) < 10

    for segment in range(1, num_segments):
        batch = stream.segment(np.arange(num_devices), segment)
        positive, context, shifted = batch.truth.read(TruthReader())
        events_of, last = (
            batch.device_ids[batch.row],
            topics[batch.history[:, -1]],
        )  # all windows are full
        one_hot, after = np.eye(3), shifted[batch.row]
        new = population.probabilities(events_of, one_hot[context[batch.row]], last)
        old = population.probabilities(
            events_of, one_hot[events.context_id[batch.row, segment - 1]], last
        )
        bag = replace(population, sequence_strength=0).probabilities(
            events_of, one_hot[context[batch.row]], last
        )
        hits["oracle"].extend(hit(new, batch.candidates, positive))
        hits["bag"].extend(hit(bag, batch.candidates, positive))
        hits["popular"].extend(hit(np.broadcast_to(popular, new.shape), batch.candidates, positive))
        hits["new"].extend(hit(new, batch.candidates, positive)[after])
        hits["old"].extend(hit(old, batch.candidates, positive)[after])
    rate = {name: float(np.mean(values)) for name, values in hits.items()}
    assert rate["oracle"] > rate["popular"] + 0.2
    assert rate["oracle"] > rate["bag"] + 0.03  # the order of items tells something
    assert rate["new"] > rate["old"] + 0.2


def test_the_yaml_holds_exactly_the_knobs_with_their_defaults() -> None:
    path = Path(cdc_flower.configs.__path__[0]) / "data" / "shifting_interests.yaml"
    values = OmegaConf.to_container(OmegaConf.load(path))
    assert values.pop("name") == "shifting_interests" and values.pop("path") is None
    wanted = interests_stream(3, 2, seed=0)
    found = interests_stream(3, 2, InterestsOptions(**values), seed=0)
    assert (found.items == wanted.items).all() and found.exclude_seen == wanted.exclude_seen
    assert (found.segment_starts_s == wanted.segment_starts_s).all()


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"num_items": 5}, "data.num_items must be >= 12, the topics, got 5"),
        ({"num_topics": 1}, "data.num_topics must be a whole number >= 2, got 1"),
        ({"noise": 1.5}, r"data.noise must be a number in \[0, 1\], got 1.5"),
        ({"taste_strength": -1}, "data.taste_strength must be a number >= 0, got -1"),
        ({"events_jitter": 9}, "data.events_jitter must be in 0..events_per_segment - 1, got 9"),
        ({"history_events": -1}, "data.history_events must be a whole number >= 0, got -1"),
        ({"shift": "sudden"}, "data.shift must be one of abrupt, .*, got sudden"),
        ({"nois": 0.5}, "data: unknown key 'nois'; did you mean 'noise'"),
    ],
)
def test_a_wrong_knob_names_its_key(knobs: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        data_of({"name": "shifting_interests", **knobs})
