"""Intervals over trainings × devices, and corrections for many comparisons."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from result_cases import rows_with
from scipy.stats import norm, t

from cdc_flower.tables.estimates import device_sums, paired_difference
from cdc_flower.tables.holm import holm, is_sure, with_holm
from cdc_flower.tables.results import Results
from cdc_flower.tables.summary import summarize
from cdc_flower.tables.trainings import errors, interval_words, p_values

NUM_TRIALS, NUM_DEVICES = 400, 30


def pairs_of(
    gains: NDArray[np.float64], *, own_devices: bool = False, gain: float = 0.0
) -> pd.DataFrame:
    """Differences of made-up trials; gains of devices are ``[trials, seeds, devices]``."""
    trial, seed, device = (axis.ravel() for axis in np.indices(gains.shape))
    frames = []
    for name, values in (("static", np.zeros_like(gains)), ("duet", gains + gain)):
        columns = {"trial": trial, "seed": seed, "value_sum": values.ravel(), "value_count": 1.0}
        device_id = device + own_devices * 1000 * seed
        frames.append(pd.DataFrame({**columns, "device_id": device_id, "strategy": name}))
    sums = device_sums(pd.concat(frames, ignore_index=True), ["trial", "strategy"])
    pairs = paired_difference(sums, ["trial"])
    return pairs[pairs["strategy"] == "duet"]


@pytest.mark.parametrize("own_devices", [False, True])
@pytest.mark.parametrize(("seeds", "between"), [(3, 0.02), (5, 0.02), (3, 0.1), (6, 0.1)])
def test_intervals_cover_the_gain_of_the_next_training_too(
    seeds: int, between: float, own_devices: bool
) -> None:
    rng = np.random.default_rng(0)
    shape = (NUM_TRIALS, seeds, NUM_DEVICES)
    training = rng.normal(0.0, between, (NUM_TRIALS, seeds, 1))
    device = rng.normal(0.0, 0.1, shape if own_devices else (NUM_TRIALS, 1, NUM_DEVICES))
    gains = training + device + rng.normal(0.0, 0.1, shape)
    pairs = pairs_of(gains, own_devices=own_devices, gain=0.3)
    covered = ((pairs["low"] <= 0.3) & (pairs["high"] >= 0.3)).mean()
    assert 0.92 <= covered <= 0.995
    is_below = (pairs["p"] < 0.05).mean()
    assert is_below > 0.5, "0.3 is a large gain"


def test_intervals_over_devices_alone_would_cover_it_far_too_seldom() -> None:
    rng = np.random.default_rng(0)
    training = rng.normal(0.0, 0.1, (NUM_TRIALS, 3, 1))
    gains = training + rng.normal(0.0, 0.1, (NUM_TRIALS, 3, NUM_DEVICES))
    pooled = gains.mean(1)
    half = 1.96 * pooled.std(1, ddof=1) / np.sqrt(NUM_DEVICES)
    assert (np.abs(pooled.mean(1)) <= half).mean() < 0.5
    found = pairs_of(gains)
    assert 0.93 <= ((found["low"] <= 0) & (found["high"] >= 0)).mean() <= 0.98


def test_where_devices_do_not_differ_it_is_students_t_over_seeds() -> None:
    # Gains .1, .2 and .3: the standard error is .1 / sqrt(3), and t(2) is 4.303.
    gains = np.broadcast_to(np.array([0.1, 0.2, 0.3])[None, :, None], (1, 3, 500))
    row = pairs_of(gains).iloc[0]
    assert row["diff"] == pytest.approx(0.2)
    assert row["high"] - row["diff"] == pytest.approx(4.3027 * 0.1 / np.sqrt(3), rel=1e-3)
    assert row["p"] == pytest.approx(0.0742, abs=1e-3)  # t = 3.464


def test_where_trainings_do_not_differ_it_is_no_narrower_than_over_devices() -> None:
    own = np.random.default_rng(0).normal(0.1, 0.1, NUM_DEVICES)
    row = pairs_of(np.broadcast_to(own, (1, 4, NUM_DEVICES))).iloc[0]
    half = 1.96 * own.std(ddof=1) / np.sqrt(NUM_DEVICES)
    assert row["high"] - row["diff"] == pytest.approx(half)


def test_one_seed_is_over_devices_given_its_model() -> None:
    own = np.random.default_rng(0).normal(0.1, 0.1, 200)
    row = pairs_of(own[None, None]).iloc[0]
    half = 1.96 * own.std(ddof=1) / np.sqrt(200)
    assert (row["high"] - row["low"]) / 2 == pytest.approx(half, rel=0.1)
    assert row["p"] < 1e-6


def plain_errors(influence: NDArray[np.float64]) -> dict[str, float]:
    """The formula of the module, term by term, of ``[k, n]`` errors of seeds and devices."""
    k, n = influence.shape
    v_device = n / (n - 1) * sum(influence[:, i].sum() ** 2 for i in range(n))
    found = {"num_seeds": k, "num_devices": n, "se_device": np.sqrt(v_device)}
    if k == 1:
        margin = 1.96 * np.sqrt(v_device)
        return {**found, "df": np.inf, "se": np.sqrt(v_device), "margin": margin}
    v_seed = k / (k - 1) * sum(influence[s].sum() ** 2 for s in range(k))
    v_cell = k * n / (k * n - 1) * (influence**2).sum()
    shared = max(v_device - v_cell, 0.0)
    df = (v_seed + shared) ** 2 / (v_seed**2 / (k - 1) + shared**2 / (n - 1))
    se = np.sqrt(v_seed + shared)
    margin = max(t.ppf(0.975, df) * se, 1.96 * np.sqrt(v_device))
    return {**found, "df": df, "se": se, "margin": margin}


@settings(max_examples=15)
@given(st.integers(1, 5), st.integers(2, 9), st.integers(0, 999), st.sampled_from([0, 0.3, 3]))
def test_errors_are_those_of_the_formula_term_by_term(
    k: int, n: int, seed: int, between: float
) -> None:
    draws = np.random.default_rng(seed)
    each = draws.normal(size=(2, k, n)) + between * draws.normal(size=(2, 1, n))
    group, of_seed, device = (axis.ravel() for axis in np.indices(each.shape))
    cells = pd.DataFrame({"g": group, "seed": of_seed, "device_id": device})
    cells = cells.assign(influence=each.ravel()).sample(frac=1, random_state=seed)
    found = errors(cells, ["g"])
    for number in range(2):
        assert found.loc[number].to_dict() == pytest.approx(plain_errors(each[number]), rel=1e-9)


def test_an_unknown_part_makes_the_margin_unknown() -> None:
    cells = pd.DataFrame({"g": 0, "seed": [0, 0, 1, 1], "device_id": [0, 1, 0, 1]})
    found = errors(cells.assign(influence=[0.1, np.nan, 0.2, 0.3]), ["g"])
    assert np.isnan(found["margin"].to_numpy()).all()
    assert np.isnan(errors(cells.assign(influence=0.1)[:1], ["g"])["margin"].to_numpy()).all()


def test_p_is_two_sided_and_the_larger_over_trainings_and_over_devices() -> None:
    found = pd.DataFrame({"se": [1.0, 0.5, 1.0], "se_device": [0.5, 1.0, 0.0], "df": 3.0})
    p = p_values(np.array([-2.0, 2.0, 0.0]), found)
    assert p == pytest.approx([2 * t.sf(2, 3), 2 * norm.sf(2), 1.0])
    exact = pd.DataFrame({"se": [0.0], "se_device": [0.0], "df": [3.0]})
    assert p_values(np.array([0.0]), exact).tolist() == [1.0]
    assert p_values(np.array([0.1]), exact).tolist() == [0.0]


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_words_say_over_how_many_trainings_an_interval_is(num_seeds: int) -> None:
    expected = ["over devices, given these models", "over 2 trainings × devices"]
    assert interval_words(num_seeds) == expected[num_seeds - 1]


def test_holms_steps_by_hand() -> None:
    # Sorted .001, .01, .03, .04: times 4, 3, 2, 1 is .004, .03, .06, .04, and none falls.
    adjusted = holm([0.03, 0.001, np.nan, 0.04, 0.01])
    np.testing.assert_allclose(adjusted, [0.06, 0.004, np.nan, 0.06, 0.03])
    assert holm([0.4, 0.9]).tolist() == [0.8, 0.9]
    assert holm([0.7, 0.6]).tolist() == [1.0, 1.0]  # .6 times 2 is no probability
    assert holm([]).tolist() == []


def summary(primary: str = "") -> pd.DataFrame:
    """Twenty strategies that gain nothing, and one, `lucky`, whose p is about .01."""
    rng = np.random.default_rng(1)
    frames = []
    noise = rng.normal(0.0, 0.1, 50)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    for name in ("static", "lucky", *(f"arm_{k}" for k in range(20))):
        gain = {"static": 0.0, "lucky": 0.1 * noise + 0.0365}.get(
            name, 0.1 * rng.permutation(noise)
        )
        columns = {"run_id": "r", "experiment": "e", "strategy": name, "seed": 0, "task": "t"}
        columns |= {"segment": 0, "time_s": 0.0, "device_id": np.arange(50), "metrics": ("auc",)}
        values = {"value_sum": np.full(50, 0.5) + gain, "value_count": np.ones(50)}
        values = {key: value[:, None] for key, value in values.items()}
        frames.append(rows_with(**columns, **values, num_examples=1))
    return summarize(Results.of(pd.concat(frames, ignore_index=True)), primary=primary)


def test_a_gain_that_is_luck_among_many_is_none_after_correction() -> None:
    row = summary().set_index("strategy").loc["lucky"]
    assert row["diff_low"] > 0 and row["diff_p"] == pytest.approx(0.0098, abs=0.002)
    assert row["diff_p_holm"] == pytest.approx(21 * row["diff_p"])
    assert not is_sure(row)


def test_a_comparison_that_was_named_beforehand_needs_no_correction() -> None:
    row = summary("lucky").set_index("strategy").loc["lucky"]
    assert row["diff_p_holm"] == row["diff_p"] and is_sure(row)


@pytest.mark.parametrize("column", ["run", "task"])
def test_comparisons_of_other_runs_and_tasks_are_other_families(column: str) -> None:
    frame = pd.DataFrame({"run": "", "task": "t", "metric": "m", "strategy": ["a", "b"]})
    frame = frame.assign(**{column: ["one", "other"]}, diff_p=[0.01, 0.02])
    assert with_holm(frame)["diff_p_holm"].tolist() == [0.01, 0.02]


@pytest.mark.parametrize(
    ("low", "high", "adjusted", "sure"),
    [
        (0.1, 0.3, 0.01, True),
        (-0.3, -0.1, 0.01, True),
        (-0.1, 0.3, 0.01, False),
        (0.1, 0.3, 0.06, False),
        (0.1, 0.3, 0.05, False),
        (0.1, 0.3, None, True),
    ],
)
def test_a_difference_is_sure_where_its_interval_leaves_out_zero_and_its_p_is_below_the_level(
    low: float, high: float, adjusted: float | None, sure: bool
) -> None:
    row = pd.Series({"diff_low": low, "diff_high": high})
    assert is_sure(row if adjusted is None else pd.Series({**row, "diff_p_holm": adjusted})) is sure


def test_a_primary_comparison_does_not_count_among_the_others() -> None:
    frame = pd.DataFrame({"run": "", "task": "t", "metric": "m", "strategy": ["a", "b", "c"]})
    found = with_holm(frame.assign(diff_p=[0.001, 0.02, 0.03]), "a")["diff_p_holm"]
    np.testing.assert_allclose(found, [0.001, 0.04, 0.04])


def test_the_baseline_is_no_comparison_and_families_are_apart() -> None:
    columns = {"run": "", "task": "t", "strategy": ["static", "a", "b", "static", "a"]}
    frame = pd.DataFrame({**columns, "metric": ["m"] * 3 + ["n"] * 2})
    found = with_holm(frame.assign(diff_p=[np.nan, 0.01, 0.02, np.nan, 0.03]))["diff_p_holm"]
    np.testing.assert_allclose(found, [np.nan, 0.02, 0.02, np.nan, 0.03])
