"""Randomness by name: the same everywhere, independent for each name."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cdc_flower.core.seeds import (
    generator,
    global_draws,
    hashed_bits,
    hashed_integers,
    hashed_uniform,
    torch_generator,
)


def test_the_same_seed_and_name_give_the_same_numbers_and_others_do_not() -> None:
    first = generator(1, "links", 3).random(4)
    np.testing.assert_array_equal(generator(1, "links", 3).random(4), first)
    for other in (
        generator(2, "links", 3),
        generator(1, "links", 4),
        generator(1, "links"),
        generator(13, "links"),
    ):
        assert not np.isin(other.random(4), first).any()
    assert torch_generator(1, "a").initial_seed() == torch_generator(1, "a").initial_seed()
    assert torch_generator(1, "a").initial_seed() != torch_generator(1, "b").initial_seed()


def test_names_are_not_run_together() -> None:
    draws = [
        generator(*name).random()
        for name in ((1, "ab", "c"), (1, "a", "bc"), (1, "abc"), (11, "ab", "c"))
    ]
    assert len(set(draws)) == len(draws)


def test_numbers_are_the_same_on_every_machine() -> None:
    # Pinned: they must not change from version to version, or old results could not be repeated.
    assert hashed_bits(0, "x", [0, 1, 2]).tolist() == [
        14391076640757131590,
        10363895685827284075,
        4603329948136706147,
    ]
    assert generator(0, "x").integers(0, 1000, 3).tolist() == [903, 908, 466]


@given(st.integers(0, 2**31), st.lists(st.integers(-5, 2**40), min_size=1, max_size=20))
def test_an_index_has_its_number_whatever_else_is_asked_for(seed: int, indices: list[int]) -> None:
    together = hashed_uniform(seed, "events", np.array(indices))
    alone = [float(hashed_uniform(seed, "events", index)[0]) for index in indices]
    assert together.tolist() == alone
    assert all(0 <= value < 1 for value in alone)


def test_indices_broadcast_and_their_order_matters() -> None:
    grid = hashed_bits(0, "x", np.arange(3)[:, None], np.arange(4))
    assert grid.shape == (3, 4) and len(np.unique(grid)) == 12
    assert grid[2, 1] != grid[1, 2]
    assert grid[2, 1] == hashed_bits(0, "x", 2, 1)[0]


def test_hashed_numbers_are_uniform_and_neighbors_are_unrelated() -> None:
    values = hashed_uniform(0, "x", np.arange(40_000))
    counts = np.bincount((values * 20).astype(int), minlength=20)
    assert (
        np.square(counts - 2000).sum() / 2000 < 45
    )  # chi-square, 19 degrees of freedom: p < 0.001
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.02
    other = hashed_uniform(1, "x", np.arange(40_000))
    assert abs(np.corrcoef(values, other)[0, 1]) < 0.02


@pytest.mark.parametrize("high", [1, 2, 7, 1000])
def test_hashed_integers_cover_their_range(high: int) -> None:
    values = hashed_integers(3, "x", np.arange(20_000), high=high)
    assert values.dtype == np.int64 and set(np.unique(values)) == set(range(high))


def test_global_generators_draw_by_the_name_and_go_on_as_before() -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    whole = drawn(), drawn()
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    first = drawn()
    inside = []
    for seed, name in [(0, "a"), (0, "a"), (0, "b"), (1, "a")]:
        with global_draws(seed, name, 1):
            inside.append(drawn())
    assert (first, drawn()) == whole
    assert inside[0] == inside[1]
    for one, other in [(0, 2), (0, 3), (2, 3)]:
        assert not set(inside[one]) & set(inside[other])
    with pytest.raises(KeyError), global_draws(0, "a"):
        raise KeyError
    random.seed(3)
    assert random.random() == whole[0][0]
