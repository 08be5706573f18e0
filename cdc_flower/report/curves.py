"""The numbers behind the figures, each a pure function of the results table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cdc_flower.results import DEVICE_SEGMENT, per_device_segment
from cdc_flower.summary import BASELINE, device_sums, estimate, paired_difference, strategies_in_order


@dataclass(frozen=True)
class Panel:
    """The rows that are drawn together: one run label and one task.

    Attributes:
        title: Empty where there is one panel only.
        frame: The rows.
        single: The same, one row per run, strategy, device and segment.
        strategies: Their names, the baseline first.
        baseline: The strategy that others are compared with.
        settings: Of each strategy, as far as they are known.
    """

    title: str
    frame: pd.DataFrame
    single: pd.DataFrame
    strategies: list[str]
    baseline: str = BASELINE
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def size(self) -> str:
        """How much the intervals rest on."""
        devices, seeds = self.frame["device_id"].nunique(), self.frame["seed"].nunique()
        return f"n = {devices:,} devices, {seeds} {'seed' if seeds == 1 else 'seeds'}"


def panels_of(
    frame: pd.DataFrame,
    baseline: str = BASELINE,
    settings: Mapping[tuple[str, str], Mapping[str, Any]] | None = None,
) -> list[Panel]:
    """One panel per run label and task, in the order of the rows.

    Args:
        settings: Of each task and strategy, as far as they are known.
    """
    panels = []
    num_tasks = frame["task"].nunique()
    for (run, task), rows in frame.groupby(["run", "task"], observed=True, sort=False):
        title = " · ".join(part for part in (str(run), str(task) if num_tasks > 1 else "") if part)
        names = strategies_in_order(rows["strategy"].unique().tolist(), baseline)
        mine = {name: value for (its_task, name), value in (settings or {}).items() if its_task == str(task)}
        panels.append(Panel(title, rows, per_device_segment(rows), names, baseline, mine))
    return panels


def metric_by(frame: pd.DataFrame, metric: str, column: str) -> pd.DataFrame:
    """Value and interval of each strategy at each value of a column: ``strategy``, column, ``mean``, ``low`` ..."""
    rows = frame[frame["metric"] == metric]
    by = ["strategy", column]
    return estimate(device_sums(rows, by), by).sort_values(by, kind="stable")


def gain_by(panel: Panel, metric: str, column: str) -> pd.DataFrame:
    """As :func:`metric_by`, the paired difference from the baseline in ``diff``; no rows without a baseline."""
    rows = panel.frame[panel.frame["metric"] == metric]
    table = paired_difference(device_sums(rows, ["strategy", column]), [column], panel.baseline)
    return table.sort_values(["strategy", column], kind="stable")


def shift_shares(panel: Panel) -> pd.Series:
    """The share of devices whose context is new, by segment."""
    return panel.single.groupby("segment")["is_shift"].mean()


def with_age(panel: Panel, num_ages: int = 30, min_share: float = 0.1) -> pd.DataFrame:
    """The rows after a device's first shift, with ``since_shift``: 0 in the segment of a shift, then 1, 2, ...

    Ages above ``num_ages`` and those that a smaller share of the devices than ``min_share`` reaches are left out.
    """
    key = list(DEVICE_SEGMENT)
    single = panel.single[[*key, "is_shift"]].sort_values("segment", kind="stable")
    at = single["segment"].astype(np.float64).where(single["is_shift"])
    keys = [single[name] for name in key[:-1]]
    single["since_shift"] = single["segment"] - at.groupby(keys, observed=True, sort=False).ffill()
    single = single[single["since_shift"] <= num_ages].drop(columns="is_shift")
    devices = single.groupby("since_shift")["device_id"].nunique()
    enough = devices.index[devices >= min_share * panel.single["device_id"].nunique()]
    single = single[single["since_shift"].isin(enough)].astype({"since_shift": int})
    return panel.frame.merge(single, on=key)


def pareto_front(cost: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which points no other beats: none has a higher value at the same or a lower cost. By ascending cost."""
    order = np.lexsort((-value, cost))
    best = np.maximum.accumulate(np.concatenate([[-np.inf], value[order][:-1]])) if len(order) else value
    return order[value[order] > best]


def ecdf(values: ArrayLike, num_points: int = 300) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sorted finite values and the share at or below each, thinned to at most ``num_points``."""
    ordered = np.sort(np.asarray(values, np.float64))
    ordered = ordered[np.isfinite(ordered)]
    if not len(ordered):
        return ordered, ordered
    pick = np.unique(np.linspace(0, len(ordered) - 1, min(num_points, len(ordered))).round().astype(int))
    return ordered[pick], (pick + 1) / len(ordered)
