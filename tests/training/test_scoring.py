"""Scoring many events with many parameter sets, against one event at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_cases import NAMES, arrays_of, parameters_of, random_ids, small_model

from cdc_flower.training import scoring
from cdc_flower.training.scoring import Scorer, chunks, pad, score_events, tensors

OWN = ("head", "all", "one static layer")


def names_of(name: str, own: str) -> list[str]:
    """Which parameters the sets of a pool hold."""
    model = small_model(name)
    everything = list(parameters_of(model))
    return {
        "head": list(model.adaptive),
        "all": everything,
        "one static layer": [*model.adaptive, "sequence.weight"],
    }[own]


def case(name: str, own: str, num_sets: int) -> tuple[dict, dict]:
    """A deployed model and a pool of sets."""
    model = small_model(name)
    singles = [arrays_of(parameters_of(model, 1 + k)) for k in range(num_sets)]
    return arrays_of(parameters_of(model)), {
        key: np.stack([s[key] for s in singles]) for key in names_of(name, own)
    }


def one_by_one(
    name: str, static: dict, pool: dict, sets: np.ndarray, history: np.ndarray, items: np.ndarray
) -> np.ndarray:
    """Each event alone, with a model of its own."""
    model = small_model(name)
    rows = [
        model.score(
            tensors({**static, **{key: value[chosen] for key, value in pool.items()}}),
            torch.from_numpy(history[k]).long(),
            torch.from_numpy(items[k]).long(),
        )
        for k, chosen in enumerate(sets)
    ]
    return torch.stack(rows).numpy() if rows else np.empty(items.shape, np.float32)


@given(
    st.sampled_from(NAMES),
    st.sampled_from(OWN),
    st.integers(1, 12),
    st.integers(0, 40),
    st.integers(0, 99),
)
def test_any_mix_of_sets_equals_one_event_at_a_time(
    name: str, own: str, num_sets: int, num_events: int, seed: int
) -> None:
    static, pool = case(name, own, num_sets)
    history, candidates = random_ids(num_events, seed, least=0)
    sets = np.random.default_rng(seed).integers(0, num_sets, num_events)
    scores = score_events(small_model(name), static, pool, sets, history, candidates)
    assert scores.dtype == np.float32
    expected = one_by_one(name, static, pool, sets, history, candidates)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("num_sets", [2, 9])
def test_small_chunks_change_nothing(
    own: str, num_sets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    static, pool = case("din", own, num_sets)
    history, candidates = random_ids(50)
    sets = np.random.default_rng(3).integers(0, num_sets, 50)
    whole = score_events(small_model("din"), static, pool, sets, history, candidates)
    monkeypatch.setattr(scoring, "EVENTS_PER_CHUNK", 7)
    monkeypatch.setattr(scoring, "NUMBERS_PER_CHUNK", 1)
    cut = score_events(small_model("din"), static, pool, sets, history, candidates)
    np.testing.assert_allclose(cut, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_sets", [3, 9])
def test_the_order_of_events_does_not_matter(name: str, num_sets: int) -> None:
    static, pool = case(name, "head", num_sets)
    history, candidates = random_ids(30)
    sets, order = np.arange(30) % num_sets, np.random.default_rng(0).permutation(30)
    scores = score_events(small_model(name), static, pool, sets, history, candidates)
    mixed = score_events(
        small_model(name), static, pool, sets[order], history[order], candidates[order]
    )
    np.testing.assert_allclose(mixed, scores[order], rtol=1e-5, atol=1e-5)


def test_one_scorer_serves_several_calls_and_leaves_its_arrays_alone() -> None:
    static, pool = case("sasrec", "head", 6)
    for value in (*static.values(), *pool.values()):
        value.flags.writeable = False  # as Ray hands them out
    history, candidates = random_ids(20)
    scorer, sets = Scorer(small_model("sasrec"), static, [pool]), np.arange(20) % 6
    parts = [
        scorer.score(sets[k : k + 4], history[k : k + 4], candidates[k : k + 4])
        for k in range(0, 20, 4)
    ]
    whole = scorer.score(sets, history, candidates)
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-5, atol=1e-5)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=40), st.integers(1, 10))
def test_chunks_cover_all_sets_once_and_are_bounded(num_events: list[int], max_sets: int) -> None:
    counts = np.sort(num_events)[::-1]
    ranges = list(chunks(counts, max_sets))
    assert [k for start, stop in ranges for k in range(start, stop)] == list(range(len(counts)))
    for start, stop in ranges:
        assert stop - start <= max_sets
        assert stop - start == 1 or (stop - start) * counts[start] <= scoring.EVENTS_PER_CHUNK


def test_padding_by_hand() -> None:
    padded = pad(
        torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]), 3, 2
    )
    assert padded.tolist() == [[1, 2], [3, 0], [0, 0]]


def test_tensors_share_memory_only_where_they_may_be_written() -> None:
    free, locked = np.zeros(2, np.float32), np.zeros(2, np.float32)
    locked.flags.writeable = False
    made = tensors({"free": free, "locked": locked})
    made["free"][0], made["locked"][0] = 1.0, 1.0
    assert free[0] == 1.0 and locked[0] == 0.0
