"""Says in one or two sentences which strategy the table favors, and how surely."""

import numpy as np
import pandas as pd

from cdc_flower.report.comparison.adaptation import GIVES, adaptation_words
from cdc_flower.report.comparison.figure_data import Panel
from cdc_flower.report.drawing.style import LOWER_IS_BETTER, main_metrics
from cdc_flower.tables.adaptation import least_above
from cdc_flower.tables.holm import is_sure
from cdc_flower.tables.summary import device_sums, paired_difference
from cdc_flower.tables.trainings import interval_words
from cdc_flower.tasks.registry import tasks


def reading(panel: Panel, summary: pd.DataFrame) -> str:
    """Says which strategy is best on the main metric, by how much, how surely and at what bytes.

    Args:
        panel: Of a run label and a task.
        summary: The rows of the summary that belong to the panel.
    """
    metrics = main_metrics([str(name) for name in summary["metric"].unique()], 1)
    rows = summary[summary["metric"].isin(metrics) & np.isfinite(summary["mean"].astype(float))]
    rows = rows[~rows["strategy"].isin(line_names())]  # an oracle competes with nobody
    if rows.empty:
        return "Nothing was counted in these results, so there is nothing to compare."
    metric = metrics[0]
    downward = metric in LOWER_IS_BETTER
    rows = rows.sort_values("mean", ascending=downward, kind="stable")
    best = rows.iloc[0]
    value = f"{best['mean']:.3f}{_interval(best['low'], best['high'], '.3f')}"
    if len(rows) == 1:
        return f"Only {best['strategy']} ran: its {metric} is {value}, for {_bytes(best)}."
    text = f"On {metric}, {best['strategy']} is {'lowest' if downward else 'highest'} with {value}"
    if best["strategy"] == panel.baseline:
        text += f": no strategy improves on {panel.baseline} here"
    elif np.isfinite(best["diff"]):
        text += f", {_signed(best, 'diff')} against {panel.baseline} on the same devices"
        text += f"{_control(best, downward)}, for {_bytes(best)}"
    else:
        text += f", for {_bytes(best)}"
    text += f". {_runner_up(panel, metric, best, rows.iloc[1])}"
    if best["strategy"] != panel.baseline and np.isfinite(best["diff"]) and not is_sure(best):
        text += " After correction for the number of strategies its difference is none."
    text += _clicks(best, rows)
    text += f" Intervals are {interval_words(int(rows['num_seeds'].max()))}."
    return " ".join(filter(None, (text, adaptation_words(summary))))


def line_names() -> set[str]:
    """Lists the reference lines of all tasks, which stand beside strategies."""
    return {name for entry in tasks.entries() for name in entry.value.references}


def _control(best: pd.Series, downward: bool) -> str:
    """Says beside a difference what is left of it above the nearer control."""
    control = least_above(best, downward=downward)
    if not control:
        return f" (no control of {best['strategy']} was played)"
    return f" and {_signed(best, f'minus_{control}')} against {GIVES[control]} for each"


def _clicks(best: pd.Series, rows: pd.DataFrame) -> str:
    """Says what the best strategy knew of its devices, and which one is best without labels."""
    told, trained = best["num_told"], best["num_labels"]
    text = ""
    if told > 0 or trained > 0:
        text = f" {best['strategy']} was told {told:,.0f} clicks and trained on {trained:,.0f}"
        free = rows[rows["num_labels"] == 0]
        if trained > 0 and len(free):
            first = free.iloc[0]
            text += f"; without labels {first['strategy']} is best with {first['mean']:.3f}"
        text += "."
    return text


def _runner_up(panel: Panel, metric: str, best: pd.Series, second: pd.Series) -> str:
    """Compares the best strategy with the second on the same devices."""
    names = [best["strategy"], second["strategy"]]
    rows = panel.results.rows(metric, ["task", "strategy", "seed", "device_id"])
    rows = rows[rows["strategy"].isin(names)]
    pairs = paired_difference(device_sums(rows, ["task", "strategy"]), ["task"], baseline=names[1])
    pairs = pairs[pairs["strategy"] == names[0]]
    if pairs.empty or not np.isfinite(pairs["low"].iloc[0]):
        return f"Next comes {names[1]} with {second['mean']:.3f}."
    row = pairs.iloc[0]
    gap = f"Next comes {names[1]}, {abs(row['diff']):.3f} behind on the same devices"
    if row["low"] <= 0 <= row["high"]:
        return f"{gap}, too little to tell the two apart (95 %)."
    return f"{gap}, with a 95 % interval that excludes zero."


def _signed(row: pd.Series, name: str) -> str:
    return f"{row[name]:+.3f}{_interval(row[name + '_low'], row[name + '_high'], '+.3f')}"


def _interval(low: float, high: float, form: str) -> str:
    return (
        f" (95 % interval {low:{form}} to {high:{form}})" if np.isfinite([low, high]).all() else ""
    )


def _bytes(row: pd.Series) -> str:
    up = row["bytes_up_per_device"] / 1000
    down = row["bytes_down_per_device"] / 1000
    if up == 0 and down == 0:
        return "no bytes on the link"
    return f"{up:,.1f} kB up and {down:,.1f} kB down per device"
