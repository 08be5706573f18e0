"""Figures that only some runs allow."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cdc_flower.report.comparison.figure_data import Panel


@dataclass(frozen=True)
class Special:
    """A figure of those panels that it fits.

    Attributes:
        name: Of the figure; ``title``: the question that it answers; ``caption``: what its marks
            mean.
        fits: Whether a panel has what it shows.
        draw: (summary, colors) -> metric -> a function that draws a panel into axes.
    """

    name: str
    title: str
    caption: str
    fits: Callable[[Panel], bool]
    draw: Callable[[pd.DataFrame, dict[str, str]], Callable[[str], Any]]


def rows_of(panel: Panel, summary: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of the summary that belong to the panel and a metric, those with a value."""
    mine = panel.of(summary)
    return mine[(mine["metric"] == metric) & np.isfinite(mine["mean"].astype(float))]
