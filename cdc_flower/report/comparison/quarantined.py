"""Lists the replies of devices that were left out."""

from collections.abc import Sequence

import pandas as pd
from markupsafe import Markup

from cdc_flower.report.comparison.tables import table_of_cells
from cdc_flower.report.drawing.page_style import filled, template
from cdc_flower.report.folders import RunFolder, run_labels

_FOLDED = template(
    """<details><summary>Replies that were left out: {{ num_replies }}</summary>{{ table }}"""
    """<p class='note'>A reply that is not as it must be reaches no strategy; quarantine.csv of """
    """a run folder has a row for each device and segment. The link of its device has moved its """
    """bytes, and an evaluation that was left out counts no event.</p></details>"""
)
_HEADS = ("strategy", "reason", "replies", "devices", "segments")


def quarantined_table(
    runs: Sequence[RunFolder], rows: pd.DataFrame, colors: dict[str, str]
) -> Markup:
    """Makes a folded row for each strategy and reason; "" where nothing was left out.

    Args:
        runs: Those of the report.
        rows: Of the summary, of one run label and task.
        colors: Of each strategy.
    """
    first = rows.iloc[0]
    labels = run_labels(runs)
    same = [run for run, label in zip(runs, labels, strict=True) if label == first["run"]]
    parts = [run.quarantined.assign(run=run.name) for run in same]
    left = pd.concat(parts, ignore_index=True)
    left = left[(left["task"] == str(first["task"])) & left["strategy"].isin(rows["strategy"])]
    if left.empty:
        return Markup("")
    body = []
    for (name, reason), mine in left.groupby(["strategy", "reason"], sort=False):
        num_devices = mine[["run", "device_id"]].drop_duplicates().shape[0]
        segments = f"{mine['segment'].min()}–{mine['segment'].max()}"
        cells = [str(reason), f"{mine['count'].sum():,}", f"{num_devices:,}", segments]
        body.append((str(name), cells))
    table = table_of_cells(_HEADS, body, colors)
    return filled(_FOLDED, num_replies=f"{left['count'].sum():,}", table=table)
