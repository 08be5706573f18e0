"""One committed table a strategy: 4 devices, 6 segments, seed 0, 4G. ``GOLDEN=1`` writes the tables
anew.

A row is a device in a segment, a column a fact or the sum or count of a metric; all columns that
results have are compared, in their order, both ways.
"""

import os
from pathlib import Path

import pandas as pd
import pytest
from tiny import SETTINGS, fleet, table
from video_tiny import video_table

from cdc_flower.strategies.registry import strategies
from cdc_flower.tables.columns import COLUMNS

FOLDER = Path(__file__).parents[1] / "golden"
#: Columns that are left out, and why.
LEFT_OUT = {
    "run_id": "a hash of a whole configuration, which these tables lack; test_run.py holds it",
    "experiment": "a label that the test itself gives",
    "strategy": "the name of the file",
    "seed": "a label that the test itself gives",
    "task": "a label that the test itself gives",
    "num_quarantined": "replies that are left out, of which there are none here",
    "num_replays": "faults of machines, of which there are none here; test_ray.py holds it",
}
KEY = ["segment", "device_id"]
VALUES = ["value_sum", "value_count"]
#: Between CPUs sums of products differ in order; metrics of models trained with them by 7e-7 of
#: their size so far.
METRICS = {"rtol": 1e-5, "atol": 1e-6}
#: Bytes, labels, work and virtual time do not rest on a CPU; the tables are written with seven
#: digits.
FACTS = {"rtol": 5e-7, "atol": 0.0}


def golden_of(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each device and segment; ``auc:sum`` and ``auc:count`` are a metric's values."""
    assert tuple(rows.columns) == COLUMNS.names
    metrics = list(rows["metric"].cat.categories)
    facts = rows.drop(columns=[*LEFT_OUT, "metric", *VALUES]).drop_duplicates()
    assert len(facts) * len(metrics) == len(rows), (
        "a fact must be the same on the rows of all metrics"
    )
    wide = rows.pivot(index=KEY, columns="metric", values=VALUES)[
        [(v, m) for m in metrics for v in VALUES]
    ]
    wide.columns = [f"{metric}:{value.removeprefix('value_')}" for value, metric in wide.columns]
    return facts.merge(wide.reset_index(), on=KEY, validate="one_to_one")


@pytest.mark.parametrize("name", strategies)
def test_the_numbers_are_those_of_the_golden_table(name: str) -> None:
    links = fleet(
        up_bps=31.2e6, down_bps=117.2e6, rtt_s=0.089, device_flops_per_s=1e9, cloud_flops_per_s=1e11
    )
    rows = golden_of(
        table(name, links=links) if name in SETTINGS else video_table(name, links=links)
    )
    path = FOLDER / f"{name}.csv"
    if os.environ.get("GOLDEN"):
        rows.to_csv(path, index=False, float_format="%.7g", lineterminator="\n")
    golden = pd.read_csv(path)
    assert rows.columns.tolist() == golden.columns.tolist()
    is_metric = rows.columns.str.contains(":")
    for columns, tolerance in ((~is_metric, FACTS), (is_metric, METRICS)):
        pd.testing.assert_frame_equal(
            rows.loc[:, columns], golden.loc[:, columns], check_dtype=False, **tolerance
        )


def test_there_is_a_golden_table_of_each_strategy_and_no_other() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(strategies)
