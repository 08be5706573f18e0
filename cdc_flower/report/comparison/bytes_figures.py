"""Draws a metric against the cost of one exchange: bytes up for a clip, bytes down for a layer."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from cdc_flower.report.comparison.figure_data import Panel
from cdc_flower.report.comparison.optional_figures import Draw, Special, SpecialDraw, rows_of
from cdc_flower.report.drawing import axes as marks
from cdc_flower.tasks.registry import tasks

#: The setting in which generated layers differ.
SETTING = "variant"


def tells_of_clips(panel: Panel) -> bool:
    """Tells whether its task shows what one exchange costs; one that is unknown here does not."""
    task = str(panel.cells["task"].iloc[0])
    return task in tasks and tasks[task].facts.shows_exchange


def has_variants(panel: Panel) -> bool:
    """Tells whether two strategies of one method generate different layers."""
    values: dict[object, set[str]] = {}
    for settings in panel.settings.values():
        if SETTING in settings:
            values.setdefault(settings.get("method"), set()).add(str(settings[SETTING]))
    return any(len(different) > 1 for different in values.values())


def bytes_of_a_segment(panel: Panel) -> pd.DataFrame:
    """Finds the median raw bytes of a segment by strategy: ``bytes_up`` and ``bytes_down``.

    Segments in which nothing went that way are left out, so a strategy that never sends has no
    number.
    """
    sent = panel.cells[["payload_bytes_up", "payload_bytes_down"]].astype(np.float64)
    sent.columns = pd.Index(["bytes_up", "bytes_down"])
    return sent.where(sent > 0).groupby(panel.cells["strategy"], observed=True).median()


def _against(cost: Callable[[pd.DataFrame, Panel], pd.Series], label: str) -> SpecialDraw:
    """Makes a figure of each metric against a cost.

    Args:
        cost: (rows of the summary, panel) -> the cost of each row.
        label: Of the axis of costs.
    """

    def with_summary(summary: pd.DataFrame, colors: dict[str, str]) -> Callable[[str], Draw]:
        def draw(metric: str) -> Draw:
            def one(axes: Axes, panel: Panel) -> None:
                table = rows_of(panel, summary, metric)
                marks.scatter(axes, table, metric, colors, cost(table, panel), label)

            return one

        return draw

    return with_summary


def _up(table: pd.DataFrame, panel: Panel) -> pd.Series:
    return table["payload_bytes_up_per_device"] / panel.cells["segment"].nunique()


def _down(table: pd.DataFrame, panel: Panel) -> pd.Series:
    return table["strategy"].map(bytes_of_a_segment(panel)["bytes_down"]).astype(float).fillna(0.0)


UPLINK = Special(
    "uplink",
    "What does telling of a clip cost?",
    "Raw bytes, without framing. A strategy that adapts to the clip with which a segment opens "
    "tells of one clip a segment, so for it these are the bytes of a clip. Bars: 95 % intervals "
    "over devices. Grey steps: Pareto front.",
    tells_of_clips,
    _against(_up, "raw bytes up per device and segment"),
)
VARIANTS = Special(
    "variants",
    "What do the variants of the generated layer cost and bring?",
    "Raw bytes of one reply, without framing; a number takes four, so a quarter of it are the "
    "parameters that are generated, unless a codec is at work. Bars: 95 % intervals over devices.",
    has_variants,
    _against(_down, "raw bytes of a reply with new parameters"),
)
