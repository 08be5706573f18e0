"""Writes the summary as tables in Markdown, with footnotes and the reading in words."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cdc_flower.report.comparison.figure_data import panels_of
from cdc_flower.report.comparison.footnotes import footnotes, numbers, sentences
from cdc_flower.report.comparison.narrative import reading
from cdc_flower.report.drawing.style import LOWER_IS_BETTER, main_metrics
from cdc_flower.report.folders import Comparison
from cdc_flower.tables.adaptation import least_above
from cdc_flower.tables.holm import is_sure
from cdc_flower.tables.trainings import interval_words

_COSTS = ("KB up", "KB down", "clicks told", "clicks trained on")


def markdown_tables(comparison: Comparison) -> str:
    """Makes a section for each run label and task.

    A row is a strategy: the headline metrics with the gain over the baseline, bold where it is one
    after correction, and what is left of it above the nearer control; then kilobytes of a device,
    and clicks.
    """
    summary = comparison.summary
    parts = []
    for panel in panels_of(comparison.results, comparison.baseline):
        rows = panel.of(summary)
        title = panel.title or str(rows["task"].iloc[0])
        metrics = main_metrics([str(name) for name in rows["metric"].unique()])
        notes = footnotes(comparison.runs, rows, metrics)
        seeds = int(rows["num_seeds"].max())
        parts += [
            f"## {title}",
            f"{panel.size}. Brackets are 95 % intervals {interval_words(seeds)}; bold: a gain "
            "after correction for the number of strategies. @ is against the nearer control.",
            "\n".join(_table(rows, metrics, numbers(notes))),
            *(f"{number}. {text}" for number, text in enumerate(sentences(notes), 1)),
            reading(panel, rows),
        ]
    return "\n\n".join(parts) + "\n"


def _table(rows: pd.DataFrame, metrics: Sequence[str], marks: dict[str, int]) -> list[str]:
    heads = ["strategy"]
    for metric in metrics:
        heads += [metric, f"{metric} against {rows['baseline'].iloc[0]}"]
    heads += list(_COSTS)
    lines = [_line(heads), "|" + "---|" * len(heads)]
    for name, mine in rows.groupby("strategy", sort=False, observed=True):
        by_metric = {str(row["metric"]): row for _, row in mine.iterrows()}
        first = mine.iloc[0]
        mark = marks.get(str(name))
        cells = [f"{name!s}<sup>{mark}</sup>" if mark else str(name)]
        for metric in metrics:
            row = by_metric.get(metric)
            cells += ["–", "–"] if row is None else [_number(row["mean"], ".4f"), _gain(row)]
        cells += [
            _number(first[f"bytes_{way}_per_device"] / 1000, ",.1f") for way in ("up", "down")
        ]
        cells += [_number(first[name], ",.0f") for name in ("num_told", "num_labels")]
        lines.append(_line(cells))
    return lines


def _gain(row: pd.Series) -> str:
    if row["strategy"] == row["baseline"] or not np.isfinite(row["diff"]):
        return ""
    downward = row["metric"] in LOWER_IS_BETTER
    text = _interval(row, "diff")
    if is_sure(row) and (row["diff"] < 0) == downward:
        text = f"**{text}**"
    control = least_above(row, downward=downward)
    return f"{text}; @{control} {_interval(row, f'minus_{control}')}" if control else text


def _interval(row: pd.Series, name: str) -> str:
    ends = row[f"{name}_low"], row[f"{name}_high"]
    text = f"{row[name]:+.4f}"
    return f"{text} [{ends[0]:+.4f}, {ends[1]:+.4f}]" if np.isfinite(ends).all() else text


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else "–"
