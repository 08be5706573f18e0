"""The figures of a study of thin links, one for each question."""

from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cdc_flower.report import style
from cdc_flower.report.curves import ecdf
from cdc_flower.report.figures import Drawing
from cdc_flower.report.stress_table import ALWAYS, Study, crossings, networks_with_scales, pareto, plain, sends_nothing
from cdc_flower.report.stress_words import bits_per_s, family, where_of, whole_of
from cdc_flower.summary import BASELINE

HEIGHT_IN = 3.8
#: Links whose latency and staleness are drawn: the slowest.
NUM_LINKS = 3
#: Share of parameters that come late, above which a link has no latency to show.
MOST_LATE = 0.5
MARKERS = "osD^vP*X"


def stress_drawings(study: Study, colors: dict[str, str]) -> list[Drawing]:
    """Every figure that the study allows, in the order of the page."""
    with mpl.rc_context(style.RC):
        drawings = [
            Drawing("pareto", "What is the metric worth in bytes?", *_pareto(study, colors)),
            Drawing("rates", "Where does each method degrade, and where do two cross?", *_rates(study, colors)),
            Drawing("latency", "How long until new parameters are in use?", *_latency(study, colors)),
            Drawing("staleness", "How old are the parameters in use?", *_staleness(study, colors)),
        ]
        if (study.table["policy"] != ALWAYS).any():
            drawings.append(Drawing("budget", "What are requests worth?", *_budget(study, colors)))
        drawings.append(Drawing("lost", "What came late or never?", *_lost(study, colors)))
    return drawings


def _axes(columns: int = 1, *, sharey: bool = True) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(style.WIDTH_IN, HEIGHT_IN), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, columns, sharey=sharey)))


def _label(axes: Axes, colors: dict[str, str], names: list[str]) -> None:
    """A legend of the strategies' colours."""
    for name in names:
        axes.plot([], [], "o", color=colors[name], label=name)
    axes.legend(frameon=False, fontsize=8, loc="best")


def _pareto(study: Study, colors: dict[str, str]) -> tuple[Figure, str]:
    figure, (axes,) = _axes()
    table = study.table
    floor = float(table.loc[table["bytes"] > 0, "bytes"].min()) / 3 if (table["bytes"] > 0).any() else 1.0
    for name, own in table.groupby("strategy", observed=True, sort=False):
        error = np.array([own["mean"] - own["low"], own["high"] - own["mean"]])
        axes.errorbar(
            np.maximum(own["bytes"], floor),
            own["mean"],
            error,
            fmt="o",
            markersize=4,
            color=colors[str(name)],
            elinewidth=0.5,
            alpha=0.7,
        )
    front = pareto(table)
    axes.step(np.maximum(front["bytes"], floor), front["mean"], where="post", color=style.SOFT_INK, linewidth=1.0)
    axes.set(xscale="log", xlabel="bytes on the wire a device, up and down, over the run", ylabel=study.metric)
    _label(axes, colors, list(table["strategy"].unique()))
    return figure, (
        "Each mark is one strategy under one condition (link, protocol, policy), with its 95 % interval over devices; "
        "grey: the Pareto front. What sends nothing stands at the left edge."
    )


def _rates(study: Study, colors: dict[str, str]) -> tuple[Figure, str]:
    panels: list[str | None] = [*networks_with_scales(study), None]
    figure, all_axes = _axes(len(panels))
    still = sends_nothing(study.table)
    for network, axes in zip(panels, all_axes, strict=True):
        rows = study.over_links
        rows = rows[np.isfinite(rows["rate_up_bps"]) & (rows["network"] == network if network else True)]
        for name, own in rows.groupby("strategy", observed=True, sort=False):
            if name not in still:
                axes.plot(own["rate_up_bps"], own["mean"], marker="o", markersize=4, color=colors[str(name)])
                axes.fill_between(
                    own["rate_up_bps"], own["low"], own["high"], color=colors[str(name)], alpha=0.12, linewidth=0
                )
        for name in still:
            axes.axhline(
                float(plain(study.table).query("strategy == @name")["mean"].iloc[0]), color=colors[name], linewidth=1.2
            )
        for found in crossings(study, network):
            axes.axvline(found.rate_bps, color=style.SHIFT_INK, linestyle=":", linewidth=1.0)
            axes.annotate(
                bits_per_s(found.rate_bps),
                (found.rate_bps, 1.0),
                xycoords=("data", "axes fraction"),
                fontsize=7,
                rotation=90,
                va="top",
            )
        axes.set(
            xscale="log",
            xlabel="median uplink (bit/s)",
            title=f"{network} at several scales" if network else "all links",
        )
    all_axes[0].set_ylabel(study.metric)
    _label(all_axes[-1], colors, list(study.over_links["strategy"].unique()))
    return figure, (
        "Horizontal: strategies that send nothing. Dotted: where two cross, with the rate. Bands: 95 % intervals over "
        "devices. Links of the right panel differ in more than the rate."
    )


def _thinnest(study: Study) -> list[dict[str, Any]]:
    """The slowest links on which something arrives in time, without protocol, policy and losses, the slowest first."""
    rows = study.over_links[~study.over_links["strategy"].isin(sends_nothing(study.table))]
    rows = rows[rows["late"] < MOST_LATE] if (rows["late"] < MOST_LATE).any() else rows
    slowest: Any = rows.drop_duplicates(["network", "rate_scale"]).head(NUM_LINKS).to_dict("records")
    return list(slowest)


def _by_link(study: Study, draw: Callable) -> Figure:
    """Axes for each of the slowest links."""
    links = _thinnest(study)
    figure, all_axes = _axes(max(1, len(links)))
    cells = plain(study.cells)
    for link, axes in zip(links, all_axes, strict=False):
        axes.set_title(where_of(link))
        same = (cells["network"] == link["network"]) & (cells["rate_scale"] == link["rate_scale"])
        for name, own in cells[same].groupby("strategy", observed=True, sort=False):
            draw(axes, str(name), own)
    return figure


def _latency(study: Study, colors: dict[str, str]) -> tuple[Figure, str]:
    def draw(axes: Axes, name: str, own: pd.DataFrame) -> None:
        xs, ys = ecdf(own["latency_s"])
        if len(xs):
            axes.step(np.maximum(xs, 1e-3), ys, where="post", color=colors[name], label=name)
            axes.set_xscale("log")
            axes.legend(frameon=False, fontsize=8)
        axes.set(xlabel="latency (s)", ylim=(0, 1))

    figure = _by_link(study, draw)
    figure.axes[0].set_ylabel("share of arrivals")
    return (
        figure,
        "From the decision point to new parameters in use, over all devices and segments in which some arrived.",
    )


def _staleness(study: Study, colors: dict[str, str]) -> tuple[Figure, str]:
    def draw(axes: Axes, name: str, own: pd.DataFrame) -> None:
        mean = own.groupby("segment")["staleness_s"].mean()
        axes.plot(mean.index, mean, color=colors[name], label=name)
        axes.legend(frameon=False, fontsize=8)
        axes.set(xlabel="segment")

    figure = _by_link(study, draw)
    figure.axes[0].set_ylabel("staleness (s), mean over devices")
    return (
        figure,
        "Age at the start of a segment of the parameters in use during it; those asked for at its start count as new.",
    )


def _budget(study: Study, colors: dict[str, str]) -> tuple[Figure, str]:
    rows = study.table[study.table["loss"] == ""]
    asked = rows[rows["policy"] != ALWAYS]
    asked = asked.assign(family=asked["policy"].map(family))
    names = list(dict.fromkeys(asked["strategy"]))
    figure, all_axes = _axes(len(names), sharey=False)
    for name, axes in zip(names, all_axes, strict=True):
        own = asked[asked["strategy"] == name]
        for position, (kind, some) in enumerate(own.groupby("family", observed=True, sort=False)):
            some, whole = some.sort_values("requests"), whole_of(study, some)
            every = [] if whole is None else [whole]
            axes.plot(
                100 * np.array([*some["requests"], *(row["requests"] for row in every)]),
                [*some["mean"], *(row["mean"] for row in every)],
                marker=MARKERS[position % len(MARKERS)],
                markersize=4,
                color=colors[name] if position == 0 else style.SPARE_COLORS[position - 1],
                label=str(kind),
                alpha=0.85,
            )
        still = plain(study.table).query("strategy == @BASELINE")["mean"]
        if len(still):
            axes.axhline(float(still.iloc[0]), color=colors[BASELINE], linewidth=1.2, label=BASELINE)
        axes.set(xlabel="reports sent, of all that could be (%)", title=name)
        axes.legend(frameon=False, fontsize=8)
    all_axes[0].set_ylabel(study.metric)
    return (
        figure,
        "Each line ends where every device reports in every segment. The horizontal axis is what was really sent.",
    )


def _lost(study: Study, colors: dict[str, str]) -> tuple[Figure, str]:
    figure, all_axes = _axes(2)
    rows = study.table[~study.table["strategy"].isin(sends_nothing(study.table))]
    rows = rows[(rows["late"] > 0) | (rows["dropped"] > 0)].sort_values("late", ascending=False).head(14).iloc[::-1]
    for axes, column in zip(all_axes, ("late", "dropped"), strict=True):
        axes.barh(np.arange(len(rows)), 100 * rows[column], color=[colors[str(name)] for name in rows["strategy"]])
        axes.set(xlabel=f"{column}, per 100 devices and segments")
        axes.set_yticks(
            np.arange(len(rows)), [f"{r['strategy']}: {where_of(r)}" for r in rows.to_dict("records")], fontsize=7
        )
    return (
        figure,
        "Late: parameters that were not there when their segment ended. Dropped: messages that never arrived.",
    )
