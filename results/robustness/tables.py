"""Lays the summaries of the study out: a row for each attack and share, a column for each rule.

    python results/robustness/tables.py results/runs/robustness

A cell is NDCG@10 of honest devices minus ``static``, over the segments after the move, and in
brackets its 95 % interval.
"""

import sys
from pathlib import Path

import pandas as pd

METRIC = "ndcg@10"
PARTS = ("averaging", "generation")
SUMMARY = "segments_3_8.csv"


def table(path: Path) -> str:
    """Writes one summary as a table in Markdown."""
    rows = pd.read_csv(path)
    rows = rows[(rows["metric"] == METRIC) & (rows["strategy"] != "static")]
    names = list(dict.fromkeys(rows["strategy"]))
    labels = sorted(dict.fromkeys(rows["run"]), key=lambda label: (label[:4] != "none", label))
    lines = [f"| {' | '.join(['attack', *names])} |", "|---" * (1 + len(names)) + "|"]
    for label in labels:
        own = rows[rows["run"] == label].set_index("strategy")
        cells = [cell(own.loc[name]) if name in own.index else "–" for name in names]
        lines.append(
            f"| {' | '.join([label.replace(' · – hostile', '').replace(' · –', ''), *cells])} |"
        )
    return "\n".join(lines) + "\n"


def cell(row: pd.Series) -> str:
    """Writes a difference with its interval, such as ``+.138 [.133, .144]``."""
    ends = ", ".join(short(row[name]) for name in ("diff_low", "diff_high"))
    sign = "+" if row["diff"] >= 0 else ""
    return f"{sign}{short(row['diff'])} [{ends}]"


def short(value: float) -> str:
    """Writes a number below one without its zero."""
    return f"{value:.3f}".replace("0.", ".", 1)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for part in PARTS:
        text = table(folder / part / SUMMARY)
        (folder / f"{part}.md").write_text(text, encoding="utf-8")
        print(text)
