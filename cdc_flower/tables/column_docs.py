"""Writes the tables of the columns into ``docs/results.md``.

    python -m cdc_flower.tables.column_docs docs/results.md

writes them anew between the marks in that file; its other text is written by hand.
"""

import sys
from pathlib import Path

from cdc_flower.core.errors import UserError
from cdc_flower.tables.column import Column, Pool, Scope, Subject
from cdc_flower.tables.columns import COLUMNS

BEGIN = "<!-- columns: begin -->"
END = "<!-- columns: end -->"
_HEADS = (
    "column",
    "type",
    "unit",
    "one value per",
    "in the file",
    "in Python",
    "neutral",
    "pool by",
    "in `summary.csv`",
    "meaning",
)


def columns_in_markdown() -> str:
    """Writes a table for each subject, a row for each column."""
    parts = []
    for subject in Subject:
        columns = [column for column in COLUMNS if column.subject is subject]
        if columns:
            parts.append("\n".join([f"### {subject}", "", *_table(columns)]))
    return "\n\n".join(parts)


def _table(columns: list[Column]) -> list[str]:
    rows = [_HEADS, ("---",) * len(_HEADS), *(_cells(column) for column in columns)]
    return ["| " + " | ".join(cells) + " |" for cells in rows]


def _cells(column: Column) -> tuple[str, ...]:
    return (
        f"`{column.name}`",
        column.type,
        column.unit or "–",
        column.scope,
        "once" if _is_of_metrics(column) else "on each metric's row",
        _place(column),
        "–" if column.neutral is None else str(column.neutral).replace("nan", "NaN"),
        "–" if column.pooled is Pool.NONE else column.pooled,
        f"`{column.summary_name}`" if column.in_summary else "–",
        column.doc,
    )


def _is_of_metrics(column: Column) -> bool:
    return column.scope is Scope.METRIC


def _place(column: Column) -> str:
    """Names the table of ``cdc_flower.Run`` that has the column as often as it is to be counted."""
    if column.is_key:
        return "both"
    return "`run.results`" if _is_of_metrics(column) else "`run.costs`"


def with_columns(page: str) -> str:
    """Puts the tables between the marks of a page.

    Raises:
        UserError: If it has no marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"a page of columns must have {BEGIN} and then {END}, got {page[:40]!r}")
    return f"{before}{BEGIN}\n\n{columns_in_markdown()}\n\n{END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_columns(path.read_text(encoding="utf-8")), encoding="utf-8")
