"""Measures what a report that is longer than the window of the device's model tells the cloud.

    python -m benchmarks.reports                # regimes, 250 devices, DUET
    python -m benchmarks.reports 500 persona data.period=4

The number is of the devices, a name is the method, and all else are overrides of the configuration.
NDCG@10 over 8 segments, GRU4Rec that reads two items, one thread, seed 0: ``static``, and the
method with reports of two and of twenty items, read one by one and in pairs. Beside each stand its
bytes and its controls: the same layers for all devices (``@mean``) and those of another device
(``@other``). What is left of a gain above both is adaptation.
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

SETTINGS = ("data=regimes", "model.history_length=2", "references=[oracle]")
ARMS = [(length, reads) for length in (2, 20) for reads in ("items", "pairs")]


class Rows(list[pd.DataFrame]):
    """Keeps the rows of a run."""


def measured(method: str, num_devices: int, overrides: Sequence[str]) -> pd.DataFrame:
    """Plays static and every arm, and gives NDCG@10 and bytes of each."""
    names = [f"{method}_{length}_{reads}" for length, reads in ARMS]
    given = [*SETTINGS, f"fleet.num_devices={num_devices}", *overrides]
    given.append(f"strategies=[static,{','.join(names)}]")
    for name, (length, reads) in zip(names, ARMS, strict=True):
        own = f"{{method: {method}, report_length: {length}, report_reads: {reads}}}"
        given.append(f"+strategy.{name}={own}")
    with initialize_config_module("cdc_flower.configs", version_base="1.3"):
        config = resolved(compose("config", overrides=given), given)
    rows = Rows()
    play_all(config, prepare(config), None, rows)
    table = pd.concat(rows, ignore_index=True)
    table = table[table["metric"] == "ndcg@10"]
    sums = table.groupby("strategy", observed=True, sort=False)[
        ["value_sum", "value_count", "payload_bytes_up"]
    ].sum()
    reports = table.groupby("strategy", observed=True, sort=False)["payload_bytes_up"].max()
    return pd.DataFrame({"ndcg": sums["value_sum"] / sums["value_count"], "bytes": reports})


def main() -> None:
    """Measures and prints."""
    given = sys.argv[1:]
    counts = [int(each) for each in given if each.isdecimal()] or [250]
    overrides = [each for each in given if "=" in each]
    methods = [each for each in given if each.isidentifier()] or ["duet"]
    numbers: dict[str, float] = {}
    for method in methods:
        for count in counts:
            start_s = time.process_time()
            values = measured(method, count, overrides)
            spent_s = time.process_time() - start_s
            print(f"\n{method}, {count:,} devices, {' '.join(overrides)} ({spent_s:.0f} CPU s)")
            for name, row in values.iterrows():
                gain = row["ndcg"] - values["ndcg"]["static"]
                print(f"  {name:24}{row['ndcg']:.4f} {gain:+.4f}   {row['bytes']:4.0f} B up")
                numbers[f"{name} - static"] = float(gain)
            assert np.isfinite(values["ndcg"]).all()
    close("reports", numbers, {})


if __name__ == "__main__":
    main()
