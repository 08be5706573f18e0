"""Estimates values with intervals and paired differences, with devices as the clusters.

A value is a ratio of sums, ``sum of value_sum / sum of value_count``. Its 95 % interval takes
devices as the clusters, because events of one device are alike: with ``S_i`` and ``N_i`` the sums
of device ``i`` over segments and seeds, ``R = sum S / sum N`` and ``e_i = (S_i - R N_i) / sum N``,
the standard error is ``sqrt(n / (n - 1) * sum e_i**2)``. The interval of a paired difference is a
bootstrap: devices are drawn anew with all their segments and seeds, the same for both, and it runs
from the 2.5th to the 97.5th percentile.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdc_flower.core.seeds import generator

Z_95 = 1.96
BASELINE = "static"
LOWER_IS_BETTER = frozenset({"log_loss", "median_rank", "mean_rank"})
NUM_RESAMPLES = 1000
_WEIGHTS_PER_CHUNK = 2_000_000  # of the resamples, which bound the memory


def device_sums(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Adds up values and counts of each group, seed and device; without those that counted nothing.

    Args:
        by: The columns that make a group.
    """
    key = [*by, "seed", "device_id"]
    sums = frame.groupby(key, observed=True, sort=False)[["value_sum", "value_count"]].sum(
        skipna=False
    )
    return sums[sums["value_count"] != 0].reset_index()


def estimate(sums: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Estimates the value of each group with its interval.

    Args:
        sums: From :func:`device_sums` with at least the columns ``by``.

    Returns:
        ``by``, ``mean``, ``low``, ``high``, ``num_devices``, ``num_seeds``. The interval is NaN for
        one device.
    """
    seeds = sums.groupby(list(by), observed=True, sort=False)["seed"].nunique().rename("num_seeds")
    table = _influence(sums, by)
    return _interval(table, by, "mean").join(seeds, on=list(by))


def paired_difference(
    sums: pd.DataFrame, by: Sequence[str], baseline: str = BASELINE
) -> pd.DataFrame:
    """Subtracts the baseline strategy's value from each, over seeds and devices that both have.

    Args:
        sums: From :func:`device_sums` with the columns ``by`` and ``strategy``.
        by: The columns that make a group, without ``strategy``.
        baseline: The strategy to compare with. Where it is absent, there are no rows.

    Returns:
        ``by``, ``strategy``, ``diff``, ``low``, ``high``, ``num_devices``. The interval is NaN for
        one device.
    """
    by = list(by)
    group = [*by, "strategy"]
    key = [*by, "seed", "device_id"]
    theirs = sums.loc[sums["strategy"] == baseline, [*key, "value_sum", "value_count"]]
    both = sums.merge(theirs, on=key, suffixes=("", "_base"))
    parts = ["value_sum", "value_count", "value_sum_base", "value_count_base"]
    device = (
        both.groupby([*group, "device_id"], observed=True, sort=False)[parts]
        .sum(skipna=False)
        .reset_index()
    )
    groups = device.groupby(group, observed=True, sort=False)
    result = groups.size().rename("num_devices").reset_index()
    rows, _ = pd.factorize(device["device_id"], sort=True)
    table = np.zeros((len(parts), rows.max(initial=-1) + 1, len(result)))
    table[:, rows, groups.ngroup()] = device[parts].to_numpy().T
    low, high = _bootstrap(table)
    few = result["num_devices"] < 2
    result = result.assign(diff=_difference(table.sum(axis=1)), low=low, high=high)
    result.loc[few, ["low", "high"]] = np.nan
    return result[[*group, "diff", "low", "high", "num_devices"]]


def _difference(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtracts ratios: sums and counts ``[4, ...]`` of a strategy and of its baseline."""
    with np.errstate(invalid="ignore"):  # an infinite loss has no difference
        return sums[0] / sums[1] - sums[2] / sums[3]


def _bootstrap(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Resamples differences and takes their 2.5th and 97.5th percentile, each ``[k]``.

    Args:
        table: ``[4, n, k]``, as :func:`_difference` takes them, for ``n`` devices; zeros where a
            device is absent. Groups with the same devices are resampled alike.
    """
    ends = np.full((2, table.shape[2]), np.nan)
    # Groups of the same devices share their draws and one product.
    present, which = np.unique(table[1] != 0, axis=1, return_inverse=True)
    for number in range(present.shape[1]):
        rows = np.flatnonzero(present[:, number])
        columns = np.flatnonzero(which.reshape(-1) == number)
        sums = table[:, rows[:, None], columns].transpose(1, 0, 2).reshape(len(rows), -1)
        draws = _draws(len(rows))
        size = max(1, _WEIGHTS_PER_CHUNK // len(rows))
        done: list[NDArray[np.float64]] = []
        for first in range(0, NUM_RESAMPLES, size):
            with np.errstate(invalid="ignore"):
                resampled = draws[first : first + size].astype(np.float64) @ sums
            done.append(
                _difference(resampled.reshape(-1, len(table), len(columns)).transpose(1, 0, 2))
            )
        ends[:, columns] = np.quantile(np.concatenate(done), (0.025, 0.975), axis=0)
    return ends[0], ends[1]


@lru_cache(maxsize=8)
def _draws(num_devices: int) -> NDArray[np.uint8]:
    """Counts how often each device is drawn, ``[NUM_RESAMPLES, num_devices]``, under 256 times."""
    rng = generator(0, "bootstrap", num_devices)
    size = max(1, _WEIGHTS_PER_CHUNK // num_devices)
    done: list[NDArray[np.uint8]] = []
    for first in range(0, NUM_RESAMPLES, size):
        num_draws = min(size, NUM_RESAMPLES - first)
        drawn = (
            rng.integers(num_devices, size=(num_draws, num_devices))
            + np.arange(num_draws)[:, None] * num_devices
        )
        counts = np.bincount(drawn.ravel(), minlength=drawn.size).astype(np.uint8)
        done.append(counts.reshape(drawn.shape))
    return np.concatenate(done)


def _influence(sums: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Gives each row the value of its group and its own part of the error."""
    groups = sums.groupby(list(by), observed=True, sort=False)
    total = groups["value_count"].transform("sum")
    value = groups["value_sum"].transform("sum", skipna=False) / total
    with np.errstate(invalid="ignore"):  # an infinite loss has no interval
        influence = (sums["value_sum"] - value * sums["value_count"]) / total
    return sums[[*by, "device_id"]].assign(value=value, influence=influence)


def _interval(table: pd.DataFrame, by: Sequence[str], name: str) -> pd.DataFrame:
    """Makes ``by``, ``name``, ``low``, ``high``, ``num_devices`` of influences of devices."""
    by = list(by)
    value = table.groupby(by, observed=True, sort=False)["value"].first()
    device = table.groupby([*by, "device_id"], observed=True, sort=False)["influence"].sum(
        skipna=False
    )
    squares = (device**2).groupby(by, observed=True, sort=False)
    count = squares.size()
    margin = Z_95 * np.sqrt(squares.sum(skipna=False) * count / (count - 1).where(count > 1))
    result = pd.DataFrame(
        {name: value, "low": value - margin, "high": value + margin, "num_devices": count}
    )
    return result.reset_index()
