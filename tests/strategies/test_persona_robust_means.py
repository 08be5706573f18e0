"""Persona's refinement with means that a few hostile members cannot carry away."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from persona_cases import members, mover, stacked
from tiny import strategy, table

from cdc_flower.core.errors import UserError
from cdc_flower.strategies.persona.likelihood import Pairs
from cdc_flower.strategies.persona.prototypes import Bank
from cdc_flower.strategies.persona.refinement import chosen
from cdc_flower.strategies.persona.robust_means import (
    CLIPPED,
    MEAN,
    MEANS,
    MEDIAN,
    TRIMMED,
    robust_means,
    trimmed_mean,
    weighted_median,
)
from cdc_flower.strategies.registry import build_strategy

LIKELIHOOD: dict[str, Any] = {
    "cluster_on": "likelihood",
    "num_prototypes": 3,
    "report_length": 8,
    "likelihood_pairs": 4,
    "epochs": 4,
}
ROBUST = [how for how in MEANS if how != MEAN]


def rows(count: int = 20, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 5)))


def one_group(count: int) -> torch.Tensor:
    return torch.ones(count, 1, dtype=torch.float64)


def naive(values: np.ndarray, weight: np.ndarray, how: str) -> np.ndarray:
    """Each mean by copies of rows: weights are whole numbers."""
    copies = np.repeat(values, weight, axis=0)
    if how == MEAN:
        return copies.mean(0)
    if how == MEDIAN:
        return np.median(copies, axis=0)
    if how == TRIMMED:
        cut = round(0.2 * len(copies))
        return np.sort(copies, axis=0)[cut : len(copies) - cut].mean(0)
    sizes = np.linalg.norm(copies, axis=1)
    return (copies * np.minimum(1, np.median(sizes) / sizes)[:, None]).mean(0)


@pytest.mark.parametrize("how", MEANS)
@pytest.mark.parametrize("weight", [[1] * 10, [3, 1, 1, 2, 1, 1, 1, 4, 5, 1]])
def test_each_mean_is_that_of_as_many_copies_as_a_row_has_weight(
    how: str, weight: list[int]
) -> None:
    values = rows(10)
    found = robust_means(values, torch.tensor(weight)[:, None], how)[0]
    np.testing.assert_allclose(found, naive(values.numpy(), np.array(weight), how), rtol=1e-6)


@pytest.mark.parametrize("how", MEANS)
def test_prototypes_have_the_means_of_their_own_members_and_without_any_zeros(how: str) -> None:
    values = rows(12)
    weight = torch.zeros(12, 3)
    weight[:5, 0] = 0.5
    weight[5:, 1] = 1.0
    found = robust_means(values, weight, how)
    np.testing.assert_allclose(found[0], robust_means(values[:5], one_group(5), how)[0])
    np.testing.assert_allclose(found[1], robust_means(values[5:], one_group(7), how)[0])
    assert not found[2].any()


@pytest.mark.parametrize("how", MEANS)
def test_of_equal_rows_every_mean_is_that_row(how: str) -> None:
    values = rows(1).repeat(9, 1)
    np.testing.assert_allclose(robust_means(values, one_group(9), how)[0], values[0], atol=1e-9)


@pytest.mark.parametrize("how", ROBUST)
@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(9)))
def test_the_order_of_members_does_not_matter(how: str, order: list[int]) -> None:
    values, weight = rows(9), rows(9, 1).abs()[:, :1]
    one = robust_means(values, weight, how)
    np.testing.assert_allclose(robust_means(values[order], weight[order], how), one, atol=1e-9)


@pytest.mark.parametrize("how", ROBUST)
@pytest.mark.parametrize("size", [1e3, 1e30])
def test_a_tenth_of_huge_rows_moves_a_mean_by_less_than_the_honest_differ(
    how: str, size: float
) -> None:
    values = rows()
    before = robust_means(values, one_group(20), how)
    values[:2] = size
    moved = robust_means(values, one_group(20), how) - before
    assert float(moved.norm()) < float(torch.cdist(values[2:], values[2:]).max())
    plain = robust_means(values, one_group(20), MEAN) - before
    assert float(plain.norm()) > 100


def test_trimming_nothing_is_the_mean_and_all_but_the_middle_the_median() -> None:
    values, share = rows(11), torch.full((11,), 1 / 11, dtype=torch.float64)
    np.testing.assert_allclose(trimmed_mean(values, share, 0.0), values.mean(0), atol=1e-9)
    near = trimmed_mean(values, share, 0.4999)
    np.testing.assert_allclose(near, weighted_median(values, share), atol=1e-9)


# Moving prototypes.


@pytest.mark.parametrize("hedge", [0.0, 0.25])
def test_the_plain_mean_by_gradients_of_each_device_is_the_gradient_of_the_mean(
    hedge: float,
) -> None:
    told = members(np.array([0, 0, 1, 1, 1, 0, 1, 0] * 2))
    told = replace(told, weight=0.3 + 0.4 * told.weight)
    moving = mover(steps=3, hedge=hedge)
    heads = stacked(moving.base, 2)
    mine = ~told.is_held_out
    steps = {name: torch.full_like(v, 0.01).requires_grad_() for name, v in heads.items()}
    moving._losses(heads, told)(steps)[mine].mean().backward()
    expected = {name: value.grad.clone() for name, value in steps.items() if value.grad is not None}
    moving._robust(heads, told, mine)(steps)
    assert expected
    for name, value in steps.items():
        np.testing.assert_allclose(value.grad, expected[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("how", MEANS)
def test_a_fifth_of_hostile_members_who_tell_something_else(how: str) -> None:
    honest, other = members(np.zeros(40, np.int64)), members(np.zeros(40, np.int64), step=5)
    is_hostile = torch.arange(40) % 5 == 0
    told = replace(
        honest,
        pairs=Pairs(
            torch.where(is_hostile[:, None, None], other.pairs.history, honest.pairs.history),
            torch.where(is_hostile[:, None], other.pairs.target, honest.pairs.target),
        ),
    )
    moving = replace(mover(steps=8), mean=how)
    heads = stacked(moving.base, 2)
    clean, attacked = (moving.edits(heads, heads, each) for each in (honest, told))
    assert any(value[0].any() for value in clean.values())
    assert any(value[0].any() for value in attacked.values())
    assert not any(value[1].any() for value in attacked.values())


@pytest.mark.parametrize("how", MEANS)
def test_a_step_is_chosen_by_the_same_mean_of_gains(how: str) -> None:
    told = members(np.zeros(10, np.int64), held=1.0)
    fitted = torch.full((2, 10), 2.0)
    fitted[1] = 1.9
    fitted[1, :2] = 50.0  # two of ten lose more than the others gain
    assert chosen(fitted, told, how)[0] == (0 if how == MEAN else 1)


@pytest.mark.parametrize("how", ROBUST)
def test_prototypes_that_move_by_bytes_take_the_same_mean_of_their_members(how: str) -> None:
    bank = Bank.of({"head.0.weight": torch.zeros(2, 3, 3)}, torch.zeros(2, 4))
    residuals = {"head.0.weight": torch.randn(10, 3, 3, generator=torch.Generator().manual_seed(0))}
    residuals["head.0.weight"][0] = 1e6
    points = torch.randn(10, 4, generator=torch.Generator().manual_seed(1))
    group_of = np.array([0] * 6 + [1] * 4)
    moved = bank.refined(group_of, residuals, points, 0.5, how)
    weight = torch.nn.functional.one_hot(torch.from_numpy(group_of), 2)
    expected = 0.5 * robust_means(residuals["head.0.weight"].flatten(1), weight, how)
    np.testing.assert_allclose(moved.drift["head.0.weight"].flatten(1), expected, rtol=1e-6)
    where = robust_means(points, weight, how)
    np.testing.assert_allclose(moved.centers, 0.5 * where, rtol=1e-6)
    plain = bank.refined(group_of, residuals, points, 0.5)
    assert float(plain.drift["head.0.weight"][0].max()) > 1e4
    assert float(moved.drift["head.0.weight"][0].abs().max()) < 1e2


@pytest.mark.parametrize(
    ("how", "refinement"), [(CLIPPED, "bytes"), (TRIMMED, "reports"), (MEDIAN, "reports")]
)
def test_every_mean_plays_and_is_the_same_again(how: str, refinement: str) -> None:
    base: dict[str, Any] = LIKELIHOOD if refinement == "reports" else {}
    given = {**base, "refinement": refinement, "refinement_mean": how}
    tables = [table("persona", built=strategy("persona", **given)) for _ in range(2)]
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize("refinement", ["none", "shrink"])
def test_a_mean_without_members_to_take_it_of_is_refused(refinement: str) -> None:
    words = "strategy.persona: refinement_mean must go with refinement=bytes or reports"
    with pytest.raises(UserError, match=words):
        build_strategy("persona", {"refinement": refinement, "refinement_mean": "median"})
