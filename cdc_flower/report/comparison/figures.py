"""Draws the figures: one for each question, a row of axes for each panel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cdc_flower.report.comparison.bytes_figures import UPLINK, VARIANTS
from cdc_flower.report.comparison.figure_data import (
    Panel,
    ecdf,
    gain_by,
    metric_by,
    shift_shares,
    with_age,
)
from cdc_flower.report.comparison.forest import forest
from cdc_flower.report.comparison.label_figures import LABELS
from cdc_flower.report.comparison.optional_figures import Draw
from cdc_flower.report.drawing import axes as marks
from cdc_flower.report.drawing import style


@dataclass(frozen=True)
class Drawing:
    """A figure of the page.

    Attributes:
        name: Its id in the page.
        title: The question that it answers.
        figure: The drawing.
        caption: The meaning of its marks.
    """

    name: str
    title: str
    figure: Figure
    caption: str


#: Of the figure of differences.
CONTROL_MARKS = (
    " | is the same with the mean of the layers of all devices, × with those of another device: "
    "what a strategy has beyond both is adaptation."
)
#: Strategies above which lines over time are hard to tell apart.
MANY = 8


def all_drawings(
    panels: Sequence[Panel], summary: pd.DataFrame, colors: dict[str, str]
) -> list[Drawing]:
    """Draws every figure that the results allow, in the order of the page.

    Args:
        panels: One for each run label and task.
        summary: Of all panels.
        colors: Of each strategy.
    """
    compared = any(
        panel.baseline in panel.strategies and len(panel.strategies) > 1 for panel in panels
    )
    is_over_time = any(panel.cells["segment"].nunique() > 1 for panel in panels)
    many = any(len(panel.strategies) > MANY for panel in panels)
    with style.figure_style():
        drawings = [_over_segments(panels, colors)] if is_over_time or not compared else []
        if compared and (many or not is_over_time):
            drawings.append(_forest(panels, summary, colors))
        drawings.append(_against_bytes(panels, summary, colors))
        for special in (UPLINK, VARIANTS, LABELS):
            fitting = [panel for panel in panels if special.fits(panel)]
            if fitting:
                figure = _grid(fitting, special.draw(summary, colors))
                drawings.append(Drawing(special.name, special.title, figure, special.caption))
        if is_over_time:
            drawings.append(_waiting(panels, colors))
        if compared and is_over_time:
            drawings.append(_gain(panels, colors))
        if any(panel.cells["is_shift"].any() for panel in panels):
            drawings.append(_since_shift(panels, colors))
    return drawings


def _over_segments(panels: Sequence[Panel], colors: dict[str, str]) -> Drawing:
    def draw(metric: str) -> Draw:
        def one(axes: Axes, panel: Panel) -> None:
            marks.lines(
                axes, metric_by(panel.results, metric, "segment"), "segment", "mean", colors, panel
            )
            marks.mark_shifts(axes, panel)
            axes.set(xlabel="segment", ylabel=metric)

        return one

    return Drawing(
        "segments",
        "How well does each strategy predict over time?",
        _grid(panels, draw),
        "Bands: 95 % intervals over devices, seeds pooled. " + _shift_words(panels),
    )


def _gain(panels: Sequence[Panel], colors: dict[str, str]) -> Drawing:
    def draw(metric: str) -> Draw:
        def one(axes: Axes, panel: Panel) -> None:
            table = gain_by(panel, metric, "segment")
            marks.lines(
                axes, table[table["strategy"] != panel.baseline], "segment", "diff", colors, panel
            )
            axes.axhline(
                0.0, color=colors.get(panel.baseline, style.SOFT_INK), linewidth=1.0, zorder=1.5
            )
            marks.mark_shifts(axes, panel)
            axes.set(xlabel="segment", ylabel=f"{metric} minus {panel.baseline}")

        return one

    return Drawing(
        "gain",
        f"What does adapting gain over {panels[0].baseline}?",
        _grid(panels, draw),
        "Difference on the same devices, segment by segment; bands: 95 % intervals of the paired "
        "difference.",
    )


def _forest(panels: Sequence[Panel], summary: pd.DataFrame, colors: dict[str, str]) -> Drawing:
    return Drawing(
        "forest",
        f"Which strategy differs from {panels[0].baseline}, and by how much?",
        forest(panels, summary, colors),
        "Difference on the same devices over the whole run; bars: 95 % intervals of the paired "
        "difference. An arrow with a number is a difference beyond the axis."
        + (CONTROL_MARKS if summary["minus_mean"].notna().any() else ""),
    )


def _since_shift(panels: Sequence[Panel], colors: dict[str, str]) -> Drawing:
    aged = {id(panel): with_age(panel) for panel in panels}

    def draw(metric: str) -> Draw:
        def one(axes: Axes, panel: Panel) -> None:
            table = metric_by(aged[id(panel)], metric, "since_shift")
            marks.lines(axes, table, "since_shift", "mean", colors, panel)
            axes.set(xlabel="segments since the device's last shift", ylabel=metric)

        return one

    return Drawing(
        "recovery",
        "How fast does each strategy recover from a shift?",
        _grid(panels, draw),
        "0 is the segment in which the device's context is new. Bands: 95 % intervals over "
        "devices. Segments before a device's first shift are left out, and so are ages that fewer "
        "than a tenth of the devices reach.",
    )


def _against_bytes(
    panels: Sequence[Panel], summary: pd.DataFrame, colors: dict[str, str]
) -> Drawing:
    def draw(metric: str) -> Draw:
        def one(axes: Axes, panel: Panel) -> None:
            rows = panel.of(summary)
            table = rows[(rows["metric"] == metric) & np.isfinite(rows["mean"].astype(float))]
            marks.scatter(axes, table, metric, colors)

        return one

    return Drawing(
        "bytes",
        "What does it cost in bytes?",
        _grid(panels, draw),
        "Bytes on the wire, up and down together, per device over the whole run, with Flower's "
        "framing. Bars: 95 % intervals over devices. Grey steps: the Pareto front; a strategy "
        "below it is beaten by one that sends no more.",
    )


def _waiting(panels: Sequence[Panel], colors: dict[str, str]) -> Drawing:
    def latency(axes: Axes, panel: Panel) -> None:
        curves = {}
        for name in panel.strategies:
            xs, ys = ecdf(panel.cells.loc[panel.cells["strategy"] == name, "latency_s"])
            if len(xs):
                curves[name] = (xs, ys)
        if not curves:
            marks.say_empty(axes, "no new parameters arrived")
            return
        positive = np.concatenate([xs[xs > 0] for xs, _ in curves.values()])
        floor = positive.min() if len(positive) else 0.0
        for name, (xs, ys) in curves.items():
            axes.step(np.maximum([xs[0], *xs], floor), [0.0, *ys], where="post", color=colors[name])
        if len(positive):
            axes.set_xscale("log")
        low, high = axes.get_xlim()
        marks.name_curves(axes, sorted(curves, key=lambda name: np.median(curves[name][0])), colors)
        if len(positive):
            marks.plain_log_ticks(axes, "x", low, high)
        absent = [name for name in panel.strategies if name not in curves]
        label = "latency (s)"
        if absent:
            label += f"\nnothing arrives: {', '.join(absent)}"
        axes.set(ylabel="share of arrivals", ylim=(0, 1))
        axes.set_xlabel(label, parse_math=False)

    def staleness(axes: Axes, panel: Panel) -> None:
        finite = panel.cells[np.isfinite(panel.cells["staleness_s"])]
        groups = finite.groupby(["strategy", "segment"], observed=True)["staleness_s"]
        table = groups.quantile([0.25, 0.5, 0.75]).unstack().reset_index()
        if table.empty:
            marks.say_empty(axes, "no ages are known")
            return
        table = table.rename(columns={0.25: "low", 0.5: "mean", 0.75: "high"})
        positive = table.loc[table["mean"] > 0, "mean"]
        if len(positive) and positive.max() > 30 * positive.min():
            axes.set_yscale("symlog", linthresh=float(positive.min()))
            axes.yaxis.set_major_formatter(marks.plain)
        marks.lines(axes, table, "segment", "mean", colors, panel)
        axes.set(xlabel="segment", ylabel="staleness (s)")

    columns: dict[str, Draw] = {"latency": latency, "staleness": staleness}
    return Drawing(
        "waiting",
        "How late do new parameters come, and how old are those in use?",
        _grid(panels, lambda name: columns[name], columns=list(columns)),
        "Left: latency from the shift to new parameters in use, as the cumulative share of all "
        "devices and segments in which something arrived. Right: age of the parameters in use "
        "when a segment starts (those asked for then count as new), median over devices, band "
        "from the first to the third quartile. Virtual seconds.",
    )


def _grid(
    panels: Sequence[Panel],
    draw: Callable[[str], Draw],
    columns: Sequence[str] | None = None,
) -> Figure:
    """Draws a row of axes for each panel.

    Args:
        panels: From top to bottom.
        draw: Name of a column -> what draws it.
        columns: Names from left to right, at most two; by default each panel's main metrics.
    """
    figure = Figure(figsize=(style.WIDTH_IN, style.ROW_IN * len(panels)))
    grid = figure.subplots(len(panels), 2, squeeze=False)
    margin_x = style.LEFT_IN
    margin_y = style.BELOW_IN + style.ABOVE_IN
    height = style.ROW_IN * len(panels)
    figure.subplots_adjust(
        left=margin_x / style.WIDTH_IN,
        right=1.0 - style.RIGHT_IN / style.WIDTH_IN,
        bottom=style.BELOW_IN / height,
        top=1.0 - style.ABOVE_IN / height,
        wspace=margin_x / ((style.WIDTH_IN - style.RIGHT_IN) / 2 - margin_x),
        hspace=margin_y / (style.ROW_IN - margin_y),
    )
    for panel, row in zip(panels, grid, strict=True):
        cells = columns or panel.main_metrics
        for cell, axes in zip(cells, row, strict=False):
            draw(cell)(axes, panel)
        for axes in row[len(cells) :]:
            axes.set_axis_off()
        row[0].set_title(
            " · ".join(part for part in (panel.title, panel.size) if part), parse_math=False
        )
    return figure


def _shift_words(panels: Sequence[Panel]) -> str:
    """Says in a caption how shifts are marked."""
    shares = pd.concat([shift_shares(panel) for panel in panels])
    if not (shares > 0).any():
        return "No shift is known in these results."
    words = []
    if (shares >= 0.5).any():
        words.append("a dashed line is where at least half of the devices shift")
    few = shares[(shares > 0) & (shares < 0.5)]
    if len(few):
        words.append(
            f"a shade is as deep as the share of devices that shift (here up to {few.max():.0%} a "
            "segment)"
        )
    text = "; ".join(words)
    return text[0].upper() + text[1:] + "."
