"""Makes the tables of the page."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from cdc_flower.report.drawing.page_style import filled, template
from cdc_flower.report.drawing.style import LOWER_IS_BETTER, main_metrics
from cdc_flower.tables.column import Column, Pool
from cdc_flower.tables.columns import COLUMNS
from cdc_flower.tables.head_room import HEAD_ROOM, METRIC, share_text
from cdc_flower.tables.holm import is_sure


def summary_table(
    rows: pd.DataFrame, colors: dict[str, str], marks: Mapping[str, int] | None = None
) -> Markup:
    """Makes a row per strategy: the main metrics with their gain, then bytes, waiting and clicks.

    A gain is bold where it is one after correction for the number of strategies.

    Args:
        rows: Rows of the summary, of one run label and task.
        colors: Of each strategy.
        marks: Number of the footnote of those strategies that have one.
    """
    metrics = main_metrics([str(name) for name in rows["metric"].unique()])
    groups = [("", 1), *((metric, 2) for metric in metrics)]
    has_room = HEAD_ROOM in rows
    groups += [(METRIC, 1)] if has_room else []
    groups += [("kB per device", 2), ("median seconds", 2), ("clicks", 2)]
    baseline = rows["baseline"].iloc[0]
    heads = [
        "strategy",
        *(["value", f"vs {baseline}"] * len(metrics)),
        *(["of head-room"] if has_room else []),
        "up",
        "down",
        "latency",
        "staleness",
        "told",
        "trained on",
    ]
    body = []
    for name, mine in rows.groupby("strategy", sort=False, observed=True):
        by_metric = {str(row["metric"]): row for _, row in mine.iterrows()}
        first = mine.iloc[0]
        cells = [_name(str(name), colors, (marks or {}).get(str(name)))]
        for metric in metrics:
            if metric not in by_metric:
                cells += [_cell("–"), _cell("–")]
                continue
            row = by_metric[metric]
            cells.append(_cell(_value(row["mean"], row["low"], row["high"])))
            gain = _value(row["diff"], row["diff_low"], row["diff_high"], "+.4f")
            is_gain = (row["diff"] < 0) == (metric in LOWER_IS_BETTER) and is_sure(row)
            cells.append(_cell("–") if name == baseline else _cell(gain, is_gain))
        cells += [_cell(share_text(mine))] if has_room else []
        cells += [
            _cell(_number(first[f"bytes_{way}_per_device"] / 1000, ",.1f"))
            for way in ("up", "down")
        ]
        cells += [_cell(_seconds(first[f"{name}_s_median"])) for name in ("latency", "staleness")]
        cells += [_cell(_number(first[name], ",.0f")) for name in ("num_told", "num_labels")]
        body.append(Markup("").join(cells))
    return _table(heads, body, groups)


def metric_table(rows: pd.DataFrame, colors: dict[str, str]) -> Markup:
    """Makes a row per strategy and metric: value, interval, gain, devices and seeds."""
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
            + Markup("").join(_cell(str(cell)) for cell in cells)
        )
    return _table(heads, body)


def cost_table(rows: pd.DataFrame, sent: pd.DataFrame, colors: dict[str, str]) -> Markup:
    """Makes a row per strategy: bytes with and without framing, labels, seconds of computing.

    Args:
        rows: As in :func:`summary_table`.
        sent: From :func:`~cdc_flower.report.comparison.bytes_figures.bytes_of_a_segment`.
        colors: Of each strategy.
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
        first = mine.iloc[0]
        each = sent.reindex([name]).iloc[0]
        cells = [_cost(first[column.summary_name], column) for column in costs]
        cells[num_of_bytes:num_of_bytes] = [
            _number(each[way], ",.0f") for way in ("bytes_up", "bytes_down")
        ]
        cells += [_number(first[name], ",.0f") for name in ("num_told", "num_labels")]
        body.append(_name(str(name), colors) + Markup("").join(_cell(cell) for cell in cells))
    return _table(["strategy", *heads, "clicks told", "clicks trained on"], body)


def table_of_cells(
    heads: Sequence[str],
    body: Sequence[tuple[str, Sequence[str | Markup]]],
    colors: dict[str, str],
) -> Markup:
    """Makes a table of strategies and the texts beside them.

    Args:
        heads: Of the columns, that of the strategy first.
        body: Strategies with their texts.
        colors: Of each strategy.
    """
    rows = [_name(name, colors) + Markup("").join(map(_cell, texts)) for name, texts in body]
    return _table(heads, rows)


def value_cell(row: pd.Series, name: str) -> str | Markup:
    """Writes a difference of the summary with half its interval."""
    return _value(row[name], row[f"{name}_low"], row[f"{name}_high"], "+.4f")


def _cost(value: float, column: Column) -> str:
    """Writes bytes in thousands, all else with three digits."""
    return _number(value / 1000, ",.2f") if column.unit == "byte" else _seconds(value)


#: HTML closes cells and rows by itself.
_TABLE = template(
    """<div class='scroll'><table><thead>"""
    """{% if groups %}<tr class='groups'>"""
    """{% for text, span in groups %}"""
    """<th{% if span > 1 %} colspan='{{ span }}'{% endif %}>{{ text }}</th>"""
    """{% endfor %}</tr>{% endif %}"""
    """<tr>{% for text in heads %}<th>{{ text }}</th>{% endfor %}</tr></thead><tbody>"""
    """{% for cells in body %}<tr>{{ cells }}{% endfor %}</tbody></table></div>"""
)


def _table(
    heads: Sequence[str], body: Sequence[Markup], groups: Sequence[tuple[str, int]] = ()
) -> Markup:
    """Fills the template of a table.

    Args:
        heads: Of the columns.
        body: Rows: cells side by side.
        groups: Heads above the heads, and how many columns each spans.
    """
    return filled(_TABLE, heads=heads, body=body, groups=groups)


def _name(name: str, colors: dict[str, str], mark: int | None = None) -> Markup:
    cell = Markup("<td><i style='background:{}'></i>{}").format(colors[name], name)
    return cell + Markup("<sup>{}</sup>").format(mark) if mark else cell


def _cell(text: str | Markup, is_gain: bool = False) -> Markup:
    return Markup("<td class='best'>{}" if is_gain else "<td>{}").format(text)


def _number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else "–"


def _seconds(value: float) -> str:
    """Writes three digits, without an exponent for what is long."""
    return _number(value, ",.3g" if abs(value) < 100 else ",.0f")


def _range(low: float, high: float, form: str) -> str:
    return f"{low:{form}} to {high:{form}}" if np.isfinite([low, high]).all() else "–"


def _value(value: float, low: float, high: float, form: str = ".4f") -> str | Markup:
    if not np.isfinite(value):
        return "–"
    if not np.isfinite([low, high]).all():
        return f"{value:{form}}"
    half = f"±{(high - low) / 2:.4f}"
    return Markup("{} <span class='half'>{}</span>").format(f"{value:{form}}", half)
