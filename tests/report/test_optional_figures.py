"""Figures from results and configuration together: labels, variants, bytes for a clip."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from report_cases import config, results

from cdc_flower.report import RunFolder
from cdc_flower.report.comparison.bytes_figures import bytes_of_a_segment, has_variants
from cdc_flower.report.comparison.figure_data import Panel, panels_of
from cdc_flower.report.comparison.figures import all_drawings
from cdc_flower.report.comparison.label_figures import against_labels, families
from cdc_flower.report.drawing.style import strategy_colors
from cdc_flower.report.folders import arm_settings
from cdc_flower.tables.results import Results
from cdc_flower.tables.summary import summarize

pytestmark = pytest.mark.slow  # plays whole runs

ARMS = {
    "fine_tuning": {"layers": "head", "steps": 5, "max_examples": 64},
    "head_4": {"method": "fine_tuning", "max_examples": 4},
    "head_16": {"method": "fine_tuning", "max_examples": 16},
    "all_1": {"method": "fine_tuning", "layers": "all", "max_examples": 1},
    "all_4": {"method": "fine_tuning", "layers": "all", "max_examples": 4},
    "cdc_mmpg": {"variant": "oneM+bias"},
    "cdc_bias": {"method": "cdc_mmpg", "variant": "onebias"},
}
LABELLED = ("static", "cdc_mmpg", "head_16", "head_4", "all_1", "all_4")


def panel_of(
    names: tuple[str, ...], task: str = "video_qa", **changes: Any
) -> tuple[Panel, pd.DataFrame]:
    frame = pd.concat(
        [
            results(
                (name,),
                task=task,
                num_labels=int(name.split("_")[1]) if name[-1].isdigit() else 0,
                **changes,
            )
            for name in names
        ]
    )
    rows = Results.of(frame)
    run = RunFolder("a", rows, config(task=task, strategies=list(names), strategy=ARMS))
    rows = rows.assign(run="")
    (panel,) = panels_of(rows, settings=arm_settings([run]))
    return panel, summarize(rows)


def names_of(panel: Panel, summary: pd.DataFrame) -> list[str]:
    return [
        drawing.name
        for drawing in all_drawings([panel], summary, strategy_colors(panel.strategies))
    ]


def test_an_arm_has_the_settings_of_its_method_and_its_own_over_them() -> None:
    also = {"task": "b", "strategies": ["cdc_bias", "static"], "strategy": ARMS}
    run = RunFolder(
        "x",
        Results.of(results()),
        config(task="a", strategies=["head_4"], strategy=ARMS, also=[also]),
    )
    assert arm_settings([run]) == {
        ("a", "head_4"): {"method": "fine_tuning", "layers": "head", "steps": 5, "max_examples": 4},
        ("b", "cdc_bias"): {"method": "cdc_mmpg", "variant": "onebias"},
        ("b", "static"): {"method": "static"},
    }
    assert arm_settings([RunFolder("x", Results.of(results()))]) == {}


def test_strategies_that_differ_in_the_number_of_labels_alone_are_a_family() -> None:
    panel, _ = panel_of(LABELLED)
    assert families(panel) == {
        "head": [(4, "head_4"), (16, "head_16")],
        "all": [(1, "all_1"), (4, "all_4")],
    }
    assert families(panel_of(("static", "head_4", "all_4"))[0]) == {}


def test_a_family_is_drawn_against_its_labels_and_the_others_across() -> None:
    panel, summary = panel_of(LABELLED)
    axes: Axes = Figure().subplots()
    against_labels(summary, {})("auc")(axes, panel)
    mean = summary[summary["metric"] == "auc"].set_index("strategy")["mean"]
    lines = [
        (line.get_xdata(), line.get_ydata()) for line in axes.lines if line.get_marker() == "o"
    ]
    np.testing.assert_allclose(np.array(lines[0]), [[2, 4], [mean["head_4"], mean["head_16"]]])
    np.testing.assert_allclose(np.array(lines[1]), [[0, 2], [mean["all_1"], mean["all_4"]]])
    across = [line.get_ydata() for line in axes.lines if line.get_linestyle() == "--"]
    np.testing.assert_allclose(across, [[mean["static"]] * 2, [mean["cdc_mmpg"]] * 2])
    assert [text.get_text().strip() for text in axes.texts] == ["static", "cdc_mmpg", "head", "all"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "4", "16"]


def test_the_figure_of_labels_is_there_where_labels_differ() -> None:
    assert "labels" in names_of(*panel_of(LABELLED))
    assert "labels" not in names_of(*panel_of(("static", "head_4")))
    assert "labels" in names_of(*panel_of(LABELLED, num_segments=1, shifts=False))


def test_the_figure_of_variants_is_there_where_a_method_has_two() -> None:
    panel, summary = panel_of(("static", "cdc_mmpg", "cdc_bias"))
    assert has_variants(panel) and "variants" in names_of(panel, summary)
    panel, summary = panel_of(("static", "cdc_mmpg"))
    assert not has_variants(panel) and "variants" not in names_of(panel, summary)


def test_bytes_for_a_clip_are_drawn_where_devices_tell_of_clips() -> None:
    panel, summary = panel_of(("static", "cdc_mmpg"))
    uplink = {
        drawing.name: drawing
        for drawing in all_drawings([panel], summary, strategy_colors(panel.strategies))
    }
    points = {
        line.get_color(): line.get_xdata()[0]
        for line in uplink["uplink"].figure.axes[0].lines
        if line.get_marker() == "o"
    }
    colors = strategy_colors(panel.strategies)
    assert points[colors["cdc_mmpg"]] == pytest.approx(
        80
    )  # the payload of a report, and not the whole run's
    assert points[colors["static"]] < 80  # zero has a place of its own at the left
    assert "uplink" not in names_of(*panel_of(("static", "cdc_mmpg"), task="movies"))


def test_the_bytes_of_a_reply_are_those_of_a_segment_in_which_one_came() -> None:
    panel, _ = panel_of(
        ("static", "cdc_mmpg"), payload_bytes_down=np.array([0, 0, 0, 388, 388, 388])
    )
    assert bytes_of_a_segment(panel).loc["cdc_mmpg", "bytes_down"] == 388
    assert np.isnan(bytes_of_a_segment(panel).loc["static", "bytes_up"])
