"""The figure of differences: a line for each strategy, for many arms or a single segment."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from report_cases import results

from cdc_flower.report.comparison.figure_data import panels_of
from cdc_flower.report.comparison.figures import all_drawings
from cdc_flower.report.comparison.forest import forest
from cdc_flower.report.drawing.style import strategy_colors
from cdc_flower.tables.results import Results
from cdc_flower.tables.summary import strategies_in_order, summarize


def drawn(frame: pd.DataFrame) -> tuple[list[str], list[Axes], pd.DataFrame]:
    """Names of the figures, the axes of the forest, and the summary."""
    colors = strategy_colors(strategies_in_order(frame["strategy"].unique()))
    summary, panels = summarize(Results.of(frame)), panels_of(Results.of(frame))
    names = [drawing.name for drawing in all_drawings(panels, summary, colors)]
    return names, list(forest(panels, summary, colors).axes), summary


def test_a_single_segment_is_drawn_as_intervals_and_not_as_lines_over_time() -> None:
    assert drawn(results(num_segments=1))[0] == ["forest", "bytes"]
    assert "forest" not in drawn(results(num_segments=4))[0]


def test_many_arms_over_time_are_drawn_as_intervals_as_well() -> None:
    names = drawn(results(("static", *(f"arm_{k}" for k in range(9)))))[0]
    assert names[:2] == ["segments", "forest"]


def test_each_strategy_has_a_dot_at_its_difference_between_the_ends_of_its_interval() -> None:
    _, (first, *_), summary = drawn(results(num_segments=1))
    table = summary[(summary["metric"] == "ndcg@10") & (summary["strategy"] != "static")].set_index(
        "strategy"
    )
    names = [label.get_text() for label in first.get_yticklabels()]
    assert names == list(table.index)
    dots = [line.get_xdata()[0] for line in first.lines if line.get_marker() == "o"]
    bars = [
        line.get_xdata()
        for line in first.lines
        if line.get_marker() == "None" and len(line.get_xdata()) == 2
    ]
    np.testing.assert_allclose(dots, table["diff"])
    np.testing.assert_allclose(
        [tuple(bar) for bar in bars[: len(dots)]], table[["diff_low", "diff_high"]]
    )


def test_a_difference_far_beyond_the_others_is_a_number_at_the_border() -> None:
    frame = results(("static", *(f"arm_{k}" for k in range(6)), "popularity"), num_segments=1)
    frame.loc[frame["strategy"] == "popularity", "value_sum"] -= 1.25
    _, (first, *_), _ = drawn(frame)
    assert [text.get_text()[:4] for text in first.texts] == ["-0.2"]
    assert abs(first.get_xlim()[0]) < 0.1
