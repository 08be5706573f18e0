"""The tables of the page."""

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd

from cdc_flower.report.drawing.style import LOWER_IS_BETTER, main_metrics
from cdc_flower.tables.column import Column, Pool
from cdc_flower.tables.columns import COLUMNS


def summary_table(rows: pd.DataFrame, colors: dict[str, str]) -> str:
    """A row per strategy: the main metrics with their gain, then bytes, waiting and labels.

    Args:
        rows: Rows of the summary, of one run label and task.
    """
    metrics = main_metrics([str(name) for name in rows["metric"].unique()])
    groups = ["<th></th>", *(f"<th colspan='2'>{escape(metric)}</th>" for metric in metrics)]
    groups += [
        "<th colspan='2'>kB per device</th>",
        "<th colspan='2'>median seconds</th>",
        "<th></th>",
    ]
    baseline = rows["baseline"].iloc[0]
    heads = [
        "strategy",
        *(["value", f"vs {baseline}"] * len(metrics)),
        "up",
        "down",
        "latency",
        "staleness",
        "labels",
    ]
    best = {metric: _best(rows, metric) for metric in metrics}
    body = []
    for name, mine in rows.groupby("strategy", sort=False, observed=True):
        by_metric, first = {str(row["metric"]): row for _, row in mine.iterrows()}, mine.iloc[0]
        cells = [_name(str(name), colors)]
        for metric in metrics:
            if metric not in by_metric:
                cells += [_cell("–"), _cell("–")]
                continue
            row = by_metric[metric]
            cells.append(_cell(_value(row["mean"], row["low"], row["high"]), name == best[metric]))
            gain = _value(row["diff"], row["diff_low"], row["diff_high"], "+.4f")
            cells.append(_cell("–" if name == baseline else gain))
        cells += [
            _cell(_number(first[f"bytes_{way}_per_device"] / 1000, ",.1f"))
            for way in ("up", "down")
        ]
        cells += [_cell(_seconds(first[f"{name}_s_median"])) for name in ("latency", "staleness")]
        cells.append(_cell(_number(first["num_labels"], ",.0f")))
        body.append("".join(cells))
    return _table(heads, body, "".join(groups))


def metric_table(rows: pd.DataFrame, colors: dict[str, str]) -> str:
    """A row per strategy and metric: value, interval, gain and what they rest on."""
    baseline = rows["baseline"].iloc[0]
    heads = [
        "strategy",
        "metric",
        "value",
        "95 % interval",
        f"vs {baseline}",
        "95 % interval",
        "devices",
        "seeds",
    ]
    body = []
    for _, row in rows.iterrows():
        is_base = row["strategy"] == baseline
        cells = [row["metric"], _number(row["mean"], ".4f"), _range(row["low"], row["high"], ".4f")]
        cells += ["–" if is_base else _number(row["diff"], "+.4f")]
        cells += ["–" if is_base else _range(row["diff_low"], row["diff_high"], "+.4f")]
        cells += [f"{row['num_devices']:,}", f"{row['num_seeds']:,}"]
        body.append(
            _name(str(row["strategy"]), colors)
            + "".join(_cell(escape(str(cell))) for cell in cells)
        )
    return _table(heads, body)


def cost_table(rows: pd.DataFrame, sent: pd.DataFrame, colors: dict[str, str]) -> str:
    """A row per strategy: what it sent with and without framing, its labels and seconds of computing.

    Args:
        rows: As in :func:`summary_table`.
        sent: From :func:`~cdc_flower.report.comparison.bytes_figures.bytes_of_a_segment`.
    """
    costs = [column for column in COLUMNS.in_summary if column.pooled is Pool.PER_DEVICE]
    heads = [column.heading or column.summary_name for column in costs]
    num_of_bytes = sum(column.unit == "byte" for column in costs)  # these come first
    heads[num_of_bytes:num_of_bytes] = [
        "payload bytes up, a segment",
        "payload bytes down, a segment",
    ]
    body = []
    for name, mine in rows.groupby("strategy", sort=False, observed=True):
        first, each = mine.iloc[0], sent.reindex([name]).iloc[0]
        cells = [_cost(first[column.summary_name], column) for column in costs]
        cells[num_of_bytes:num_of_bytes] = [
            _number(each[way], ",.0f") for way in ("bytes_up", "bytes_down")
        ]
        cells.append(_number(first["num_labels"], ",.0f"))
        body.append(_name(str(name), colors) + "".join(_cell(cell) for cell in cells))
    return _table(["strategy", *heads, "labels per run"], body)


def _cost(value: float, column: Column) -> str:
    """Bytes in thousands, all else with three digits."""
    return _number(value / 1000, ",.2f") if column.unit == "byte" else _seconds(value)


def _table(heads: Sequence[str], body: Sequence[str], groups: str = "") -> str:
    above = f"<tr class='groups'>{groups}</tr>" if groups else ""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    rows = "".join(f"<tr>{cells}" for cells in body)  # HTML closes cells and rows by itself
    return f"<div class='scroll'><table><thead>{above}<tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def _name(name: str, colors: dict[str, str]) -> str:
    return f"<td><i style='background:{colors[name]}'></i>{escape(name)}"


def _cell(text: str, is_best: bool = False) -> str:
    return f"<td class='best'>{text}" if is_best else f"<td>{text}"


def _best(rows: pd.DataFrame, metric: str) -> str:
    """The strategy with the best value; empty where there is none to choose from."""
    values = rows.loc[rows["metric"] == metric].set_index("strategy")["mean"].astype(float)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return ""
    return str(values.idxmin() if metric in LOWER_IS_BETTER else values.idxmax())


def _number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else "–"


def _seconds(value: float) -> str:
    """Three digits, without an exponent for what is long."""
    return _number(value, ",.3g" if abs(value) < 100 else ",.0f")


def _range(low: float, high: float, form: str) -> str:
    return f"{low:{form}} to {high:{form}}" if np.isfinite([low, high]).all() else "–"


def _value(value: float, low: float, high: float, form: str = ".4f") -> str:
    if not np.isfinite(value):
        return "–"
    half = (
        f" <span class='half'>±{(high - low) / 2:.4f}</span>"
        if np.isfinite([low, high]).all()
        else ""
    )
    return f"{value:{form}}{half}"
