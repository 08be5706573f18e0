"""Says in words and in a table which part of a gain is adaptation."""

import pandas as pd
from markupsafe import Markup

from cdc_flower.report.comparison.tables import table_of_cells, value_cell
from cdc_flower.report.drawing.page_style import filled, template
from cdc_flower.report.drawing.style import LOWER_IS_BETTER, main_metrics
from cdc_flower.tables.adaptation import TRAINING, UNDECIDED, least_above, verdict
from cdc_flower.tables.controls import CONTROLS, MEAN, OTHER

#: Of what each control gives to every device.
GIVES = {MEAN: "the mean of all layers", OTHER: "the layers of another device"}
_FOLDED = template(
    """<details><summary>Controls: which part of a gain is adaptation</summary>{{ table }}"""
    """<p class='note'>Controls are the same devices with other layers, at the same moments: the """
    """mean of all that came in a segment, or those of another device. A gain is adaptation if """
    """the intervals of both differences are above zero; one that a control has too is further """
    """training.</p></details>"""
)


def adaptation_words(rows: pd.DataFrame) -> str:
    """Says of each strategy that gains on the main metric whether that is adaptation.

    Empty where none gains, or none has controls.

    Args:
        rows: Of the summary, of one run label and task.
    """
    metrics = main_metrics([str(name) for name in rows["metric"].unique()], 1)
    mine = rows[rows["metric"].isin(metrics)]
    return " ".join(filter(None, (_sentence(row) for _, row in mine.iterrows())))


def _sentence(row: pd.Series) -> str:
    metric = str(row["metric"])
    downward = metric in LOWER_IS_BETTER
    found = verdict(row, downward=downward)
    if not found:
        return ""
    control = least_above(row, downward=downward)
    ends = row[f"minus_{control}_low"], row[f"minus_{control}_high"]
    start = f"The gain of {row['strategy']} in {metric} ({row['diff']:+.4f}) is {found}"
    difference = f"{row[f'minus_{control}']:+.4f} (95 % interval {ends[0]:+.4f} to {ends[1]:+.4f})"
    if found in (TRAINING, UNDECIDED):
        has = f"with {GIVES[control]} the same devices have {row[f'{control}_diff']:+.4f}"
        return f"{start}: {has}, and its own add {difference}."
    return f"{start}: against {GIVES[control]} it is {difference}."


def controls_table(rows: pd.DataFrame, colors: dict[str, str]) -> Markup:
    """Makes a folded row for each strategy with controls and main metric; "" where none has any.

    Args:
        rows: Of the summary, of one run label and task.
        colors: Of each strategy.
    """
    metrics = main_metrics([str(name) for name in rows["metric"].unique()])
    body = []
    for _, row in rows[rows["metric"].isin(metrics)].iterrows():
        downward = row["metric"] in LOWER_IS_BETTER
        if least_above(row, downward=downward):
            names = ["diff", *(f"{each}_diff" for each in CONTROLS)]
            names += [f"minus_{each}" for each in CONTROLS]
            cells = [value_cell(row, name) for name in names]
            body.append((str(row["strategy"]), [str(row["metric"]), *cells]))
            body[-1][1].append(verdict(row, downward=downward) or "no gain")
    if not body:
        return Markup("")
    gains = [f"{each} vs {rows['baseline'].iloc[0]}" for each in ("gain", *CONTROLS)]
    heads = ["strategy", "metric", *gains, *(f"minus {each}" for each in CONTROLS), "the gain is"]
    return filled(_FOLDED, table=table_of_cells(heads, body, colors))
