"""Corrects for many comparisons in one table: Holm's steps, or one comparison named beforehand."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

#: A gain is put into words and in bold below this, after correction.
LEVEL = 0.05
P, P_HOLM = "diff_p", "diff_p_holm"
_FAMILY = ["run", "task", "metric"]


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Adjusts p-values ``[m]``: each is to be below the level by itself; NaN is no comparison.

    The smallest counts ``m`` times, the next ``m - 1`` times, and none less than one before it.
    """
    values = np.asarray(p, np.float64)
    adjusted = np.full(values.shape, np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def with_holm(summary: pd.DataFrame, primary: str = "") -> pd.DataFrame:
    """Adds the column ``diff_p_holm`` over the strategies of each run label, task and metric.

    Args:
        summary: With ``diff_p``, which is NaN in rows of the baseline.
        primary: The strategy whose comparison was named beforehand and needs no correction; the
            others are corrected among themselves.
    """
    is_primary = (summary["strategy"] == primary).to_numpy()
    adjusted = summary[P].where(is_primary).astype(float)
    for _, rows in summary[~is_primary].groupby(_FAMILY, observed=True, sort=False):
        adjusted.loc[rows.index] = holm(rows[P].astype(float))
    return summary.assign(**{P_HOLM: adjusted})


def is_sure(row: pd.Series) -> bool:
    """Tells whether a difference from the baseline is one, after correction.

    A row from before the correction was has its interval alone.
    """
    low, high = float(row["diff_low"]), float(row["diff_high"])
    adjusted = float(row.get(P_HOLM, 0.0))
    return bool((low > 0 or high < 0) and adjusted < LEVEL)
