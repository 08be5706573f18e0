"""Writes the summary as tables in LaTeX, with the rules of booktabs."""

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from cdc_flower.report.drawing.style import main_metrics

_ESCAPED = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_ABSENT = "--"


def latex_tables(summary: pd.DataFrame) -> str:
    r"""Makes a ``tabular`` for each run label and task, in need of ``\usepackage{booktabs}``.

    A row is a strategy: the main metrics with half their 95 % intervals and the difference from
    the baseline, then bytes of a device, latency and clicks.
    """
    groups = summary.groupby(["run", "task"], sort=False, observed=True)
    return "\n".join(
        f"% {' '.join(str(part) for part in names if part)}\n{_tabular(rows)}"
        for names, rows in groups
    )


def _tabular(rows: pd.DataFrame) -> str:
    metrics = main_metrics([str(name) for name in rows["metric"].unique()])
    baseline = str(rows["baseline"].iloc[0])
    heads = ["strategy"]
    for metric in metrics:
        heads += [metric, f"vs {baseline}"]
    heads += ["kB up", "kB down", "latency (s)", "clicks told", "clicks trained on"]
    body = [
        _row(str(name), mine, metrics)
        for name, mine in rows.groupby("strategy", sort=False, observed=True)
    ]
    lines = [
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"\toprule",
        _line(escaped(head) for head in heads),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, rows: pd.DataFrame, metrics: Iterable[str]) -> str:
    by_metric = {str(row["metric"]): row for _, row in rows.iterrows()}
    first = rows.iloc[0]
    cells = [escaped(name)]
    for metric in metrics:
        row = by_metric.get(metric)
        if row is None:
            cells += [_ABSENT, _ABSENT]
            continue
        cells.append(_value(row["mean"], row["high"] - row["low"], ".4f"))
        is_base = name == row["baseline"]
        gain = _value(row["diff"], row["diff_high"] - row["diff_low"], "+.4f")
        cells.append(_ABSENT if is_base else gain)
    cells += [_number(first[f"bytes_{way}_per_device"] / 1000, ",.1f") for way in ("up", "down")]
    cells.append(_number(first["latency_s_median"], ".3g"))
    cells += [_number(first[name], ",.0f") for name in ("num_told", "num_labels")]
    return _line(cells)


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else _ABSENT


def _value(value: float, width: float, form: str) -> str:
    if not np.isfinite(value):
        return _ABSENT
    half = rf" \pm {width / 2:.4f}" if np.isfinite(width) else ""
    return f"${value:{form}}{half}$"


def escaped(text: str) -> str:
    """Escapes the characters that mean something to LaTeX."""
    return re.sub(r"[\\~^&%$#_{}]", lambda found: _ESCAPED.get(found[0], "\\" + found[0]), text)
