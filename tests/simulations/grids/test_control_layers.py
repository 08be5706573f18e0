"""Layers that controls get: the mean of all, and those of another device."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cdc_flower.core.seeds import generator
from cdc_flower.simulations.grids.controls import derangement, mean_layers, other_layers


@given(st.integers(2, 40), st.integers(0, 9))
def test_nobody_keeps_its_own_in_a_permutation_of_others(count: int, seed: int) -> None:
    giver = derangement(count, generator(seed, "x"))
    assert sorted(giver) == list(range(count))
    assert (giver != np.arange(count)).all()


def test_a_device_alone_gets_nothing_of_another() -> None:
    assert other_layers({"w": np.ones((1, 3), np.float32)}, generator(0, "x")) == {}


def test_the_mean_is_added_up_in_double_precision() -> None:
    value = np.array([[1e8], [1.0], [1.0], [-1e8]], np.float32)
    (mean, *others) = mean_layers({"w": value}, generator(0, "x"))["w"]
    assert mean.dtype == np.float32 and mean[0] == np.float32(0.5)
    assert all((other == mean).all() for other in others)


@given(st.integers(1, 60), st.floats(-1e6, 1e6, width=32))
def test_the_mean_of_equal_layers_is_theirs_to_the_bit(count: int, value: float) -> None:
    layers = np.full((count, 2), value, np.float32)
    found = mean_layers({"w": layers}, generator(0, "x"))["w"]
    np.testing.assert_array_equal(found, layers)


def test_every_other_device_may_be_the_giver() -> None:
    givers = [derangement(4, generator(seed, "x")).tolist() for seed in range(60)]
    assert {tuple(giver) for giver in givers} == {
        # Cycles through all four; where two swap nobody goes around.
        *((1, 2, 3, 0), (1, 3, 0, 2), (2, 3, 1, 0), (2, 0, 3, 1), (3, 2, 0, 1), (3, 0, 1, 2))
    }


def test_all_layers_of_a_device_are_those_of_the_same_other_device() -> None:
    own = np.arange(5, dtype=np.float32)
    found = other_layers({"w": own[:, None] * np.ones(3), "b": own}, generator(0, "x"))
    assert (found["w"] == found["b"][:, None]).all()
    assert sorted(found["b"]) == own.tolist() and (found["b"] != own).all()
