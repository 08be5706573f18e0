"""Summarizes results: values with intervals, differences from a baseline, and costs.

See :mod:`cdc_flower.tables.estimates` for what a value and an interval are, and
:mod:`cdc_flower.tables.adaptation` for the part of a gain that is adaptation.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table

from cdc_flower.tables.adaptation import adaptation_columns, adaptation_of, least_above
from cdc_flower.tables.column import Pool
from cdc_flower.tables.columns import COLUMNS
from cdc_flower.tables.estimates import BASELINE as BASELINE
from cdc_flower.tables.estimates import LOWER_IS_BETTER
from cdc_flower.tables.estimates import device_sums as device_sums
from cdc_flower.tables.estimates import estimate as estimate
from cdc_flower.tables.estimates import paired_difference as paired_difference
from cdc_flower.tables.head_room import HEAD_ROOM, share_text, with_head_room
from cdc_flower.tables.holm import P_HOLM, P, with_holm
from cdc_flower.tables.results import Results
from cdc_flower.tables.trainings import interval_words

#: Metrics that the terminal shows, as far as they exist.
SHOWN_METRICS = ("ndcg@10", "user_auc", "accuracy", "log_loss", "r@1", "r@5")
_CELLS_AT_ONCE = 200_000  # of all metrics that are estimated in one pass, likewise


def summary_columns() -> tuple[str, ...]:
    """Names the columns of the summary: values, differences and controls, then costs."""
    return (
        *("run", "task", "strategy", "metric", "mean", "low", "high", "num_devices", "num_seeds"),
        *("baseline", "diff", "diff_low", "diff_high", P, P_HOLM),
        *adaptation_columns(),
        *(column.summary_name for column in COLUMNS.in_summary),
    )


def summarize(results: Results, baseline: str = BASELINE, primary: str = "") -> pd.DataFrame:
    """Makes a row for each run label, task, strategy and metric; see :func:`summary_columns`.

    Hostile devices are left out. Where an oracle was scored there is one column more; see
    :mod:`cdc_flower.tables.head_room`.

    Seeds are pooled, and intervals then are over trainings × devices. Runs that differ by more than
    their seed need different labels ``run``, else they are pooled too. Differences are NaN where
    the baseline did not run; ``diff_p_holm`` is corrected for the number of strategies. Controls
    have no row: what they gain, and how far the strategy is above them, stands in its row; NaN
    where it has none. Costs are those of the strategy, repeated on each metric and pooled as their
    column says: sums are over a run and averaged over runs; means and medians are over what is
    finite, NaN where nothing arrived.

    Args:
        results: With the cells of controls.
        baseline: The strategy to compare with.
        primary: The strategy whose gain was named beforehand; see :mod:`cdc_flower.tables.holm`.
    """
    results = results.honest()
    plain = results.without_controls()
    group = ["run", "task", "strategy"]
    size = max(1, _CELLS_AT_ONCE // max(1, len(results.cells)))
    metrics = results.metrics
    parts = [
        _values(plain, metrics[first : first + size], baseline)
        for first in range(0, len(metrics), size)
    ]
    if not parts:
        return pd.DataFrame(columns=list(summary_columns()))
    table = pd.concat(parts, ignore_index=True).assign(baseline=baseline)
    key = [*group, "metric"]
    beside = pd.concat(
        [
            adaptation_of(results, metrics[first : first + size], baseline)
            for first in range(0, len(metrics), size)
        ]
    )
    table = table.merge(beside.astype(dict.fromkeys(key, object)), on=key, how="left")
    table = with_holm(table, primary).merge(
        _costs(plain.cells).astype(dict.fromkeys(group, object)), on=group, how="left"
    )
    counts = ["num_devices", "num_seeds"]
    table[counts] = table[counts].fillna(0).astype(int)
    return with_head_room(_ordered(table, plain, baseline)[list(summary_columns())])


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
    pairs = pairs.rename(columns={"low": "diff_low", "high": "diff_high", "p": P})
    pairs[P] = pairs[P].where(pairs["strategy"] != baseline)
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
        metrics: The columns, as far as they exist; if none does, the first two that do.
    """
    present = list(dict.fromkeys(summary["metric"]))
    shown = [metric for metric in metrics if metric in present][:2] or present[:2]
    labels = [name for name in ("run", "task") if summary[name].nunique() > 1]
    baseline = summary["baseline"].iloc[0] if len(summary) else BASELINE
    has_controls = any(least_above(row) for _, row in summary.iterrows())
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        caption=(
            f"± is 95 % {interval_words(int(summary['num_seeds'].max()) if len(summary) else 1)}; "
            f"the second line is against {baseline} on the same devices"
            + ("; @ is against its controls, the smaller of both" if has_controls else "")
        ),
    )
    for name in [*labels, "strategy"]:
        table.add_column(name, no_wrap=True)
    has_room = HEAD_ROOM in summary
    room = ["of the\nhead-room"] if has_room else []
    for name in [*shown, *room, "KB up", "KB down", "latency\nms", "clicks\ntold", "trained\non"]:
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
            _number(first["num_told"], ",.0f"),
            _number(first["num_labels"], ",.0f"),
        ]
        table.add_row(*cells)
    return table


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
    """Writes the value with half its interval, and likewise the difference and the adaptation."""
    lines = f"{_number(row['mean'], '.3f')} {_half(row['low'], row['high'])}"
    if row["strategy"] != row["baseline"] and np.isfinite(row["diff"]):
        lines += f"\n{row['diff']:+.3f} {_half(row['diff_low'], row['diff_high'])}"
    if control := least_above(row, downward=row["metric"] in LOWER_IS_BETTER):
        ends = (row[f"minus_{control}_{end}"] for end in ("low", "high"))
        lines += f"\n@{row[f'minus_{control}']:+.3f} {_half(*ends)}"
    return lines
