"""Sets the looks of figures: a color per strategy, labels at the lines, SVG that stays the same."""

import io
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from cdc_flower.report.drawing.svg_minify import compact
from cdc_flower.strategies.registry import looks
from cdc_flower.tables.estimates import LOWER_IS_BETTER as LOWER_IS_BETTER

#: Okabe and Ito's colors, which color-blind readers can tell apart (yellow is too pale for a thin
#: line), then some of Paul Tol's "muted" scheme. Methods register their own; these are for others.
SPARE_COLORS = (
    *("#000000", "#CC79A7", "#56B4E9", "#E69F00", "#009E73", "#0072B2", "#D55E00"),
    *("#882255", "#332288", "#999933", "#44AA99", "#AA4499", "#661100"),
)
#: Of request policies, in the order in which they come.
POLICY_COLORS = ("#7a3e9d", "#222222", "#b8860b", "#2e8b8b", "#a0522d")
#: From the first; AUC pooled over devices counts offsets between them, so it is no headline.
MAIN_METRICS = ("ndcg@10", "user_auc", "hr@10", "accuracy", "r@1", "log_loss", "r@5", "auc")

INK = "#222222"
SOFT_INK = "#666666"
SHIFT_INK = "#9a9a9a"
#: Size of a row of axes.
WIDTH_IN = 10.2
ROW_IN = 3.4
#: Inches around each axes: left of it, below it, above it, and right of the last.
LEFT_IN = 0.78
BELOW_IN = 0.62
ABOVE_IN = 0.3
RIGHT_IN = 0.06


def figure_style() -> AbstractContextManager[None]:
    """Sets Matplotlib's parameters for our figures, while the context is open."""
    return mpl.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "cdc-flower",
            "font.size": 9.0,
            "font.family": "DejaVu Sans",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": SOFT_INK,
            "axes.linewidth": 0.7,
            "axes.labelcolor": INK,
            "axes.labelpad": 6.0,
            "axes.titlesize": 9.5,
            "axes.titlelocation": "left",
            "axes.grid": True,
            "axes.grid.axis": "y",
            "axes.axisbelow": True,
            "grid.color": "#e8e8e8",
            "grid.linewidth": 0.7,
            "xtick.color": SOFT_INK,
            "ytick.color": SOFT_INK,
            "text.color": INK,
            "lines.linewidth": 1.7,
            "lines.solid_capstyle": "round",
        }
    )


def strategy_colors(names: Iterable[str]) -> dict[str, str]:
    """Gives each strategy a color: its own, else in alphabetical order spare ones that are free."""
    names = list(dict.fromkeys(names))
    own = {name: look.color for name, look in looks().items() if look.color}
    colors = {name: own[name] for name in names if name in own}
    free = [color for color in SPARE_COLORS if color not in colors.values()] or list(SPARE_COLORS)
    for position, name in enumerate(sorted(name for name in names if name not in own)):
        colors[name] = free[position % len(free)]
    return colors


def main_metrics(present: Sequence[str], count: int = 2) -> list[str]:
    """Lists the metrics to draw, the main one first: the well-known ones, else what there is."""
    known = [name for name in MAIN_METRICS if name in present]
    return [*known, *(name for name in present if name not in known)][:count]


def spread(values: ArrayLike, gap: float, low: float, high: float) -> NDArray[np.float64]:
    """Moves positions apart, as little as may be, without changing their order.

    Args:
        values: The wanted positions.
        gap: Least distance of neighbors; it shrinks where the room is too small.
        low: The least position.
        high: The greatest position.
    """
    wanted = np.asarray(values, np.float64)
    count = len(wanted)
    if count == 0:
        return wanted
    gap = min(gap, (high - low) / max(count - 1, 1))
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(count)
    blocks: list[list[float]] = []  # [mean, size]: neighbours that touch move together
    for value in wanted[order] - steps:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, size = blocks.pop()
            before, number = blocks[-1]
            blocks[-1] = [(before * number + mean * size) / (number + size), number + size]
    level = np.concatenate([np.full(int(size), mean) for mean, size in blocks])
    positions = np.empty(count)
    positions[order] = np.clip(level, low, high - steps[-1]) + steps
    return positions


def svg(figure: Figure, name: str) -> str:
    """Writes a figure as an SVG element that can stand in a page beside others.

    Args:
        figure: The figure.
        name: Its id, which other figures must not have.
    """
    buffer = io.StringIO()
    with figure_style():
        figure.savefig(
            buffer,
            format="svg",
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    text = buffer.getvalue()
    return compact(text[text.index("<svg") :], name)
