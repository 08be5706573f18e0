"""Draws the figures of a study of thin links, one for each question."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cdc_flower.report.comparison.figure_data import ecdf
from cdc_flower.report.comparison.figures import Drawing
from cdc_flower.report.drawing import style
from cdc_flower.report.drawing.axes import plain_log_ticks
from cdc_flower.report.study.narrative import bits_per_s, family, where_of, whole_of
from cdc_flower.report.study.table import (
    ALWAYS,
    NO_PROTOCOL,
    Study,
    crossings,
    networks_with_scales,
    pareto,
    plain,
    sends_nothing,
)
from cdc_flower.tables.summary import BASELINE

HEIGHT_IN = 3.8
#: Links whose latency and staleness are drawn: the slowest.
NUM_LINKS = 3
#: Share of parameters that come late, above which a link has no latency to show.
MOST_LATE = 0.5
MARKERS = "osD^vP*X"
#: Seconds that a logarithmic axis shows at least.
LEAST_S = 1e-3
#: Columns of a value and its interval.
VALUE = ("mean", "low", "high")
GAIN = ("gain", "gain_low", "gain_high")


def stress_drawings(study: Study, colors: dict[str, str]) -> list[Drawing]:
    """Draws every figure that the study allows, in the order of the page."""
    with style.figure_style():
        drawings = [
            Drawing("pareto", "What is the metric worth in bytes?", *_pareto(study, colors)),
            Drawing(
                "rates",
                "Where does each method degrade, and where do two cross?",
                *_rates(study, colors),
            ),
            Drawing(
                "latency", "How long until new parameters are in use?", *_latency(study, colors)
            ),
            Drawing("staleness", "How old are the parameters in use?", *_staleness(study, colors)),
        ]
        if (study.table["policy"] != ALWAYS).any():
            drawings.append(Drawing("budget", "What are requests worth?", *_budget(study, colors)))
        drawings.append(Drawing("lost", "What came late or never?", *_lost(study, colors)))
    return drawings


def _axes(columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(style.WIDTH_IN, HEIGHT_IN), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, columns, sharey=True)))


def _legend(figure: Figure, handles: Sequence[Line2D], title: str | None = None) -> None:
    """Draws one legend for all axes, above them, where it hides nothing."""
    columns = min(len(handles), 7)
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=columns,
        frameon=False,
        fontsize=8,
        title=title,
    )


def _strategies(colors: dict[str, str], names: Iterable[str], marker: str = "") -> list[Line2D]:
    return [
        Line2D([], [], color=colors[name], marker=marker, label=name)
        for name in dict.fromkeys(names)
    ]


def short(amount: float, _: object = None) -> str:
    """Writes an amount with a unit prefix: ``1.5M``."""
    size, unit = next(
        (pair for pair in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if amount >= pair[0]), (1.0, "")
    )
    return f"{amount / size:g}{unit}"


def _pareto(study: Study, colors: dict[str, str]) -> tuple[Figure, str]:
    figure, (axes,) = _axes()
    table = study.table
    # A logarithmic axis has no 0; what sends nothing stands left of the lightest.
    floor = (
        float(table.loc[table["bytes"] > 0, "bytes"].min()) / 3
        if (table["bytes"] > 0).any()
        else 1.0
    )
    is_plain = table.index.isin(plain(table).index)
    for kind, own in table.assign(is_plain=is_plain).groupby(
        ["strategy", "is_plain"], observed=True, sort=False
    ):
        color = colors[str(kind[0])]
        axes.scatter(
            np.maximum(own["bytes"], floor),
            own["mean"],
            s=24,
            marker="o" if kind[1] else "D",
            facecolors=color if kind[1] else "white",
            edgecolors=color,
            linewidths=1.2,
        )
    front = pareto(table)
    xs = [*np.maximum(front["bytes"], floor), 1.3 * max(table["bytes"].max(), floor)]
    ys = [*front["mean"], front["mean"].iloc[-1]]
    axes.step(xs, ys, where="post", color=style.SOFT_INK, linewidth=1.0, zorder=0)
    axes.set(
        xscale="log",
        xlabel="bytes on the wire a device, up and down, over the run",
        ylabel=study.metric,
    )
    plain_log_ticks(axes, "x", floor, xs[-1])
    axes.xaxis.set_major_formatter(short)
    _legend(figure, _strategies(colors, table["strategy"], "o"))
    return figure, (
        "Each mark is one strategy under one condition: a dot where only the link differs, a "
        "diamond with a protocol, a policy or losses. Grey: the Pareto front. What sends nothing "
        "stands at the left edge."
    )


def _rates(study: Study, colors: dict[str, str]) -> tuple[Figure, str]:
    panels: list[str | None] = [*networks_with_scales(study), None]
    figure, all_axes = _axes(len(panels))
    still = sends_nothing(study.table)
    names = list(study.over_links["strategy"])
    has_gain = BASELINE in still
    for network, axes in zip(panels, all_axes, strict=True):
        rows = study.over_links
        rows = rows[
            np.isfinite(rows["rate_up_bps"]) & (rows["network"] == network if network else True)
        ]
        for name, own in rows.groupby("strategy", observed=True, sort=False):
            value, low, high = (own[key] for key in (GAIN if has_gain else VALUE))
            if name not in still:
                axes.plot(
                    own["rate_up_bps"], value, marker="o", markersize=4, color=colors[str(name)]
                )
                axes.fill_between(
                    own["rate_up_bps"], low, high, color=colors[str(name)], alpha=0.12, linewidth=0
                )
        for name in sorted(still):
            first = plain(study.table).query("strategy == @name").iloc[0]
            level = 0.0 if name == BASELINE else float(first["gain" if has_gain else "mean"])
            axes.axhline(level, color=colors[name], linewidth=1.2)
        for k, found in enumerate(sorted(crossings(study, network), key=lambda one: one.rate_bps)):
            axes.axvline(found.rate_bps, color=style.SHIFT_INK, linestyle=":", linewidth=1.0)
            axes.annotate(
                f"{found.below} | {found.above}\n{bits_per_s(found.rate_bps)}",
                (found.rate_bps, 0.99 - 0.1 * (k % 4)),
                (3, 0),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=6.5,
                va="top",
                color=style.SOFT_INK,
            )
        axes.set(xscale="log", title=f"{network} at several scales" if network else "all links")
        axes.set_xlabel("median uplink (bit/s)")
        if len(rows):
            plain_log_ticks(
                axes, "x", float(rows["rate_up_bps"].min()), float(rows["rate_up_bps"].max())
            )
            axes.xaxis.set_major_formatter(short)
    all_axes[0].set_ylabel(f"{study.metric} above {BASELINE}" if has_gain else study.metric)
    bottom, top = all_axes[0].get_ylim()
    most = max(len(crossings(study, network)) for network in panels)
    room = 0.12 * min(most, 4)  # for the names of crossings
    all_axes[0].set_ylim(bottom, top + (top - bottom) * room)
    _legend(figure, _strategies(colors, names, "o"))
    return figure, (
        "Horizontal: strategies that send nothing. Dotted: where two cross, the better one below "
        "it and the better one above it, with the rate. Bands: 95 % intervals over devices. Links "
        "of the right panel differ in more than the rate."
    )


def _thinnest(study: Study) -> list[dict[Hashable, object]]:
    """Lists the slowest links on which something arrives in time, the slowest first.

    Rows with a protocol, a policy or losses are left out.
    """
    rows = study.over_links[~study.over_links["strategy"].isin(sends_nothing(study.table))]
    rows = rows[rows["late"] < MOST_LATE] if (rows["late"] < MOST_LATE).any() else rows
    slowest = rows.drop_duplicates(["network", "rate_scale"]).head(NUM_LINKS)
    return list(slowest.to_dict("records"))


def _by_link(study: Study, draw: Callable[[Axes, str, pd.DataFrame], None]) -> Figure:
    """Draws axes for each of the slowest links.

    Args:
        study: The study.
        draw: Draws a strategy, by its name and its cells on a link, into the axes of the link.
    """
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
    drawn: list[str] = []
    ends: list[float] = []

    def draw(axes: Axes, name: str, own: pd.DataFrame) -> None:
        xs, ys = ecdf(own["latency_s"])
        if len(xs):
            axes.step(np.maximum(xs, LEAST_S), ys, where="post", color=colors[name])
            drawn.append(name)
            ends.extend([max(xs[0], LEAST_S), max(xs[-1], LEAST_S)])
        axes.set(xlabel="latency (s)", ylim=(0, 1.02))

    figure = _by_link(study, draw)
    for axes in figure.axes if ends else []:
        axes.set(xscale="log", xlim=(min(ends) / 1.3, max(ends) * 1.3))
        plain_log_ticks(axes, "x", min(ends), max(ends))
    figure.axes[0].set_ylabel("share of arrivals")
    _legend(figure, _strategies(colors, drawn))
    return (
        figure,
        "From the decision point to new parameters in use, over all devices and segments in which "
        "some arrived. A line that is not seen lies under another.",
    )


def _staleness(study: Study, colors: dict[str, str]) -> tuple[Figure, str]:
    drawn: list[str] = []

    def draw(axes: Axes, name: str, own: pd.DataFrame) -> None:
        mean = own.groupby("segment")["staleness_s"].mean()
        axes.plot(mean.index, mean, color=colors[name])
        drawn.append(name)
        axes.set(xlabel="segment")

    figure = _by_link(study, draw)
    figure.axes[0].set_ylabel("staleness (s), mean over devices")
    _legend(figure, _strategies(colors, drawn))
    return (
        figure,
        "Age at the start of a segment of the parameters in use during it; those asked for at its "
        "start count as new.",
    )


def _budget(study: Study, colors: dict[str, str]) -> tuple[Figure, str]:
    rows = study.table[study.table["loss"] == ""]
    asked = rows[rows["policy"] != ALWAYS]
    asked = asked.assign(family=asked["policy"].map(family))
    names = list(dict.fromkeys(asked["strategy"]))
    kinds = list(dict.fromkeys(asked["family"]))
    looks = {
        kind: (style.POLICY_COLORS[k % 5], MARKERS[k % len(MARKERS)])
        for k, kind in enumerate(kinds)
    }
    figure, all_axes = _axes(len(names))
    still = plain(study.table).query("strategy == @BASELINE")["mean"]
    for name, axes in zip(names, all_axes, strict=True):
        for kind, some in asked[asked["strategy"] == name].groupby(
            "family", observed=True, sort=False
        ):
            some = some.sort_values("requests")
            whole = whole_of(study, some)
            every = [] if whole is None else [whole]
            color, marker = looks[str(kind)]
            axes.plot(
                100 * np.array([*some["requests"], *(row["requests"] for row in every)]),
                [*some["mean"], *(row["mean"] for row in every)],
                marker=marker,
                markersize=4.5,
                color=color,
                alpha=0.9,
            )
        if len(still):
            axes.axhline(float(still.iloc[0]), color=colors[BASELINE], linewidth=1.2)
        axes.set(xlabel="reports sent, of all that could be (%)", title=name)
    all_axes[0].set_ylabel(study.metric)
    handles = [
        Line2D([], [], color=color, marker=marker, label=kind)
        for kind, (color, marker) in looks.items()
    ]
    _legend(figure, [*handles, *(_strategies(colors, [BASELINE]) if len(still) else [])])
    return (
        figure,
        "Each line ends where every device reports in every segment. The horizontal axis is what "
        "was really sent.",
    )


def _lost(study: Study, colors: dict[str, str]) -> tuple[Figure, str]:
    table = study.table[~study.table["strategy"].isin(sends_nothing(study.table))]
    is_plain = (table["protocol"] == NO_PROTOCOL) & (table["policy"] == ALWAYS)
    table = table[is_plain].sort_values("rate_up_bps", kind="stable")
    where = table.apply(where_of, axis=1)
    places = list(dict.fromkeys(where))
    names = list(dict.fromkeys(table["strategy"]))
    figure = Figure(figsize=(style.WIDTH_IN, 1.3 + 0.25 * len(places)), layout="constrained")
    for axes, column in zip(figure.subplots(1, 2, sharey=True), ("late", "dropped"), strict=True):
        cells = table.assign(where=where).pivot_table(
            index="where", columns="strategy", values=column, sort=False
        )
        shares = 100 * cells.reindex(index=places, columns=names).to_numpy()
        edges = np.arange(len(names) + 1) - 0.5, np.arange(len(places) + 1) - 0.5
        axes.pcolormesh(*edges, np.minimum(shares, 100), cmap="Greys", vmin=0, vmax=140)
        for (row, k), share in np.ndenumerate(shares):
            if np.isfinite(share):
                dark = "white" if share > 80 else style.INK
                axes.text(k, row, f"{share:.0f}", ha="center", va="center", fontsize=8, color=dark)
        axes.set_xticks(np.arange(len(names)), names, fontsize=8, rotation=20, ha="right")
        axes.set_yticks(np.arange(len(places)), [fill(place, 36) for place in places], fontsize=8)
        axes.set_ylim(len(places) - 0.5, -0.5)
        axes.set_title(f"{column}, per 100 devices and segments")
        axes.grid(visible=False)
    return (
        figure,
        "Late: parameters that were not there when their segment ended. Dropped: messages that "
        "never arrived, because a newer one took their place, or for losses, outages or a "
        "deadline. From the slowest link to the fastest.",
    )
