"""Draws the difference from the baseline as one dot and interval a strategy.

It takes the place of lines over time where there are many arms or a single segment.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cdc_flower.report.comparison.figure_data import Panel
from cdc_flower.report.drawing import style
from cdc_flower.tables.controls import MEAN, OTHER

LINE_IN = 0.21
#: Names to the left of the first axes.
NAMES_IN = 1.75
#: Ends beyond this many times the upper quartile of all ends are drawn at the border.
FAR = 3.0
#: Of gains of controls, in the color of their strategy.
MARKS = {f"{MEAN}_diff": "|", f"{OTHER}_diff": "x"}


def forest(panels: Sequence[Panel], summary: pd.DataFrame, colors: dict[str, str]) -> Figure:
    """Draws a row of axes for each panel, in it a column a main metric and a line a strategy.

    Args:
        panels: From top to bottom.
        summary: Of all panels, with ``diff``, ``diff_low`` and ``diff_high``.
        colors: Of each strategy.
    """
    heights = [
        style.ABOVE_IN + style.BELOW_IN + LINE_IN * (len(panel.strategies) - 1) for panel in panels
    ]
    total = sum(heights)
    figure = Figure(figsize=(style.WIDTH_IN, total))
    width = (style.WIDTH_IN - NAMES_IN - style.RIGHT_IN - style.LEFT_IN / 2) / 2
    top = total
    for panel, height in zip(panels, heights, strict=True):
        metrics = panel.main_metrics
        for column, metric in enumerate(metrics):
            left = NAMES_IN + column * (width + style.LEFT_IN / 2)
            box = (
                left,
                top - height + style.BELOW_IN,
                width,
                height - style.ABOVE_IN - style.BELOW_IN,
            )
            axes = figure.add_axes(
                (box[0] / style.WIDTH_IN, box[1] / total, box[2] / style.WIDTH_IN, box[3] / total)
            )
            _draw(axes, panel, _rows(panel, summary, metric), metric, colors, has_names=column == 0)
            if column == 0:
                title = " · ".join(part for part in (panel.title, panel.size) if part)
                axes.set_title(title, parse_math=False)
        top -= height
    return figure


def _rows(panel: Panel, summary: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Selects the differences of a panel, a row a strategy, without the baseline."""
    rows = panel.of(summary)
    table = (
        rows[rows["metric"] == metric]
        .set_index("strategy")
        .reindex([name for name in panel.strategies if name != panel.baseline])
    )
    return table[["diff", "diff_low", "diff_high", *MARKS]].astype(float)


def _draw(
    axes: Axes,
    panel: Panel,
    table: pd.DataFrame,
    metric: str,
    colors: dict[str, str],
    *,
    has_names: bool,
) -> None:
    values = table[["diff", "diff_low", "diff_high"]].to_numpy()
    gains = table[list(MARKS)].to_numpy()
    ends = np.abs(values[:, 1:])
    ends = ends[np.isfinite(ends)]
    limit = (
        min(ends.max(), FAR * float(np.quantile(ends, 0.75))) * 1.05
        if len(ends) and ends.max() > 0
        else 1.0
    )
    for line, (name, (value, low, high)) in enumerate(zip(table.index, values, strict=True)):
        color = colors[str(name)]
        if abs(value) <= limit:
            axes.plot(np.clip([low, high], -limit, limit), [line, line], color=color, linewidth=1.4)
            axes.plot([value], [line], "o", color=color, markersize=4.5)
            for gain, marker in zip(gains[line], MARKS.values(), strict=True):
                axes.plot([gain], [line], marker, color=color, markersize=6)
        elif np.isfinite(value):
            side = np.sign(value)
            axes.plot(
                [side * limit], [line], marker="<" if side < 0 else ">", color=color, markersize=5
            )
            axes.annotate(
                f"{value:+.3f}",
                (side * limit, line),
                xytext=(-7 * side, 0),
                textcoords="offset points",
                ha="left" if side < 0 else "right",
                va="center",
                fontsize=8,
                color=color,
            )
    axes.axvline(0.0, color=colors.get(panel.baseline, style.SOFT_INK), linewidth=1.0, zorder=1.5)
    axes.set(xlim=(-limit * 1.02, limit * 1.02), ylim=(len(table) - 0.5, -0.5))
    axes.set_yticks(
        range(len(table)),
        [str(name) for name in table.index] if has_names else [],
        parse_math=False,
    )
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.set_xlabel(f"{metric} minus {panel.baseline}", parse_math=False)
