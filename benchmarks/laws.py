"""Measures what can be known of the laws of embedded data, and what a device model says of it.

    python -m benchmarks.laws                   # regimes and cohorts, 250 devices
    python -m benchmarks.laws 60 250 1000 regimes seed=1,2,3
    python -m benchmarks.laws 1000 regimes data.period=4

Numbers are of devices, names are of data, ``seed=1,2,3`` plays each seed, and all else are
overrides of the configuration. NDCG@10 over 8 segments, GRU4Rec that reads two items, one thread:
counting,
the trained base model (``static``), the best prediction from its window, its adaptive layers fitted
to each true context (``ceiling``), and the chance that the law gives to each item (``oracle``).
Beside each the share of the head-room, (value - static) / (oracle - static).
"""

import os
import sys
import time
from collections.abc import Sequence

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_module

from benchmarks.support.measure import close
from cdc_flower.study.run import play_all
from cdc_flower.study.setup import prepare, resolved

#: A window of one pair: more would tell the regime itself.
SETTINGS = (
    *("model.history_length=2", "strategies=[static]", "controls=false"),
    "references=[popularity,markov,window,ceiling,oracle]",
)
DATA = ("regimes", "cohorts")
#: The least head-room, the least of it that the adaptive layers can say, and the least share of the
#: way from popularity to the best prediction from the window that the base model goes.
BARS = {"regimes head-room": 0.10, "regimes ceiling": 0.6, "regimes base": 0.9}


class Rows(list[pd.DataFrame]):
    """Keeps the rows of a run."""


def measured(name: str, num_devices: int, overrides: Sequence[str]) -> pd.DataFrame:
    """Plays one law, and gives NDCG@10 of each line and segment.

    Args:
        name: Of the data.
        num_devices: At least 1.
        overrides: Of the configuration.
    """
    given = [f"data={name}", f"fleet.num_devices={num_devices}", *SETTINGS, *overrides]
    with initialize_config_module("cdc_flower.configs", version_base="1.3"):
        config = resolved(compose("config", overrides=given), given)
    rows = Rows()
    play_all(config, prepare(config), None, rows)
    table = pd.concat(rows, ignore_index=True)
    table = table[table["metric"] == "ndcg@10"]
    key = ["strategy", "segment"]
    sums = table.groupby(key, observed=True, sort=False)[["value_sum", "value_count"]].sum()
    return (sums["value_sum"] / sums["value_count"]).unstack()


def told(name: str, count: int, seed: int, overrides: Sequence[str]) -> dict[str, float]:
    """Plays one law with one seed, prints every line, and gives the three shares.

    Args:
        name: Of the data.
        count: Of the devices.
        seed: Of the run.
        overrides: Of the configuration.
    """
    start_s = time.process_time()
    values = measured(name, count, [*overrides, f"seed={seed}"])
    spent_s = time.process_time() - start_s
    assert np.isfinite(values.to_numpy()).all()
    print(f"\n{name}, {count:,} devices, seed {seed} {' '.join(overrides)} ({spent_s:.0f} CPU s)")
    mean = values.mean(axis=1)
    room = mean["oracle"] - mean["static"]
    for line, each in values.iterrows():
        share = (mean[line] - mean["static"]) / room
        segments = " ".join(f"{value:.3f}" for value in each)
        print(f"  {line:12}{mean[line]:.4f} {share:+7.2f}   {segments}", flush=True)
    base = (mean["static"] - mean["popularity"]) / (mean["window"] - mean["popularity"])
    print(f"  the base is {base:.2f} of the way from popularity to window", flush=True)
    ceiling = (mean["ceiling"] - mean["static"]) / room
    return {"head-room": float(room), "ceiling": float(ceiling), "base": float(base)}


def main() -> None:
    """Measures, prints, and closes with the least of each share."""
    given = sys.argv[1:]
    counts = [int(each) for each in given if each.isdecimal()] or [250]
    names = [each for each in given if each in DATA] or list(DATA)
    seeds = [each for each in given if each.startswith("seed=")] or ["seed=0"]
    overrides = [each for each in given if "=" in each and each not in seeds]
    numbers: dict[str, float] = {}
    for name in names:
        for count in counts:
            found = pd.DataFrame(
                told(name, count, int(seed), overrides)
                for seed in seeds[-1].removeprefix("seed=").split(",")
            )
            words = "; ".join(
                f"{what} {column.mean():.2f}, from {column.min():.2f} to {column.max():.2f}"
                for what, column in found.items()
            )
            print(f"\n{name}, {count:,} devices: {words}", flush=True)
            for what, column in found.items():
                key = f"{name} {what}"
                numbers[key] = min(float(column.min()), numbers.get(key, np.inf))
    bars = {name: bar for name, bar in BARS.items() if name in numbers}
    close("laws", numbers, bars)


if __name__ == "__main__":
    main()
