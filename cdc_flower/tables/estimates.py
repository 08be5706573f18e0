"""Estimates values with intervals and paired differences, with devices as the clusters.

A value is a ratio of sums, ``sum of value_sum / sum of value_count``. Its 95 % interval takes
devices as the clusters, because events of one device are alike: with ``S_i`` and ``N_i`` the sums
of device ``i`` over segments, ``R = sum S / sum N`` and ``e_i = (S_i - R N_i) / sum N``, the
standard error is ``sqrt(n / (n - 1) * sum e_i**2)``. The interval of a paired difference is a
bootstrap: devices are drawn anew with all their segments, the same for both, and it runs from the
2.5th to the 97.5th percentile. Of several seeds both intervals are over trainings × devices; see
:mod:`cdc_flower.tables.trainings`.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.core.groupby import DataFrameGroupBy

from cdc_flower.core.seeds import generator
from cdc_flower.tables.trainings import errors, p_values

BASELINE = "static"
LOWER_IS_BETTER = frozenset({"log_loss", "median_rank", "mean_rank"})
NUM_RESAMPLES = 1000
_PARTS = ["value_sum", "value_count", "value_sum_base", "value_count_base"]
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
    by = list(by)
    table = _influence(sums, by)
    value = table.groupby(by, observed=True, sort=False)["value"].first()
    found = errors(table, by).reindex(value.index)
    margin = found["margin"]
    columns = {"mean": value, "low": value - margin, "high": value + margin}
    return pd.DataFrame({**columns, **found[["num_devices", "num_seeds"]]}).reset_index()


def paired_difference(
    sums: pd.DataFrame, by: Sequence[str], baseline: str = BASELINE
) -> pd.DataFrame:
    """Subtracts the baseline strategy's value from each, over seeds and devices that both have.

    Args:
        sums: From :func:`device_sums` with the columns ``by`` and ``strategy``.
        by: The columns that make a group, without ``strategy``.
        baseline: The strategy to compare with. Where it is absent, there are no rows.

    Returns:
        ``by``, ``strategy``, ``diff``, ``low``, ``high``, ``p`` (two-sided, before any correction),
        ``num_devices``. The interval is NaN for one device.
    """
    by = list(by)
    group = [*by, "strategy"]
    key = [*by, "seed", "device_id"]
    theirs = sums.loc[sums["strategy"] == baseline, [*key, "value_sum", "value_count"]]
    both = sums.merge(theirs, on=key, suffixes=("", "_base"))
    groups = both.groupby(group, observed=True, sort=False)
    result = pd.DataFrame({"diff": _difference(groups[_PARTS].sum(skipna=False).to_numpy().T)})
    result.index = groups.size().index
    cells = both[[*group, "seed", "device_id"]].assign(influence=_pair_influence(both, groups))
    found = errors(cells, group).reindex(result.index)
    difference = result["diff"].to_numpy()
    result = result.assign(p=p_values(difference, found), num_devices=found["num_devices"])
    result[["low", "high"]] = difference[:, None] + found[["margin"]].to_numpy() * [-1, 1]
    single = (found["num_seeds"] == 1).to_numpy()
    if single.any():
        result.loc[single, ["low", "high"]] = _drawn(both[single[groups.ngroup()]], group)
    result.loc[result["num_devices"] < 2, ["low", "high", "p"]] = np.nan
    return result.reset_index()[[*group, "diff", "low", "high", "p", "num_devices"]]


def _pair_influence(both: pd.DataFrame, groups: DataFrameGroupBy) -> pd.Series:
    """Gives each device and seed its own part of the error of its group's difference."""
    total = groups[_PARTS].transform("sum", skipna=False)
    with np.errstate(invalid="ignore"):  # an infinite loss has no interval
        mine, theirs = (
            (both[value] - total[value] / total[count] * both[count]) / total[count]
            for value, count in (_PARTS[:2], _PARTS[2:])
        )
        return mine - theirs


def _drawn(both: pd.DataFrame, group: Sequence[str]) -> NDArray[np.float64]:
    """Draws devices anew: ends of intervals ``[k, 2]`` of groups of one seed, in their order.

    Args:
        both: A row a group and device, with sums and counts of both strategies.
        group: The columns that make a group.
    """
    groups = both.groupby(list(group), observed=True, sort=False)
    rows, _ = pd.factorize(both["device_id"], sort=True)
    table = np.zeros((len(_PARTS), rows.max(initial=-1) + 1, groups.ngroups))
    table[:, rows, groups.ngroup()] = both[_PARTS].to_numpy().T
    return np.stack(_bootstrap(table), axis=1)


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
    return sums[[*by, "seed", "device_id"]].assign(value=value, influence=influence)
