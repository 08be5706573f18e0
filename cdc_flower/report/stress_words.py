"""The written summary of a study of thin links, made from its table alone."""

import numpy as np
import pandas as pd

from cdc_flower.report.stress_table import (
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


def bits_per_s(rate_bps: float) -> str:
    """A rate in words."""
    for unit, size in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if rate_bps >= size:
            return f"{rate_bps / size:.3g} {unit}"
    return f"{rate_bps:.3g} bit/s"


def kilobytes(num_bytes: float) -> str:
    """Bytes in words."""
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:,.1f} KB"


def summary_of(study: Study, command: str = "") -> str:
    """One page of Markdown.

    Args:
        study: Of one task and one set of data.
        command: How to remake it; left out if empty.
    """
    table = study.table
    seeds, devices = int(table["num_seeds"].max()), int(table["num_devices"].max())
    data = ", ".join(str(name) for name in table["data"].unique())
    conditions = len(table.drop_duplicates(["network", "rate_scale", "loss", "protocol", "policy", "budget"]))
    parts = [
        f"# Thin links: {data}\n",
        f"{devices:,} devices, {seeds} {'seed' if seeds == 1 else 'seeds'}, {conditions} conditions. The metric is "
        f"{study.metric}; gains are against static on the same devices, with 95 % intervals over devices. Rates are "
        "medians over devices of the median uplink over seconds.\n",
        "## Where methods degrade, and where they cross\n",
        links_table(study),
        *(f"- {line}" for line in rate_lines(study)),
        "\n## What it costs\n",
        *(f"- {line}" for line in byte_lines(study)),
        "\n## When to report\n",
        *(f"- {line}" for line in policy_lines(study)),
        "\n## What was late or lost\n",
        *(f"- {line}" for line in loss_lines(table)),
    ]
    if command:
        parts += ["\n## Remake it\n", f"```\n{command}\n```"]
    return "\n".join(part for part in parts if part) + "\n"


def links_table(study: Study) -> str:
    """A line a link and strategy, from the slowest."""
    rows = study.over_links
    rows = rows[~rows["strategy"].isin(sends_nothing(study.table))]
    head = f"| link | median uplink | strategy | {study.metric} | gain over static | staleness s | latency s | late |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for row in rows.to_dict("records"):
        scale = "" if row["rate_scale"] == 1 else f" × {row['rate_scale']:g}"
        gain = (
            ""
            if not np.isfinite(row["gain"])
            else f"{row['gain']:+.4f} [{row['gain_low']:+.4f}, {row['gain_high']:+.4f}]"
        )
        latency = "–" if not np.isfinite(row["latency_s_50"]) else f"{row['latency_s_50']:.2f}"
        rate = bits_per_s(row["rate_up_bps"]) if np.isfinite(row["rate_up_bps"]) else "no limit"
        lines.append(
            f"| {row['network']}{scale} | {rate} | {row['strategy']} | {row['mean']:.4f} | {gain} | "
            f"{row['staleness_s']:.1f} | {latency} | {row['late']:.0%} |"
        )
    return "\n".join(lines) + "\n"


def rate_lines(study: Study) -> list[str]:
    """Crossing points and half gains, over links of one recording at several scales, and over all links."""
    lines = []
    for network in [*networks_with_scales(study), None]:
        where = f"{network} at several scales" if network else "all links together"
        for found in crossings(study, network):
            lines.append(
                f"On {where}, {found.below} is better below an uplink of {bits_per_s(found.rate_bps)}, "
                f"{found.above} above it."
            )
        for name, rate in half_gain(study, network).items():
            if np.isfinite(rate):
                lines.append(f"On {where}, {name} keeps half of its gain over static down to {bits_per_s(rate)}.")
            else:
                lines.append(f"On {where}, {name} keeps more than half of its gain over static on the slowest link.")
    return lines or ["No two methods cross on these links, and none that uses them gains over static."]


def byte_lines(study: Study) -> list[str]:
    """The Pareto front, and what each protocol saves."""
    lines = []
    for row in pareto(study.table).to_dict("records"):
        lines.append(
            f"On the front: {row['strategy']} ({where_of(row)}), {kilobytes(row['bytes'])} a device, "
            f"{study.metric} {row['mean']:.4f}."
        )
    heavy = study.table[(study.table["protocol"] != NO_PROTOCOL) & (study.table["policy"] == ALWAYS)]
    for row in heavy.to_dict("records"):
        same = plain(study.table)
        same = same[
            (same["strategy"] == row["strategy"])
            & (same["network"] == row["network"])
            & (same["rate_scale"] == row["rate_scale"])
        ]
        if len(same) and same["bytes"].iloc[0]:
            before = same.iloc[0]
            share, change = row["bytes"] / before["bytes"], row["mean"] - before["mean"]
            lines.append(
                f"{row['protocol']}: {row['strategy']} on {row['network']} takes {share:.0%} of the bytes; "
                f"{study.metric} changes by {change:+.4f}."
            )
    return lines


def policy_lines(study: Study) -> list[str]:
    """Values at each budget, in the order of the budgets."""
    lines = []
    rows = study.table[(study.table["policy"] != ALWAYS) & (study.table["loss"] == "")]
    for (policy, strategy), own in rows.groupby(["policy", "strategy"], observed=True, sort=False):
        own = own.sort_values("requests")
        values = "; ".join(f"{r['requests']:.1%} of requests {r['mean']:.4f}" for r in own.to_dict("records"))
        lines.append(f"{strategy}, {policy}: {values}.")
    return lines or ["Every device reported in every segment."]


def loss_lines(table: pd.DataFrame) -> list[str]:
    """Messages that were late or dropped, per device and segment, where there were any."""
    rows = table[(table["late"] > 0) | (table["dropped"] > 0)].sort_values("late", ascending=False)
    lines = [
        f"{row['strategy']} ({where_of(row)}): {row['late']:.1%} late and {row['dropped']:.1%} dropped."
        for row in rows.head(12).to_dict("records")
    ]
    return lines or ["Nothing was late and nothing was dropped."]


def where_of(row: dict) -> str:
    """A condition in words, without what is neutral."""
    scale = "" if row["rate_scale"] == 1 else f" × {row['rate_scale']:g}"
    parts = [f"{row['network']}{scale}", row["loss"]]
    parts += [row["protocol"] if row["protocol"] != NO_PROTOCOL else ""]
    if row["policy"] != ALWAYS:
        parts += [row["policy"] + (f" {row['budget']:.0%}" if np.isfinite(row["budget"]) else "")]
    return ", ".join(part for part in parts if part)
