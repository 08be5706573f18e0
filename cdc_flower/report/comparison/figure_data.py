"""Computes the numbers behind the figures, each a pure function of the results table."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cdc_flower.core.words import counted
from cdc_flower.report.drawing.style import main_metrics
from cdc_flower.tables.columns import COLUMNS
from cdc_flower.tables.results import Results
from cdc_flower.tables.summary import (
    BASELINE,
    device_sums,
    estimate,
    paired_difference,
    strategies_in_order,
)

#: Options of a strategy by their names.
Settings = Mapping[str, object]


@dataclass(frozen=True)
class Panel:
    """The rows that are drawn together: one run label and one task.

    Attributes:
        title: Empty where there is one panel only.
        results: The cells of the panel and their values.
        strategies: Their names, the baseline first.
        baseline: The strategy that others are compared with.
        settings: Of each strategy, as far as they are known.
    """

    title: str
    results: Results
    strategies: list[str]
    baseline: str = BASELINE
    settings: Mapping[str, Settings] = field(default_factory=dict)

    @property
    def cells(self) -> pd.DataFrame:
        """One row per run, strategy, device and segment."""
        return self.results.cells

    @property
    def main_metrics(self) -> list[str]:
        """The metrics to draw."""
        return main_metrics(self.results.metrics)

    @property
    def size(self) -> str:
        """The number of devices and seeds on which the intervals rest."""
        devices = self.cells["device_id"].nunique()
        seeds = self.cells["seed"].nunique()
        return f"n = {counted(devices, 'device')}, {counted(seeds, 'seed')}"

    def of(self, summary: pd.DataFrame) -> pd.DataFrame:
        """Selects the rows of the summary that belong to the panel."""
        first = self.cells.iloc[0]
        return summary[(summary["run"] == first["run"]) & (summary["task"] == first["task"])]


def panels_of(
    results: Results,
    baseline: str = BASELINE,
    settings: Mapping[tuple[str, str], Settings] | None = None,
) -> list[Panel]:
    """Makes one panel per run label and task, in the order of the rows.

    Args:
        results: Of all runs.
        baseline: The strategy that others are compared with.
        settings: Of each task and strategy, as far as they are known.
    """
    cells = results.cells
    panels = []
    num_tasks = cells["task"].nunique()
    for run, task in cells[["run", "task"]].drop_duplicates().itertuples(index=False):
        title = " · ".join(part for part in (str(run), str(task) if num_tasks > 1 else "") if part)
        mine = results.where(((cells["run"] == run) & (cells["task"] == task)).to_numpy())
        names = strategies_in_order(mine.cells["strategy"].unique().tolist(), baseline)
        own = {
            name: value
            for (its_task, name), value in (settings or {}).items()
            if its_task == str(task)
        }
        panels.append(Panel(title, mine, names, baseline, own))
    return panels


def metric_by(results: Results, metric: str, column: str) -> pd.DataFrame:
    """Estimates a metric of each strategy at each value of a column, seeds pooled.

    Args:
        results: Of a panel.
        metric: The metric's name.
        column: A column of the cells, such as ``segment``.

    Returns:
        Columns ``strategy``, the given one, ``mean``, ``low`` and ``high`` (95 %), ...
    """
    by = ["strategy", column]
    sums = device_sums(results.rows(metric, [*by, "seed", "device_id"]), by)
    return estimate(sums, by).sort_values(by, kind="stable")


def gain_by(panel: Panel, metric: str, column: str) -> pd.DataFrame:
    """Estimates the paired difference from the baseline at each value of a column.

    Args:
        panel: Its baseline may be absent; then there are no rows.
        metric: The metric's name.
        column: A column of the cells, such as ``segment``.

    Returns:
        As :func:`metric_by`, with ``diff`` in place of ``mean``.
    """
    by = ["strategy", column]
    sums = device_sums(panel.results.rows(metric, [*by, "seed", "device_id"]), by)
    return paired_difference(sums, [column], panel.baseline).sort_values(by, kind="stable")


def shift_shares(panel: Panel) -> pd.Series:
    """Computes the share of devices whose context is new, by segment."""
    return panel.cells.groupby("segment")["is_shift"].mean()


def with_age(panel: Panel, num_ages: int = 30, min_share: float = 0.1) -> Results:
    """Selects the cells from a device's first shift on, and adds ``since_shift``.

    That is 0 in the segment of a shift, then 1, 2, ... until the next one.

    Args:
        panel: Of a run label and a task.
        num_ages: The highest ``since_shift`` to keep, in segments.
        min_share: The least share of devices that must reach an age for it to be kept; 0 keeps all.
    """
    ordered = panel.cells[[*COLUMNS.keys, "is_shift"]].sort_values("segment", kind="stable")
    at = ordered["segment"].astype(np.float64).where(ordered["is_shift"])
    keys = [ordered[name] for name in COLUMNS.keys if name != "segment"]
    since = (ordered["segment"] - at.groupby(keys, observed=True, sort=False).ffill()).sort_index()
    device = panel.cells["device_id"]
    devices = device[since <= num_ages].groupby(since).nunique()
    enough = devices.index[devices >= min_share * device.nunique()]
    kept = since.isin(enough).to_numpy()
    return panel.results.where(kept).assign(since_shift=since[kept].to_numpy(int))


def pareto_front(cost: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.int64]:
    """Finds the points that no other beats, by ascending cost.

    Another beats a point if its value is higher at the same or a lower cost.
    """
    order = np.lexsort((-value, cost))
    best = (
        np.maximum.accumulate(np.concatenate([[-np.inf], value[order][:-1]]))
        if len(order)
        else value
    )
    return order[value[order] > best]


def ecdf(
    values: ArrayLike, num_points: int = 200
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sorts finite values, thinned to at most ``num_points``, and gives the share up to each."""
    ordered = np.sort(np.asarray(values, np.float64))
    ordered = ordered[np.isfinite(ordered)]
    if not len(ordered):
        return ordered, ordered
    pick = np.unique(
        np.linspace(0, len(ordered) - 1, min(num_points, len(ordered))).round().astype(int)
    )
    return ordered[pick], (pick + 1) / len(ordered)
