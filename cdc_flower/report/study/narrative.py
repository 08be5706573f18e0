"""Writes the summary of a study of thin links, from its table alone."""

from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd

from cdc_flower.core.words import counted
from cdc_flower.report.study.table import (
    ALWAYS,
    NO_PROTOCOL,
    Study,
    crossings,
    half_gain,
    networks_with_scales,
    pareto,
    plain,
    sends_nothing,
)
from cdc_flower.tables.holm import LEVEL
from cdc_flower.tables.trainings import interval_words

#: Of the table of a study; or keys of one of its rows as a mapping.
Row = pd.Series | Mapping[Hashable, object]
#: Share of parameters that come late, from which on a link is too thin.
HALF = 0.5


def bits_per_s(rate_bps: float) -> str:
    """Writes a rate with its unit."""
    for unit, size in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if rate_bps >= size:
            return f"{rate_bps / size:.3g} {unit}"
    return f"{rate_bps:.3g} bit/s"


def kilobytes(num_bytes: float) -> str:
    """Writes bytes with their unit."""
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:,.1f} KB"


def summary_of(study: Study) -> str:
    """Writes one page of Markdown on a study of one task and one set of data."""
    table = study.table
    seeds = int(table["num_seeds"].max())
    devices = int(table["num_devices"].max())
    controls = (
        "what controls gain is in the reports of the runs"
        if study.has_controls
        else ("no control was played, so a gain may be further training as well as adaptation")
    )
    data = ", ".join(str(name) for name in table["data"].unique())
    conditions = len(
        table.drop_duplicates(["network", "rate_scale", "loss", "protocol", "policy", "budget"])
    )
    parts = [
        f"# Thin links: {data}\n",
        f"{counted(devices, 'device')}, {counted(seeds, 'seed')}, "
        f"{counted(conditions, 'condition')}. The metric is {study.metric}; gains are "
        f"against static on the same devices; "
        f"{controls}. They are bold where the 95 % interval {interval_words(seeds)} excludes zero, "
        "after correction for the strategies of a condition. Rates are medians over devices of the "
        "median uplink over seconds.\n",
        "## Where methods degrade, and where they cross\n",
        links_table(study),
        *(
            f"({number}) {name}: {'; '.join(said)}.\n"
            for number, (name, said) in enumerate(study.notes.items(), 1)
        ),
        *(f"- {line}" for line in rate_lines(study)),
        "\n## What it costs\n",
        front_table(study),
        *(f"- {line}" for line in byte_lines(study)),
        "\n## When to report\n",
        *policy_lines(study),
        "\n## What was late or lost\n",
        *(f"{line}\n" for line in rough_lines(study)),
        *loss_lines(study),
    ]
    return "\n".join(part for part in parts if part) + "\n"


def links_table(study: Study) -> str:
    """Writes a line a link, from the slowest: each strategy's gain and share of late parameters."""
    rows = study.over_links
    rows = rows[~rows["strategy"].isin(sends_nothing(study.table))]
    names = list(dict.fromkeys(rows["strategy"]))
    marks = {name: number for number, name in enumerate(study.notes, 1)}
    heads = [f"{name} ({marks[name]})" if name in marks else name for name in names]
    lines = [f"| link | median uplink | {' | '.join(heads)} |", "|---|---|" + "---|" * len(names)]
    for (network, scale), own in rows.groupby(["network", "rate_scale"], observed=True, sort=False):
        rate = float(own["rate_up_bps"].iloc[0])
        by_name = own.set_index("strategy")
        cells = [
            _gain_and_late(by_name.loc[name]) if name in by_name.index else "" for name in names
        ]
        lines.append(
            f"| {link_name(str(network), scale)} | "
            f"{bits_per_s(rate) if np.isfinite(rate) else 'no limit'} | {' | '.join(cells)} |"
        )
    best = ", ".join(
        f"{name} {_still(study, name):.4f}" for name in sorted(sends_nothing(study.table))
    )
    note = f"In a cell: {study.metric} above static, and the share of parameters that came late. "
    note += "" if study.has_controls else "No control was played. "
    note += "Where all are late a method is worth what it deploys before the run."
    return "\n".join([f"{note}{f' Without any link: {best}.' if best else ''}\n", *lines]) + "\n"


def _gain_and_late(row: pd.Series) -> str:
    gain = f"{row['gain']:+.4f}" if np.isfinite(row["gain"]) else f"{row['mean']:.4f}"
    is_clear = (row["gain_low"] > 0 or row["gain_high"] < 0) and row["gain_p_holm"] < LEVEL
    return f"{'**' + gain + '**' if is_clear else gain}, {row['late']:.0%}"


def _still(study: Study, name: str) -> float:
    return float(study.table.loc[study.table["strategy"] == name, "mean"].iloc[0])


def rate_lines(study: Study) -> list[str]:
    """Writes crossing points and half gains.

    They are over links of one recording at several scales, and over all links.
    """
    lines = []
    beside = "" if study.has_controls else " (no control was played)"
    for network in [*networks_with_scales(study), None]:
        where = f"{network} at several scales" if network else "all links together"
        for found in crossings(study, network):
            lines.append(
                f"On {where}, {found.below} is better below an uplink of "
                f"{bits_per_s(found.rate_bps)}, {found.above} above it."
            )
        if network is None and networks_with_scales(study):
            continue  # where only the rate differs the answer is cleaner
        for name, rate in half_gain(study, network).items():
            if np.isfinite(rate):
                lines.append(
                    f"On {where}, {name} keeps half of its gain over static{beside} down to "
                    f"{bits_per_s(rate)}."
                )
            else:
                lines.append(
                    f"On {where}, {name} keeps more than half of its gain over static{beside} on "
                    "the slowest link."
                )
    return lines or [
        "No two methods cross on these links, and none that uses them gains over static."
    ]


def front_table(study: Study) -> str:
    """Writes the Pareto front, a line a condition."""
    lines = [f"| KB a device | {study.metric} | strategy | condition |", "|---|---|---|---|"]
    lines += [
        f"| {row['bytes'] / 1e3:,.1f} | {row['mean']:.4f} | {row['strategy']} | {where_of(row)} |"
        for row in pareto(study.table).to_dict("records")
    ]
    return (
        "\n".join(["The Pareto front: nothing else is as good for as few bytes.\n", *lines]) + "\n"
    )


def byte_lines(study: Study) -> list[str]:
    """Says how many bytes each protocol saves, and how the metric changes."""
    lines = []
    lighter = study.table[
        (study.table["protocol"] != NO_PROTOCOL) & (study.table["policy"] == ALWAYS)
    ]
    for row in lighter.to_dict("records"):
        same = plain(study.table)
        same = same[
            (same["strategy"] == row["strategy"])
            & (same["network"] == row["network"])
            & (same["rate_scale"] == row["rate_scale"])
        ]
        if len(same) and same["bytes"].iloc[0]:
            before = same.iloc[0]
            share = row["bytes"] / before["bytes"]
            change = row["mean"] - before["mean"]
            lines.append(
                f"With {row['protocol']}, {row['strategy']} on "
                f"{link_name(row['network'], row['rate_scale'])} takes {share:.0%} of the bytes; "
                f"{study.metric} changes by {change:+.4f}."
            )
    return lines


def policy_lines(study: Study) -> list[str]:
    """Writes the values at each budget, in the order of the requests sent."""
    rows = study.table[(study.table["policy"] != ALWAYS) & (study.table["loss"] == "")]
    if rows.empty:
        return ["Every device reported in every segment."]
    lines = [
        f"In a line: {study.metric}, and in brackets the share of the reports that were sent.\n"
    ]
    rows = rows.assign(family=rows["policy"].map(family))
    for (kind, strategy), own in rows.groupby(["family", "strategy"], observed=True, sort=False):
        whole = whole_of(study, own)
        always = f"; always {whole['mean']:.4f}" if whole is not None else ""
        values = "; ".join(
            f"{row['mean']:.4f} ({row['requests']:.1%})"
            for row in own.sort_values("requests").to_dict("records")
        )
        lines.append(f"- {strategy}, {kind}: {values}{always}.")
    return lines


def family(policy: str) -> str:
    """Names a policy without its threshold."""
    return policy.partition(" ")[0]


def whole_of(study: Study, rows: pd.DataFrame) -> pd.Series | None:
    """Finds the same strategy on the same link with every report; None if that was not played."""
    first = rows.iloc[0]
    same = plain(study.table)
    same = same[
        (same["strategy"] == first["strategy"])
        & (same["network"] == first["network"])
        & (same["rate_scale"] == first["rate_scale"])
    ]
    return same.iloc[0] if len(same) else None


def rough_lines(study: Study) -> list[str]:
    """Says what losses, outages and deadlines change, where the same was played without them."""
    rows = study.table[
        (study.table["loss"] != "") & ~study.table["strategy"].isin(sends_nothing(study.table))
    ]
    rows = rows[(rows["protocol"] == NO_PROTOCOL) & (rows["policy"] == ALWAYS)]
    lines = []
    by = ["network", "rate_scale", "loss"]
    for (network, scale, loss), own in rows.groupby(by, observed=True, sort=False):
        changes = []
        for name, one in own.groupby("strategy", observed=True, sort=False):
            whole = whole_of(study, one)
            if whole is not None:
                changes.append(f"{name} {float(one['mean'].iloc[0] - whole['mean']):+.4f}")
        lines.append(
            f"On {link_name(network, scale)} with {loss}, {study.metric} changes: "
            f"{', '.join(changes)}."
        )
    return lines


def loss_lines(study: Study) -> list[str]:
    """Says up to which link half of a strategy's parameters are late, and how many are dropped."""
    rows = study.over_links[~study.over_links["strategy"].isin(sends_nothing(study.table))]
    lines = []
    for name, own in rows.groupby("strategy", observed=True, sort=False):
        late = own[own["late"] >= HALF]
        most = float(own["dropped"].max())
        dropped = (
            f"at most {most:.0%} of its messages are dropped"
            if most
            else "none of its messages is dropped"
        )
        if late.empty:
            lines.append(f"- On every link most parameters of {name} come in time; {dropped}.")
            continue
        last = late.iloc[-1].to_dict()
        rate = (
            f"an uplink of {bits_per_s(last['rate_up_bps'])}"
            if np.isfinite(last["rate_up_bps"])
            else "any rate"
        )
        lines.append(
            f"- Half of the parameters of {name} or more are late up to {rate} ({where_of(last)}); "
            f"{dropped}."
        )
    return lines


def link_name(network: object, scale: object) -> str:
    """Names a network, and the scale of its rates if that is not 1."""
    return str(network) if scale == 1 else f"{network} × {scale:g}"


def where_of(row: Row) -> str:
    """Names a condition, without its neutral values."""
    parts = [link_name(row["network"], row["rate_scale"]), str(row["loss"])]
    parts += [str(row["protocol"]) if row["protocol"] != NO_PROTOCOL else ""]
    if row["policy"] != ALWAYS:
        budget = float(str(row["budget"]))
        parts += [str(row["policy"]) + (f" {100 * budget:.3g}%" if np.isfinite(budget) else "")]
    return ", ".join(part for part in parts if part)
