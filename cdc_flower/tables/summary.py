"""Summarizes results: values with intervals, differences from a baseline, and costs.

A value is a ratio of sums, ``sum of value_sum / sum of value_count``. Its 95 % interval takes
devices as the clusters, because events of one device are alike: with ``S_i`` and ``N_i`` the sums
of device ``i`` over segments and seeds, ``R = sum S / sum N`` and ``e_i = (S_i - R N_i) / sum N``,
the standard error is ``sqrt(n / (n - 1) * sum e_i**2)``. The interval of a paired difference is a
bootstrap: devices are drawn anew with all their segments and seeds, the same for both, and it runs
from the 2.5th to the 97.5th percentile.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from cdc_flower.core.seeds import generator
from cdc_flower.tables.column import Pool
from cdc_flower.tables.columns import COLUMNS
from cdc_flower.tables.head_room import HEAD_ROOM, share_text, with_head_room
from cdc_flower.tables.results import Results

Z_95 = 1.96
BASELINE = "static"
#: Metrics that the terminal shows, as far as they exist.
SHOWN_METRICS = ("auc", "ndcg@10", "hr@10", "accuracy", "log_loss", "r@1", "r@5", "median_rank")
NUM_RESAMPLES = 1000
_WEIGHTS_PER_CHUNK = 2_000_000  # of the resamples, which bound the memory
_CELLS_AT_ONCE = 200_000  # of all metrics that are estimated in one pass, likewise


def summary_columns() -> tuple[str, ...]:
    """Names the columns of the summary: values and differences, then costs by ``COLUMNS``."""
    return (
        *("run", "task", "strategy", "metric", "mean", "low", "high", "num_devices", "num_seeds"),
        *("baseline", "diff", "diff_low", "diff_high"),
        *(column.summary_name for column in COLUMNS.in_summary),
    )


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


def summarize(results: Results, baseline: str = BASELINE) -> pd.DataFrame:
    """Makes a row for each run label, task, strategy and metric; see :func:`summary_columns`.

    Where an oracle was scored there is one column more; see :mod:`cdc_flower.tables.head_room`.

    Seeds are pooled. Runs that differ by more than their seed need different labels ``run``, else
    they are pooled too. Differences are from the strategy ``baseline``, NaN where it did not run.
    Costs are those of the strategy, repeated on each metric and pooled as their column says: sums
    are over a run and averaged over runs; means and medians are over what is finite, NaN where
    nothing arrived.
    """
    group = ["run", "task", "strategy"]
    size = max(1, _CELLS_AT_ONCE // max(1, len(results.cells)))
    metrics = results.metrics
    parts = [
        _values(results, metrics[first : first + size], baseline)
        for first in range(0, len(metrics), size)
    ]
    if not parts:
        return pd.DataFrame(columns=list(summary_columns()))
    table = pd.concat(parts, ignore_index=True).assign(baseline=baseline)
    table = table.merge(
        _costs(results.cells).astype(dict.fromkeys(group, object)), on=group, how="left"
    )
    counts = ["num_devices", "num_seeds"]
    table[counts] = table[counts].fillna(0).astype(int)
    return with_head_room(_ordered(table, results, baseline)[list(summary_columns())])


def _values(results: Results, metrics: Sequence[str], baseline: str) -> pd.DataFrame:
    """Estimates value and difference of each run label, task and strategy that has a metric.

    Args:
        results: Of which the metrics are.
        metrics: Estimated in one pass, as each step takes milliseconds however few its rows are.
        baseline: The strategy to compare with.
    """
    group = ["run", "task", "strategy"]
    key = [*group, "metric"]
    kept: list[pd.DataFrame] = []
    there: list[pd.DataFrame] = []
    for code, metric in enumerate(metrics):
        rows = results.rows(metric, [*group, "seed", "device_id"])
        own = device_sums(rows, group)
        names = pd.Categorical.from_codes(np.full(len(own), code), categories=pd.Index([*metrics]))
        kept.append(own.assign(metric=names))
        there.append(rows[group].drop_duplicates().astype(object).assign(metric=metric))
    sums = pd.concat(kept, ignore_index=True)
    pairs = paired_difference(sums, ["run", "task", "metric"], baseline)
    pairs = pairs.rename(columns={"low": "diff_low", "high": "diff_high"})
    table = pd.concat(there, ignore_index=True)
    for part in (estimate(sums, key), pairs.drop(columns="num_devices")):
        table = table.merge(part.astype(dict.fromkeys(key, object)), on=key, how="left")
    return table


def write_summary(frame: pd.DataFrame, path: str | Path) -> None:
    """Writes the summary as comma-separated values."""
    frame.to_csv(path, index=False, float_format="%.8g", lineterminator="\n")


def strategies_in_order(names: Iterable[str], baseline: str = BASELINE) -> list[str]:
    """Lists each name once, the baseline first and the others as they come."""
    unique = list(dict.fromkeys(str(name) for name in names))
    return sorted(unique, key=lambda name: name != baseline)


def rich_table(summary: pd.DataFrame, metrics: Sequence[str] = SHOWN_METRICS) -> Table:
    """Makes the table for a terminal: of each strategy values with half intervals, then gains.

    Args:
        metrics: The columns, as far as they exist; if none does, the first three that do.
    """
    present = list(dict.fromkeys(summary["metric"]))
    shown = [metric for metric in metrics if metric in present][:3] or present[:3]
    labels = [name for name in ("run", "task") if summary[name].nunique() > 1]
    baseline = summary["baseline"].iloc[0] if len(summary) else BASELINE
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        caption=(
            f"± is 95 % over devices; the second line is against {baseline} on the same devices"
        ),
    )
    for name in [*labels, "strategy"]:
        table.add_column(name, no_wrap=True)
    has_room = HEAD_ROOM in summary
    room = ["of the\nhead-room"] if has_room else []
    for name in [*shown, *room, "KB up", "KB down", "latency\nms", "labels"]:
        table.add_column(name, justify="right")
    for _, rows in summary.groupby(["run", "task", "strategy"], sort=False, observed=True):
        first = rows.iloc[0]
        by_metric = {str(row["metric"]): row for _, row in rows.iterrows()}
        cells = [str(first[name]) for name in [*labels, "strategy"]]
        cells += [
            _value_cell(by_metric[metric]) if metric in by_metric else "–" for metric in shown
        ]
        cells += [share_text(rows)] if has_room else []
        cells += [_kilobytes(first[f"bytes_{way}_per_device"]) for way in ("up", "down")]
        cells += [
            _number(first["latency_s_median"] * 1000, ",.0f"),
            _number(first["num_labels"], ",.0f"),
        ]
        table.add_row(*cells)
    return table


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


def _costs(cells: pd.DataFrame) -> pd.DataFrame:
    """Pools what each run label, task and strategy sent, waited for and spent."""
    group = ["run", "task", "strategy"]
    columns = COLUMNS.in_summary
    summed = [column for column in columns if column.pooled in (Pool.PER_DEVICE, Pool.TOTAL)]
    runs = cells.groupby([*group, "run_id", "seed"], observed=True, sort=False).agg(
        num_devices=("device_id", "nunique"),
        **{column.summary_name: (column.name, "sum") for column in summed},
    )
    shared = [column.summary_name for column in summed if column.pooled is Pool.PER_DEVICE]
    runs[shared] = runs[shared].div(runs["num_devices"], axis=0)
    costs = runs.drop(columns="num_devices").groupby(group, observed=True, sort=False).mean()
    keys = [cells[name] for name in group]
    for pool, function in ((Pool.MEDIAN, "median"), (Pool.MEAN, "mean")):
        pooled = [column for column in columns if column.pooled is pool]
        if pooled:
            values = cells[[column.name for column in pooled]].replace([np.inf, -np.inf], np.nan)
            table = values.groupby(keys, observed=True, sort=False).agg(function)
            costs = costs.join(table.set_axis([c.summary_name for c in pooled], axis=1))
    return costs.reset_index()


def _ordered(table: pd.DataFrame, results: Results, baseline: str) -> pd.DataFrame:
    """Orders the rows by label, task and metric as they come, the baseline first in them."""
    known = {name: results.cells[name].unique().tolist() for name in ("run", "task", "strategy")}
    known |= {
        "strategy": strategies_in_order(known["strategy"], baseline),
        "metric": results.metrics,
    }
    places = {
        name: {value: place for place, value in enumerate(values)} for name, values in known.items()
    }
    group = ["run", "task", "strategy", "metric"]
    keys = pd.DataFrame({name: table[name].map(places[name]) for name in group})
    order = keys.sort_values(group, kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else "–"


def _kilobytes(num_bytes: float) -> str:
    return _number(num_bytes / 1000, ",.1f" if num_bytes < 100_000 else ",.0f")


def _half(low: float, high: float) -> str:
    """Writes half of an interval, such as ``±.012``."""
    return "±" + _number((high - low) / 2, ".3f").removeprefix("0")


def _value_cell(row: pd.Series) -> str:
    """Writes two lines: the value with half its interval, and likewise the difference."""
    lines = f"{_number(row['mean'], '.3f')} {_half(row['low'], row['high'])}"
    if row["strategy"] != row["baseline"] and np.isfinite(row["diff"]):
        lines += f"\n{row['diff']:+.3f} {_half(row['diff_low'], row['diff_high'])}"
    return lines
