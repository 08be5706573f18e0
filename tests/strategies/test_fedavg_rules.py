"""Rules by which FedAvg makes one update of those of a round, against naive twins."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import options_of
from cdc_flower.strategies.fedavg import FedAvg
from cdc_flower.strategies.fedavg.rules import rules
from cdc_flower.strategies.fedavg.rules.clipping import clipped
from cdc_flower.strategies.fedavg.rules.geometric_median import geometric_median
from cdc_flower.strategies.registry import build_strategy

RULES = list(rules)
ROBUST = [name for name in RULES if name != "mean"]
NUM_DEVICES, NUM_NUMBERS = 23, 6


def made(name: str, **settings: Any) -> Any:
    return rules[name].value(**settings)


def combined(name: str, updates: np.ndarray, last: Any = None, **settings: Any) -> np.ndarray:
    count, width = updates.shape
    weights = np.full(count, 1 / count)
    start = np.zeros(width) if last is None else last
    found: np.ndarray = made(name, **settings).combine(updates, weights, start)
    return found


def honest(count: int = NUM_DEVICES, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, NUM_NUMBERS))


def spread(updates: np.ndarray) -> float:
    apart = updates[:, None] - updates[None]
    return float(np.linalg.norm(apart, axis=-1).max())


# Naive twins, a number and a device at a time.


def krum_scores(updates: np.ndarray, num_hostile: int) -> list[float]:
    count = len(updates) - num_hostile - 2
    found = []
    for i, one in enumerate(updates):
        apart = [sum((one - other) ** 2) for j, other in enumerate(updates) if j != i]
        found.append(sum(sorted(apart)[:count]))
    return found


def naive_median(updates: np.ndarray) -> np.ndarray:
    found = []
    for column in updates.T:
        ordered = sorted(column)
        half = len(ordered) // 2
        odd = len(ordered) % 2
        found.append(ordered[half] if odd else (ordered[half - 1] + ordered[half]) / 2)
    return np.array(found)


def naive_trimmed(updates: np.ndarray, share: float) -> np.ndarray:
    cut = int(share * len(updates))
    return np.array([np.mean(sorted(column)[cut : len(updates) - cut]) for column in updates.T])


def naive_krum(updates: np.ndarray, num_hostile: int) -> np.ndarray:
    return updates[int(np.argmin(krum_scores(updates, num_hostile)))]


def naive_multi_krum(updates: np.ndarray, num_hostile: int) -> np.ndarray:
    order = np.argsort(krum_scores(updates, num_hostile))
    return updates[order[: len(updates) - num_hostile]].mean(0)


def naive_bulyan(updates: np.ndarray, num_hostile: int) -> np.ndarray:
    theta = len(updates) - 2 * num_hostile
    chosen = updates[np.argsort(krum_scores(updates, num_hostile))[:theta]]
    middle, found = naive_median(chosen), []
    for column, center in zip(chosen.T, middle, strict=True):
        nearest = sorted(column, key=lambda value: abs(value - center))
        found.append(np.mean(nearest[: theta - 2 * num_hostile]))
    return np.array(found)


def naive_clipped(updates: np.ndarray, limit: float) -> np.ndarray:
    return np.array([one * min(1.0, limit / np.linalg.norm(one)) for one in updates])


def naive_geometric_median(updates: np.ndarray, steps: int) -> np.ndarray:
    middle = float(np.median([np.linalg.norm(one) for one in updates]))
    point = naive_clipped(updates, middle).mean(0)
    for _ in range(steps):
        near = [1 / max(1e-5, float(np.linalg.norm(one - point))) for one in updates]
        point = sum(b * one for b, one in zip(near, updates, strict=True)) / sum(near)
    return point


def naive_centered(updates: np.ndarray, start: np.ndarray, steps: int) -> np.ndarray:
    center = start
    for _ in range(steps):
        apart = updates - center
        radius = float(np.median([np.linalg.norm(one) for one in apart]))
        center = center + naive_clipped(apart, radius).mean(0)
    return center


START = np.full(NUM_NUMBERS, 0.3)
TWINS = {
    "mean": lambda updates: updates.mean(0),
    "median": naive_median,
    "trimmed_mean": lambda updates: naive_trimmed(updates, 0.2),
    "krum": lambda updates: naive_krum(updates, 10),
    "multi_krum": lambda updates: naive_multi_krum(updates, 10),
    "bulyan": lambda updates: naive_bulyan(updates, 5),
    "geometric_median": lambda updates: naive_geometric_median(updates, 4),
    "centered_clipping": lambda updates: naive_centered(updates, START, 3),
}


def test_every_rule_has_a_twin() -> None:
    assert set(TWINS) == set(RULES)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_rule_does_as_its_twin_that_was_written_straight(name: str, seed: int) -> None:
    updates = honest(seed=seed)
    np.testing.assert_allclose(
        combined(name, updates, START), TWINS[name](updates), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("name", RULES)
def test_of_equal_updates_every_rule_is_the_mean(name: str) -> None:
    updates = np.repeat(honest(1), NUM_DEVICES, axis=0)
    np.testing.assert_allclose(combined(name, updates, START), updates[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(11)))
def test_the_order_of_devices_does_not_matter(name: str, order: list[int]) -> None:
    updates = honest(11)
    one, other = combined(name, updates), combined(name, updates[order])
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("size", [1e3, 1e30])
def test_one_huge_update_moves_a_rule_by_less_than_the_honest_differ(
    name: str, size: float
) -> None:
    updates = honest()
    before = combined(name, updates[:-1])
    updates[-1] = size
    assert np.linalg.norm(combined(name, updates) - before) <= spread(updates[:-1])


def test_one_huge_update_carries_the_mean_away_unless_norms_are_held() -> None:
    updates = honest()
    before = updates[:-1].mean(0)
    updates[-1] = 1e30
    assert np.linalg.norm(combined("mean", updates) - before) > 1e28
    held = combined("mean", clipped(updates, "median"))
    assert np.linalg.norm(held - before) <= spread(updates[:-1])


@pytest.mark.parametrize("name", ROBUST)
def test_a_fifth_with_flipped_and_scaled_updates_do_not_carry_a_rule_away(name: str) -> None:
    updates = 1.0 + 0.1 * honest(40)
    clean = updates.mean(0)
    updates[:8] *= -10
    assert updates.mean() < 0
    off = np.linalg.norm(combined(name, updates) - clean) / np.linalg.norm(clean)
    assert off < 0.2


def test_the_geometric_median_of_three_points_on_a_line_is_the_middle_one() -> None:
    updates = np.array([[0.0, 0.0], [1.0, 2.0], [10.0, 20.0]])
    alike = np.full(3, 1 / 3)
    np.testing.assert_allclose(geometric_median(updates, alike, 50), [1, 2], atol=1e-3)
    np.testing.assert_allclose(combined("geometric_median", updates), [1, 2], atol=1e-2)


def test_weights_of_the_geometric_median_stay_as_they_are_from_step_to_step() -> None:
    updates, weights = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0.6, 0.2, 0.1, 0.1])
    before = weights.copy()
    assert abs(geometric_median(updates, weights, 200)[0]) < 1e-3  # most of the weight is at 0
    np.testing.assert_array_equal(weights, before)


def test_devices_cannot_choose_their_weight_but_in_the_mean() -> None:
    updates = honest(11)
    weights = np.r_[0.9, np.full(10, 0.01)]
    last = np.zeros(NUM_NUMBERS)
    for name in ROBUST:
        rule = made(name)
        np.testing.assert_array_equal(rule.combine(updates, weights, last), combined(name, updates))
    np.testing.assert_allclose(made("mean").combine(updates, weights, last), weights @ updates)


def test_differences_near_convergence_do_not_cancel_out() -> None:
    apart = honest() * 1e-9
    updates = apart.copy()
    updates[3] = 0  # nearest to all
    np.testing.assert_array_equal(combined("krum", updates), updates[3])


def test_norms_are_held_at_the_limit_and_shorter_updates_stay() -> None:
    updates = np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    np.testing.assert_allclose(clipped(updates, 1.0), [[0.6, 0.8], [0.3, 0.4], [0, 0]])
    np.testing.assert_allclose(clipped(updates, "median"), [[0.3, 0.4], [0.3, 0.4], [0, 0]])
    for nothing in (None, float("inf"), 5.0):
        assert clipped(updates, nothing) is updates


def test_without_a_share_or_a_step_rules_do_nothing_of_their_own() -> None:
    updates = honest()
    np.testing.assert_allclose(
        combined("trimmed_mean", updates, trim_share=0.0), updates.mean(0), rtol=1e-9
    )
    np.testing.assert_allclose(
        combined("geometric_median", updates, weiszfeld_steps=0),
        clipped(updates, "median").mean(0),
    )
    np.testing.assert_allclose(
        combined("centered_clipping", updates, clip_radius=float("inf")), updates.mean(0)
    )
    np.testing.assert_allclose(
        combined("multi_krum", updates, num_hostile=0), updates.mean(0), rtol=1e-9
    )
    np.testing.assert_allclose(
        combined("multi_krum", updates, num_selected=1), combined("krum", updates)
    )


@pytest.mark.parametrize(
    ("name", "settings", "least"),
    [
        ("mean", {}, 1),
        ("median", {}, 1),
        ("trimmed_mean", {}, 5),
        ("trimmed_mean", {"trim_share": 0.0}, 1),
        ("krum", {}, 3),
        ("krum", {"num_hostile": 4}, 11),
        ("multi_krum", {"num_hostile": 4}, 11),
        ("bulyan", {}, 3),
        ("bulyan", {"num_hostile": 4}, 19),
    ],
)
def test_a_rule_says_how_many_devices_it_needs(
    name: str, settings: dict[str, Any], least: int
) -> None:
    assert made(name, **settings).least_devices == least


# Options of the strategy.


def test_options_of_the_rules_are_options_of_the_strategy() -> None:
    known = options_of(FedAvg)
    for entry in rules.entries():
        for name, each in options_of(entry.value).items():
            assert known[name].default == each.default and known[name].rule == each.rule


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rule": "medain"}, "rule must be .*, got medain; did you mean median"),
        (
            {"trim_share": 0.15},
            "trim_share must go with rule=trimmed_mean, got trim_share=0.15 with",
        ),
        ({"rule": "median", "clip_radius": 2.0}, "clip_radius must go with rule=centered_clipping"),
        ({"rule": "krum", "weiszfeld_steps": 1}, "weiszfeld_steps must go with rule=geometric"),
        ({"rule": "krum", "num_selected": 2}, "num_selected must go with rule=multi_krum"),
        ({"num_hostile": 1}, "num_hostile must go with rule=bulyan or krum or multi_krum, got"),
        ({"rule": "centered_clipping", "clip_steps": 6}, r"clip_steps must be .* in \[1, 5\]"),
        ({"clip_norm": 0}, "clip_norm must be"),
        ({"clip_norm": "mean"}, "clip_norm must be"),
    ],
)
def test_what_does_not_go_with_a_rule_is_refused_in_one_sentence(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=f"strategy.fedavg: .*{words}|strategy.fedavg.{words}"):
        build_strategy("fedavg", settings)
