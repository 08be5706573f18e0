"""Describes figures that only some runs allow."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from cdc_flower.report.comparison.figure_data import Panel

#: Draws a panel into axes.
Draw = Callable[[Axes, Panel], None]
#: (summary, color of each strategy) -> metric -> what draws it.
SpecialDraw = Callable[[pd.DataFrame, dict[str, str]], Callable[[str], Draw]]


@dataclass(frozen=True)
class Special:
    """A figure of those panels that it fits.

    Attributes:
        name: Of the figure.
        title: The question that it answers.
        caption: The meaning of its marks.
        fits: Whether a panel has what it shows.
        draw: (summary, colors) -> metric -> a function that draws a panel.
    """

    name: str
    title: str
    caption: str
    fits: Callable[[Panel], bool]
    draw: SpecialDraw


def rows_of(panel: Panel, summary: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Selects the rows of the summary that belong to a panel and a metric and have a value.

    Args:
        panel: Of a run label and a task.
        summary: One row a run label, task, strategy and metric.
        metric: The name in the column ``metric``.
    """
    mine = panel.of(summary)
    return mine[(mine["metric"] == metric) & np.isfinite(mine["mean"].astype(float))]
