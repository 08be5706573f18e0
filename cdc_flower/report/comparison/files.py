"""Writes the tables that belong to a report: pooled, of each seed, and against other baselines."""

import re
from collections.abc import Sequence
from pathlib import Path

from cdc_flower.core.errors import UserError
from cdc_flower.core.files import write_whole
from cdc_flower.report.comparison.markdown import markdown_tables
from cdc_flower.report.folders import Comparison
from cdc_flower.tables.per_seed import per_seed
from cdc_flower.tables.summary import write_summary

SUMMARY = "summary.csv"
WORDS = "summary.md"
PER_SEED = "per_seed.csv"
AGAINST = "against_{}.csv"
SEGMENTS = "segments_{}_{}.csv"


def write_tables(
    comparison: Comparison,
    folder: Path,
    baselines: Sequence[str] = (),
    spans: Sequence[tuple[int, int]] = (),
) -> None:
    """Writes the tables of a comparison.

    Args:
        comparison: Of all runs.
        folder: Where they are written.
        baselines: Strategies that all are compared with, too; a file each.
        spans: Segments from the first number to before the second, which alone count; a file each.

    Raises:
        UserError: If no run has one of them.
    """
    others = {name: comparison.against(name) for name in baselines}
    parts = {span: comparison.within(*span) for span in spans}
    write_summary(comparison.summary, folder / SUMMARY)
    write_whole(folder / WORDS, markdown_tables(comparison).encode())
    write_summary(per_seed(comparison.played, comparison.baseline), folder / PER_SEED)
    for name, other in others.items():
        write_summary(other.summary, folder / AGAINST.format(name))
    for span, part in parts.items():
        write_summary(part.summary, folder / SEGMENTS.format(*span))


def span_of(text: str) -> tuple[int, int]:
    """Reads ``START:STOP``, as in a slice of Python.

    Raises:
        UserError: If it is something else.
    """
    if not re.fullmatch(r"\d{1,9}:\d{1,9}", text):
        raise UserError(f"--segments must be START:STOP, such as 2:8, got {text}")
    start, stop = map(int, text.split(":"))
    return start, stop
