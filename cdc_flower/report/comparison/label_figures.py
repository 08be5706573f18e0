"""Draws a metric against the number of labels that a strategy learns from.

It answers whether a little data helps or is overfitted.
"""

from collections.abc import Callable, Sequence
from itertools import chain, takewhile

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from cdc_flower.report.comparison.figure_data import Panel
from cdc_flower.report.comparison.optional_figures import Draw, Special, rows_of
from cdc_flower.report.drawing import axes as marks
from cdc_flower.report.drawing import style

#: The setting that says how many labels a device learns from at a time.
SETTING = "max_examples"


def families(panel: Panel) -> dict[str, list[tuple[int, str]]]:
    """Groups strategies that agree in all settings but the number of labels.

    Returns:
        Name of a family -> (number of labels, strategy), ascending. A family has two numbers at
        least. It is called by the beginning that the names of its members share.
    """
    alike: dict[str, list[tuple[int, str]]] = {}
    for name in panel.strategies:
        settings = panel.settings.get(name, {})
        if SETTING in settings:
            rest = {key: value for key, value in settings.items() if key != SETTING}
            number = int(str(settings[SETTING]))
            alike.setdefault(repr(sorted(rest.items())), []).append((number, name))
    found: dict[str, list[tuple[int, str]]] = {}
    for members in alike.values():
        if len({number for number, _ in members}) > 1:
            name = _beginning([name for _, name in members])
            found[name if name and name not in found else members[0][1]] = sorted(members)
    return found


def _beginning(names: Sequence[str]) -> str:
    """Finds the beginning that all names share, without a number or a separator at its end."""
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in same).rstrip("_-. 0123456789")


def against_labels(summary: pd.DataFrame, _: dict[str, str]) -> Callable[[str], Draw]:
    """Makes the figure: a line a family, and one across for each strategy without labels."""

    def draw(metric: str) -> Draw:
        def one(axes: Axes, panel: Panel) -> None:
            table = rows_of(panel, summary, metric).set_index("strategy")
            _draw_families(axes, families(panel), table)
            if axes.lines:
                axes.set(xlabel="labels that a device learns from in a segment", ylabel=metric)

        return one

    return draw


def _draw_families(
    axes: Axes, found: dict[str, list[tuple[int, str]]], table: pd.DataFrame
) -> None:
    """Draws families and strategies without labels on a logarithmic axis of labels.

    Args:
        axes: Empty ones.
        found: From :func:`families`; members without a row of the table are left out.
        table: One row a strategy, which is the index: ``mean``, ``low``, ``high``, ``num_labels``.
    """
    lines = {
        name: [(number, member) for number, member in members if member in table.index]
        for name, members in found.items()
    }
    free = [str(name) for name in table.index[table["num_labels"] == 0]]
    colors = style.strategy_colors([*free, *lines])
    numbers = sorted({number for number, _ in chain.from_iterable(lines.values())})
    if not numbers:
        marks.say_empty(axes, "no values")
        return
    first = np.log2(numbers[0])
    last = np.log2(numbers[-1])
    margin = 0.05 * max(last - first, 1.0)
    axes.set_xlim(first - margin, last + margin)
    ends: dict[str, tuple[float, float]] = {}
    for name in free:
        mean, low, high = table.loc[[name], ["mean", "low", "high"]].to_numpy(np.float64)[0]
        axes.fill_between([first, last], low, high, color=colors[name], alpha=0.13, linewidth=0)
        axes.plot([first, last], [mean, mean], color=colors[name], linestyle=(0, (5, 2)))
        ends[name] = (last, mean)
    for name, members in lines.items():
        if not members:
            continue
        rows = table.loc[[member for _, member in members]]
        at = np.log2([number for number, _ in members])
        axes.vlines(at, rows["low"], rows["high"], color=colors[name], linewidth=1.1)
        axes.plot(at, rows["mean"], color=colors[name], marker="o", markersize=4)
        ends[name] = (float(at[-1]), float(rows["mean"].iloc[-1]))
    axes.set_ylim(*axes.get_ylim())  # fixed, so that the names do not move it
    marks.label_lines(axes, ends, {name: colors[name] for name in ends})
    axes.set_xticks(np.log2(numbers), [f"{number:,}" for number in numbers])


LABELS = Special(
    "labels",
    "Does it pay to learn from more labels?",
    "Strategies that differ only in how many labels a device learns from in each segment make one "
    "line; those without labels are drawn across. Bars and bands: 95 % intervals over devices.",
    lambda panel: bool(families(panel)),
    against_labels,
)
