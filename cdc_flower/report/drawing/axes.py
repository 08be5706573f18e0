"""Draws into axes: lines with bands, points with bars, shifts, and names beside them."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from cdc_flower.report.comparison.figure_data import Panel, pareto_front, shift_shares
from cdc_flower.report.drawing import style

_LABEL_SIZE = 8.5
_LABEL_GAP = 11.5  # points from label to label
_BACKING = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.4}


def lines(
    axes: Axes, table: pd.DataFrame, x: str, y: str, colors: dict[str, str], panel: Panel
) -> None:
    """Draws a line with a band for each strategy, its name at the end.

    Args:
        axes: Empty ones.
        table: Columns ``strategy``, ``x``, ``y``, ``low`` and ``high``, sorted by ``x``.
        x: The column of whole numbers to the right.
        y: The column of values.
        colors: Of each strategy.
        panel: Names the strategies in order.
    """
    table = table[np.isfinite(table[y])]
    if table.empty:
        say_empty(axes, "no values")
        return
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ends = {}
    for name in panel.strategies:
        rows = table[table["strategy"] == name]
        if rows.empty:
            continue
        xs, ys, low, high = (rows[column].to_numpy(np.float64) for column in (x, y, "low", "high"))
        axes.fill_between(xs, low, high, color=colors[name], alpha=0.16, linewidth=0)
        if len(xs) == 1 and np.isfinite([low, high]).all():
            axes.plot([xs[0], xs[0]], [low[0], high[0]], color=colors[name], linewidth=1.1)
        axes.plot(xs, ys, color=colors[name], marker="o", markersize=3 if len(xs) <= 40 else 0)
        ends[name] = (float(xs[-1]), float(ys[-1]))
    first = float(table[x].min())
    last = float(table[x].max())
    axes.set_xlim(first - 0.5, last + 0.5)
    ticks = [tick for tick in axes.get_xticks() if first <= tick <= last]
    axes.set_ylim(*axes.get_ylim())  # fixed, so that the names do not move it
    label_lines(axes, ends, colors)
    axes.set_xticks(ticks)


def mark_shifts(axes: Axes, panel: Panel) -> None:
    """Marks shifts: a thin line where most devices shift, else a shade as deep as their share."""
    if not axes.lines:
        return
    shares = shift_shares(panel)
    for segment, share in zip(shares.index.to_numpy(), shares.to_numpy(), strict=True):
        if share >= 0.5:
            axes.axvline(
                segment - 0.5,
                color=style.SHIFT_INK,
                linewidth=0.8,
                linestyle=(0, (4, 2)),
                zorder=0.9,
            )
        elif share > 0:
            axes.axvspan(
                segment - 0.5,
                segment + 0.5,
                color="#000000",
                alpha=0.16 * share,
                linewidth=0,
                zorder=0.5,
            )


def scatter(
    axes: Axes,
    table: pd.DataFrame,
    metric: str,
    colors: dict[str, str],
    cost: pd.Series | None = None,
    label: str = "kB per device, up and down",
) -> None:
    """Draws value against cost, with the front of those that none beats.

    Args:
        axes: Empty ones.
        table: Rows of the summary, one per strategy.
        metric: The metric of the rows.
        colors: Of each strategy.
        cost: Of each row, what the label says; by default the whole run's kB.
        label: Of the axis of costs.
    """
    axes.set(xlabel=label, ylabel=metric)
    if table.empty:
        say_empty(axes, "no values")
        return
    if cost is None:
        cost = (table["bytes_up_per_device"] + table["bytes_down_per_device"]) / 1000
    amounts = cost.to_numpy(np.float64)
    value, low, high = (table[column].to_numpy(np.float64) for column in ("mean", "low", "high"))
    names = [str(name) for name in table["strategy"]]
    at = _cost_axis(axes, amounts, _width_share(names))
    front = pareto_front(amounts, -value if metric in style.LOWER_IS_BETTER else value)
    steps_x = [*at[front], axes.get_xlim()[1]]
    steps_y = [*value[front], value[front][-1]]
    axes.step(steps_x, steps_y, where="post", color="#c4c4c4", linewidth=1.2, zorder=1)
    for x, y, down, up, name in zip(at, value, low, high, names, strict=True):
        if np.isfinite([down, up]).all():
            axes.plot([x, x], [down, up], color=colors[name], linewidth=1.1)
        axes.plot([x], [y], marker="o", markersize=6, color=colors[name], zorder=3)
    axes.set_ylim(*axes.get_ylim())  # fixed, so that the names do not move it
    _name_points(axes, at, value, names, colors)


def name_curves(axes: Axes, names: list[str], colors: dict[str, str]) -> None:
    """Writes names in a column at the left edge, widened so that no curve runs through them.

    Args:
        axes: With their curves.
        names: From top to bottom.
        colors: Of each name.
    """
    low, high = axes.transData.transform(np.column_stack([axes.get_xlim(), [0.0, 0.0]]))[:, 0]
    share = 0.02 + _width_share(names)
    wide = low - (high - low) * share / (1.0 - share)
    axes.set_xlim(axes.transData.inverted().transform((wide, 0.0))[0], axes.get_xlim()[1])
    for position, name in enumerate(names):
        height = 0.92 - position * min(0.075, 0.9 / len(names))
        axes.text(
            0.02,
            height,
            name,
            color=colors[name],
            transform=axes.transAxes,
            va="center",
            fontsize=_LABEL_SIZE,
            parse_math=False,
        )


def say_empty(axes: Axes, text: str) -> None:
    """Says in one line why a plot has nothing to show."""
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=style.SOFT_INK
    )
    axes.set_xticks([])
    axes.set_yticks([])


def label_lines(axes: Axes, ends: dict[str, tuple[float, float]], colors: dict[str, str]) -> None:
    """Writes each name at the end of its line, to the right, without overlap.

    Args:
        axes: With their lines.
        ends: For each name the last point ``(x, y)`` of its line.
        colors: Of each name.
    """
    left, right = axes.get_xlim()
    axes.set_xlim(left, left + (right - left) / (1.0 - 0.03 - _width_share(list(colors))))
    at = right + 0.02 * (right - left)
    heights = axes.transData.transform(list(ends.values()))[:, 1]
    spread = _spread_heights(axes, heights)
    for (name, (x, y)), height in zip(ends.items(), spread, strict=True):
        label_y = axes.transData.inverted().transform((0.0, height))[1]
        axes.plot([x, at], [y, label_y], color=colors[name], linewidth=0.6, alpha=0.6)
        axes.text(
            at,
            label_y,
            f" {name}",
            color=colors[name],
            va="center",
            fontsize=_LABEL_SIZE,
            parse_math=False,
        )


def plain_log_ticks(axes: Axes, which: str, low: float, high: float) -> None:
    """Puts ticks such as 0.1, 1 and 10 on a logarithmic axis, at least about three.

    Args:
        axes: With an axis that is logarithmic.
        which: ``x`` or ``y``.
        low: Where ticks begin, above 0.
        high: Where they end.
    """
    decades = np.log10(high / low)
    steps = (1.0, 2.0, 5.0) if decades < 2.2 else (1.0,)
    exponents = np.arange(
        np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1, 2 if decades > 6 else 1
    )
    ticks = np.sort(np.outer(10.0**exponents, steps).ravel())
    ticks = ticks[(ticks >= low) & (ticks <= high)]
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_major_formatter(plain)
    axis.set_minor_locator(NullLocator())


def plain(value: float, _: object = None) -> str:
    """Writes a number without an exponent, unless it is very small or large."""
    return f"{value:,.6g}" if 1e-4 <= abs(value) < 1e6 or value == 0 else f"{value:g}"


def _width_share(names: list[str]) -> float:
    """Estimates the longest name's share of the width of the axes."""
    return min(0.45, 0.015 + 0.0163 * max(len(name) for name in names))


def _spread_heights(axes: Axes, heights: np.ndarray) -> np.ndarray:
    """Moves heights in pixels apart so that labels there do not overlap."""
    bottom, top = axes.transAxes.transform([(0.0, 0.0), (0.0, 1.0)])[:, 1]
    return style.spread(heights, _LABEL_GAP * _pixels_per_point(axes), bottom + 4, top - 4)


def _pixels_per_point(axes: Axes) -> float:
    figure = axes.get_figure(root=True)
    return figure.dpi / 72.0 if figure is not None else 1.0


def _cost_axis(axes: Axes, amounts: np.ndarray, room: float) -> np.ndarray:
    """Makes the x axis logarithmic, with a place of its own for zero at the left edge.

    Args:
        axes: Their x axis is changed.
        amounts: From 0 on.
        room: Share of the axis to leave free on the right, for names.

    Returns:
        Where to draw each amount.
    """
    positive = amounts[amounts > 0]
    if not len(positive):
        axes.set_xlim(-0.1, 1.0)
        axes.set_xticks([0.0])
        return amounts
    axes.set_xscale("log")
    low = np.log10(positive.min())
    high = np.log10(positive.max())
    span = max(high - low, 1.0)
    left = low - 0.12 * span
    has_zero = bool((amounts <= 0).any())
    zero = left - 0.16 * span
    edge = zero - 0.06 * span if has_zero else left
    right = high + max(0.28 * span, (high - edge) * room / (1.0 - room))
    axes.set_xlim(10**edge, 10**right)
    plain_log_ticks(axes, "x", 10**left, 10**right)
    if not has_zero:
        return amounts
    axes.axvline(10**left, color=style.SHIFT_INK, linewidth=0.7, linestyle=":")
    ticks = axes.get_xticks()
    axes.set_xticks([10.0**zero, *ticks], ["0", *(plain(tick) for tick in ticks)])
    return np.where(amounts > 0, amounts, 10.0**zero)


def _name_points(
    axes: Axes, xs: np.ndarray, ys: np.ndarray, names: list[str], colors: dict[str, str]
) -> None:
    """Writes names beside points and above the front's line.

    Names stand on the right. Of two points that are near each other the left one has its name on
    the left, and names in one column are moved apart.
    """
    point = _pixels_per_point(axes)
    pixels = axes.transData.transform(np.column_stack([xs, ys])) / point
    edge = axes.transAxes.transform((0.0, 0.0))[0] / point
    text_width = 5.6 * max(len(name) for name in names) + 8.0
    steps = pixels[None, :, 0] - pixels[:, None, 0]
    has_right = ((steps > 1.0) & (steps < text_width)).any(axis=1)
    has_left = ((steps < -1.0) & (steps > -text_width)).any(axis=1)
    on_left = has_right & ~has_left & (pixels[:, 0] - edge > text_width)

    column = np.cumsum(np.diff(np.sort(pixels[:, 0]), prepend=-np.inf) > text_width)
    column = column[np.argsort(np.argsort(pixels[:, 0], kind="stable"))]
    for where in sorted(set(zip(column.tolist(), on_left.tolist(), strict=True))):
        members = np.flatnonzero((column == where[0]) & (on_left == where[1]))
        heights = _spread_heights(axes, (pixels[members, 1] + 7.0) * point) / point
        for index, height in zip(members, heights, strict=True):
            axes.annotate(
                names[index],
                (xs[index], ys[index]),
                (-7.0 if on_left[index] else 7.0, height - pixels[index, 1]),
                textcoords="offset points",
                ha="right" if on_left[index] else "left",
                va="center",
                color=colors[names[index]],
                fontsize=_LABEL_SIZE,
                parse_math=False,
                bbox=_BACKING,
            )
