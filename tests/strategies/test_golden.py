"""One committed table a strategy: 4 devices, 6 segments, seed 0, 4G. ``GOLDEN=1`` writes the tables anew."""

import os
from pathlib import Path

import pandas as pd
import pytest
from tiny import SETTINGS, fleet, table
from video_tiny import video_table

from cdc_flower.strategies import STRATEGIES

FOLDER = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_numbers_are_those_of_the_golden_table(name: str) -> None:
    links = fleet(
        up_bps=31.2e6, down_bps=117.2e6, rtt_s=0.089, device_flops_per_s=1e9, cloud_flops_per_s=1e11
    )
    played = table(name, links=links) if name in SETTINGS else video_table(name, links=links)
    rows = played.drop(columns=["run_id", "experiment", "strategy", "seed", "task"])
    rows["metric"] = rows["metric"].astype(str)
    path = FOLDER / f"{name}.csv"
    if os.environ.get("GOLDEN"):
        rows.to_csv(path, index=False, float_format="%.7g", lineterminator="\n")
    golden = pd.read_csv(path)
    pd.testing.assert_frame_equal(
        rows[list(golden.columns)], golden, check_dtype=False, rtol=1e-5, atol=1e-6
    )
