"""Tells which part of a gain is adaptation: what a strategy has above its controls.

A strategy that makes layers for each device is played beside the *mean* of them for all, and beside
layers of *another* device for each (:mod:`cdc_flower.tables.controls`). A gain that the controls
have too is further training: it does not need to know the device.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from cdc_flower.tables.controls import CONTROLS, MARK, controlled, is_control
from cdc_flower.tables.estimates import BASELINE, device_sums, paired_difference
from cdc_flower.tables.holm import is_sure
from cdc_flower.tables.results import Results

#: A bound within a millionth of zero is a rounding of sums.
ABOVE_ZERO = 1e-6
ADAPTATION = "adaptation"
TRAINING = "further training, not adaptation"
UNDECIDED = "not told apart from its controls"
_ENDS = ("", "_low", "_high")
_KEY = ["run", "task", "strategy", "metric"]


def adaptation_columns() -> tuple[str, ...]:
    """Names the columns of the summary about controls.

    ``mean_diff`` is the control's difference from the baseline, ``minus_mean`` the difference of
    the strategy from the control; likewise ``other``, each with its interval.
    """
    parts = [(f"{control}_diff", f"minus_{control}") for control in CONTROLS]
    return tuple(f"{name}{end}" for names in parts for name in names for end in _ENDS)


def adaptation_of(
    results: Results, metrics: Sequence[str], baseline: str = BASELINE
) -> pd.DataFrame:
    """Makes a row for each run label, task, strategy with controls, and metric.

    Args:
        results: With the cells of controls.
        metrics: Estimated in one pass.
        baseline: The strategy to compare with.

    Returns:
        ``run``, ``task``, ``strategy``, ``metric`` and :func:`adaptation_columns`.
    """
    names = [str(name) for name in results.cells["strategy"].unique()]
    owners = {controlled(name) for name in names if is_control(name)}
    columns = [*_KEY, *adaptation_columns()]
    if not owners:
        return pd.DataFrame(columns=columns)
    kept = [name for name in names if controlled(name) in owners or name == baseline]
    key = ["run", "task", "strategy"]
    parts = []
    for metric in metrics:
        rows = results.rows(metric, [*key, "seed", "device_id"])
        own = device_sums(rows[rows["strategy"].isin(kept)], key)
        parts.append(own.astype(dict.fromkeys(key, object)).assign(metric=metric))
    found = [part.set_index(_KEY) for part in _parts(pd.concat(parts, ignore_index=True), baseline)]
    return pd.concat(found, axis=1).reset_index()[columns]


def _parts(sums: pd.DataFrame, baseline: str) -> Iterator[pd.DataFrame]:
    """Estimates one difference after the other, each with its interval.

    Args:
        sums: Of strategies with controls, their controls, and the baseline.
        baseline: Its name.
    """
    by = ["run", "task", "metric"]
    names = sums["strategy"]
    kind, owner = names.map(_kind), names.map(controlled)
    for control in CONTROLS:
        pairs = paired_difference(sums[(kind == control) | (names == baseline)], by, baseline)
        pairs = pairs[pairs["strategy"].map(_kind) == control]
        own = pairs["strategy"].map(controlled)
        yield _named(pairs.assign(strategy=own), f"{control}_diff")
        both = sums[kind.isin(["", control])].assign(owner=owner, strategy=kind)
        pairs = paired_difference(both, [*by, "owner"], control)
        pairs = pairs[pairs["strategy"] == ""]
        yield _named(pairs.assign(strategy=pairs["owner"]), f"minus_{control}")


def _named(pairs: pd.DataFrame, name: str) -> pd.DataFrame:
    columns = {"diff": name, "low": f"{name}_low", "high": f"{name}_high"}
    return pairs.rename(columns=columns)[[*_KEY, *columns.values()]]


def _kind(name: str) -> str:
    """Names the control that a name of the table ends with; "" for a strategy."""
    return name.partition(MARK)[2]


def least_above(row: pd.Series, *, downward: bool = False) -> str:
    """Names the control above which a strategy is least, which bounds the part that adapts.

    Empty for a strategy without controls.

    Args:
        row: Of the summary.
        downward: Whether lower is better.
    """
    sign = -1 if downward else 1
    above = {each: sign * float(row.get(f"minus_{each}", np.nan)) for each in CONTROLS}
    known = {each: value for each, value in above.items() if np.isfinite(value)}
    return min(known, key=lambda each: known[each]) if known else ""


def verdict(row: pd.Series, *, downward: bool = False) -> str:
    """Says what a gain over the baseline is; "" where there is none or it has no controls.

    A gain has an interval above zero, also after correction for the number of strategies
    (:mod:`cdc_flower.tables.holm`). It is adaptation if the differences from both controls have
    that too. If not, and a control has a gain of its own, it is further training.

    Args:
        row: Of the summary.
        downward: Whether lower is better.
    """
    if not least_above(row) or not (_is_gain(row, "diff", downward) and is_sure(row)):
        return ""
    if all(_is_gain(row, f"minus_{each}", downward) for each in CONTROLS):
        return ADAPTATION
    gains = [_is_gain(row, f"{each}_diff", downward) for each in CONTROLS]
    return TRAINING if any(gains) else UNDECIDED


def _is_gain(row: pd.Series, name: str, downward: bool) -> bool:
    """Tells whether an interval excludes zero on the better side."""
    low, high = float(row[f"{name}_low"]), float(row[f"{name}_high"])
    return high < -ABOVE_ZERO if downward else low > ABOVE_ZERO
