"""Summarizes each seed by itself, so that one sees how far trainings differ."""

import pandas as pd

from cdc_flower.tables.estimates import BASELINE
from cdc_flower.tables.results import Results
from cdc_flower.tables.summary import summarize


def per_seed(results: Results, baseline: str = BASELINE) -> pd.DataFrame:
    """Makes the rows of the summary for each seed, with a column ``seed`` in front.

    Intervals are over devices, given the models of that seed.

    Args:
        results: With the cells of controls.
        baseline: The strategy to compare with.
    """
    seeds = results.cells["seed"]
    parts = []
    for seed in sorted(seeds.unique()):
        rows = summarize(results.where((seeds == seed).to_numpy()), baseline)
        rows.insert(0, "seed", seed)
        parts.append(rows.drop(columns="num_seeds"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
