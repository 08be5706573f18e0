"""Makes one table of a study of thin links.

It has a row for each strategy, kind of link, protocol and policy, seeds pooled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from cdc_flower.core.errors import UserError
from cdc_flower.report.folders import Config, RunFolder, list_at, part_of, read_folder
from cdc_flower.tables.controls import is_control
from cdc_flower.tables.holm import holm
from cdc_flower.tables.results import Results, joined
from cdc_flower.tables.summary import BASELINE, device_sums, estimate, paired_difference

LINKS_FILE = "links.yaml"
#: The columns of a condition; runs that are alike in all of them are pooled over seeds.
CONDITION = ("task", "data", "network", "rate_scale", "loss", "protocol", "policy", "budget")
#: Neutral values: strategies are compared over links where a row has both.
NO_PROTOCOL = "as it is"
ALWAYS = "always"
ON_DRIFT = "on_drift"
#: A difference that the four digits of the summary do not show is none.
SMALLEST = 5e-5
#: Quantiles of the latency in the table.
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Study:
    """A study of thin links.

    Attributes:
        metric: The name of the metric that is compared.
        table: One row a condition and strategy; see :func:`stress_table`.
        cells: One row a run, strategy, device and segment, with the columns of ``CONDITION``.
        has_controls: Whether controls were played beside the strategies.
        notes: Strategy -> sentences on its trainings, without a full stop.
    """

    metric: str
    table: pd.DataFrame
    cells: pd.DataFrame
    has_controls: bool = False
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def over_links(self) -> pd.DataFrame:
        """The rows without a protocol, a policy or losses, by ascending rates."""
        return plain(self.table).sort_values("rate_up_bps", kind="stable")


def read_study(folders: Sequence[str | Path], metric: str) -> Study:
    """Reads the run folders of a study.

    Raises:
        UserError: If a folder is no run folder, or the metric is in none.
    """
    parts, has_controls = [], False
    notes: dict[str, list[str]] = {}
    for path in dict.fromkeys(Path(folder) for folder in folders):
        run = read_folder(path)
        condition = condition_of(run, path)
        has_controls |= any(
            is_control(str(name)) for name in run.results.cells["strategy"].unique()
        )
        for name, said in part_of(run.notes, str(run.config.get("task", ""))).items():
            texts = [str(words) for words in said] if isinstance(said, list) else []
            notes[name] = list(dict.fromkeys([*notes.get(name, []), *texts]))
        parts.append(
            run.results.without_controls().assign(
                **condition, run=" · ".join(str(value) for value in condition.values())
            )
        )
    if not parts:
        raise UserError("no run folder was given; name those of the study")
    results = joined(parts)
    if metric not in results.metrics:
        raise UserError(
            f"metric must be one of {', '.join(sorted(results.metrics))}, got {metric!r}"
        )
    return Study(metric, stress_table(results, metric), results.cells, has_controls, notes)


def condition_of(run: RunFolder, path: Path) -> dict[str, str | float]:
    """Reads the columns of a run's condition, and its rate, from its configuration and links."""
    links = path / LINKS_FILE
    facts = yaml.safe_load(links.read_text(encoding="utf-8")) if links.is_file() else {}
    rules = part_of(run.config, "conditions")
    policy = part_of(run.config, "policy")
    codecs = [str(name) for name in list_at(part_of(run.config, "protocol"), "codecs")]
    return {
        "data": str(part_of(run.config, "data").get("name", "")),
        "network": str(part_of(run.config, "network").get("name", "")),
        "rate_scale": _number(rules, "rate_scale", 1.0),
        "loss": rough(rules),
        "protocol": "+".join(codecs) or NO_PROTOCOL,
        "policy": policy_name(policy),
        "budget": _number(policy, "rate", 1.0 / _number(policy, "n", np.nan)),
        "rate_up_bps": _number(facts, "median_rate_up_bps", np.nan),
    }


def _number(config: Config, key: str, default: float) -> float:
    """Reads the number at a key of a configuration."""
    return float(str(config.get(key, default)))


def policy_name(policy: Config) -> str:
    """Names a policy; a detector of drift has no rate but a threshold: ``on_drift 3``."""
    name = str(policy.get("name", ALWAYS))
    if name != ON_DRIFT:
        return name
    return (
        f"{name} adwin {policy['delta']:g}"
        if policy["detector"] == "adwin"
        else f"{name} {policy['threshold']:g}"
    )


def rough(rules: Config) -> str:
    """Lists conditions that are not neutral as ``key=value``, without the scale of the rates."""
    neutral = {"loss": 0.0}
    kept = {k: v for k, v in rules.items() if k not in ("rate_scale", "packet_bytes", "outage_s")}
    return ", ".join(
        f"{key}={value}" for key, value in kept.items() if value not in (None, neutral.get(key))
    )


def stress_table(results: Results, metric: str) -> pd.DataFrame:
    """Makes one row a condition and strategy.

    Columns beside the condition: ``rate_up_bps``, ``mean``, ``low``, ``high`` of the metric;
    ``gain``, ``gain_low``, ``gain_high`` against static on the same devices and seeds, wherever it
    was played, and its p-value ``gain_p_holm``, corrected for the strategies of a condition;
    ``bytes``, up and down per device over the run; ``requests``, reports per device and segment;
    ``staleness_s``, mean; ``latency_s_10``, ``_50``, ``_90``; ``dropped`` and ``late``, messages
    per device and segment; ``num_seeds``.
    """
    by = [*CONDITION, "strategy"]
    rows = results.rows(metric, [*by, "seed", "device_id"])
    # NaN would be no group: policies without a budget have -1 until the end.
    sums = device_sums(rows.assign(budget=rows["budget"].fillna(-1.0)), by)
    table = estimate(sums, by)
    table = table.merge(_gains(sums), on=by, how="left")
    facts = [
        *by,
        "segment",
        "rate_up_bps",
        "num_reports",
        "staleness_s",
        "num_dropped",
        "num_late",
        "latency_s",
    ]
    sent = results.cells["bytes_up"].astype(np.int64) + results.cells["bytes_down"]
    cells = results.cells[facts].assign(bytes=sent, budget=results.cells["budget"].fillna(-1.0))
    groups = cells.groupby(by, observed=True, sort=False)
    num_segments = groups["segment"].nunique()
    costs = pd.DataFrame(
        {
            "rate_up_bps": groups["rate_up_bps"].median(),
            "bytes": groups["bytes"].mean() * num_segments,
            "requests": groups["num_reports"].mean(),
            "staleness_s": groups["staleness_s"].mean(),
            "dropped": groups["num_dropped"].mean(),
            "late": groups["num_late"].mean(),
            **{f"latency_s_{int(100 * q)}": groups["latency_s"].quantile(q) for q in QUANTILES},
        }
    )
    table = table.merge(costs.reset_index(), on=by, how="left")
    table["budget"] = table["budget"].where(table["budget"] >= 0)
    texts = [name for name in by if isinstance(table[name].dtype, pd.CategoricalDtype)]
    return table.astype(dict.fromkeys(texts, str))


def _gains(sums: pd.DataFrame) -> pd.DataFrame:
    """Makes the gains over static of each condition and strategy; no rows where it is absent.

    Static sends nothing, so it is the same under every condition and needs one run of them.
    """
    shared = ["task", "data", "seed", "device_id"]
    still = sums[sums["strategy"] == BASELINE].drop_duplicates(shared)
    conditions = sums[[*CONDITION, "seed", "device_id"]].drop_duplicates()
    base = conditions.merge(still[[*shared, "value_sum", "value_count"]], on=shared).assign(
        strategy=BASELINE
    )
    both = pd.concat([sums[sums["strategy"] != BASELINE], base], ignore_index=True)
    gain = paired_difference(both, list(CONDITION)).drop(columns="num_devices")
    families = gain[gain["strategy"] != BASELINE].groupby(list(CONDITION), observed=True)
    gain["gain_p_holm"] = families["p"].transform(holm)
    names = {"diff": "gain", "low": "gain_low", "high": "gain_high"}
    return gain.drop(columns="p").rename(columns=names)


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """Selects the rows without a protocol, a policy, or losses."""
    return table[
        (table["protocol"] == NO_PROTOCOL) & (table["policy"] == ALWAYS) & (table["loss"] == "")
    ]


def sends_nothing(table: pd.DataFrame) -> set[str]:
    """Names the strategies that send nothing, for which links do not matter."""
    most = table.groupby("strategy", observed=True)["bytes"].max()
    return set(most[most == 0].index)


def pareto(table: pd.DataFrame) -> pd.DataFrame:
    """Selects the rows that no other beats, by ascending bytes: none as light is better."""
    ordered = table.sort_values(["bytes", "mean"], ascending=[True, False], kind="stable")
    better = ordered["mean"] > ordered["mean"].cummax().shift(fill_value=-np.inf)
    return ordered[better]


@dataclass(frozen=True)
class Crossing:
    """A rate at which two strategies change places.

    Attributes:
        below: The better strategy on slower uplinks.
        above: The better strategy on faster uplinks.
        rate_bps: The median uplink at which they are equal.
    """

    below: str
    above: str
    rate_bps: float


def crossings(study: Study, network: str | None = None) -> list[Crossing]:
    """Finds where two strategies cross as the median uplink gets faster.

    A crossing is interpolated on the logarithm of the rate. It lies between two rates at which they
    differ by more than half the wider interval of their gains, and by ``SMALLEST``: once in favor
    of the one and once of the other.

    Args:
        study: Its rows over links; a strategy that sends nothing has one value everywhere.
        network: Only links of that name, of several scales; None: all links.
    """
    curves, halves = rate_curves(study, network)
    names = sorted(curves)
    found: list[Crossing] = []
    for k, one in enumerate(names):
        for other in names[k + 1 :]:
            rates = np.intersect1d(curves[one].index, curves[other].index)
            diff = curves[one].loc[rates].to_numpy() - curves[other].loc[rates].to_numpy()
            half = np.maximum(
                halves[one].loc[rates].to_numpy(), halves[other].loc[rates].to_numpy()
            )
            # Where the difference is within its interval, neither is better.
            known = np.flatnonzero(np.abs(diff) > np.maximum(SMALLEST, half))
            for left, right in pairwise(known.tolist()):
                if (diff[left] > 0) == (diff[right] > 0):
                    continue
                share = diff[left] / (diff[left] - diff[right])
                log_rate = np.log(rates[left]) + share * (
                    np.log(rates[right]) - np.log(rates[left])
                )
                below, above = (one, other) if diff[left] > 0 else (other, one)
                found.append(Crossing(below, above, float(np.exp(log_rate))))
    return found


def half_gain(study: Study, network: str | None = None) -> dict[str, float]:
    """Finds the uplink at which half of a strategy's gain over static is left.

    Only strategies that gain and that links slow down are among them. The gain is that on the
    fastest link, where its interval must be above 0. NaN where more than half is left on the
    slowest link.
    """
    rows = study.over_links
    rows = rows[
        np.isfinite(rows["rate_up_bps"]) & (rows["network"] == network if network else True)
    ]
    found = {}
    for name, own in rows.groupby("strategy", observed=True):
        least = own["gain_low"].iloc[-1]
        own = own.groupby("rate_up_bps")["gain"].mean()
        if (
            name in sends_nothing(study.table)
            or len(own) < 2
            or not (least > 0 and own.iloc[-1] > SMALLEST)
        ):
            continue
        lost = np.flatnonzero(own.to_numpy() < own.iloc[-1] / 2)
        if not len(lost):
            found[str(name)] = np.nan
            continue
        k = int(lost[-1])
        half = own.iloc[-1] / 2
        share = (half - own.iloc[k]) / (own.iloc[k + 1] - own.iloc[k])
        low = np.log(own.index[k])
        high = np.log(own.index[k + 1])
        found[str(name)] = float(np.exp(low + share * (high - low)))
    return found


def rate_curves(
    study: Study, network: str | None = None
) -> tuple[dict[str, pd.Series], dict[str, pd.Series]]:
    """Reads curves over the median uplink rate off the table.

    Returns:
        Strategy -> its value by rate, and strategy -> half the interval of its gain (0 without
        one).

    Only finite rates, those of the study; a strategy that sends nothing has one value everywhere.
    """
    rows = study.over_links.assign(
        half=lambda own: ((own["gain_high"] - own["gain_low"]) / 2).fillna(0.0)
    )
    finite = rows[
        np.isfinite(rows["rate_up_bps"]) & (rows["network"] == network if network else True)
    ]
    means: dict[str, pd.Series] = {}
    halves: dict[str, pd.Series] = {}
    for name, own in finite.groupby("strategy", observed=True):
        by_rate = own.groupby("rate_up_bps")
        means[str(name)] = by_rate["mean"].mean()
        halves[str(name)] = by_rate["half"].mean()
    rates = sorted({*chain.from_iterable(curve.index for curve in means.values())})
    for name in sends_nothing(study.table):
        own = rows[rows["strategy"] == name]
        if len(own) and rates:
            means[name] = pd.Series(float(own["mean"].iloc[0]), index=rates)
            halves[name] = pd.Series(float(own["half"].iloc[0]), index=rates)
    return means, halves


def networks_with_scales(study: Study) -> list[str]:
    """Names networks that were played at several scales, so that only the rate differs."""
    counts = study.over_links.groupby("network", observed=True, sort=False)["rate_scale"].nunique()
    return [str(name) for name in counts[counts > 1].index]
