"""Writes the page and the summary of a study of thin links."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from cdc_flower.core.errors import UserError
from cdc_flower.report.drawing import style
from cdc_flower.report.drawing.page_style import figure, page
from cdc_flower.report.drawing.plain_markdown import to_html
from cdc_flower.report.study.figures import stress_drawings
from cdc_flower.report.study.narrative import summary_of
from cdc_flower.report.study.table import read_study
from cdc_flower.tables.summary import strategies_in_order, write_summary

PAGE = "stress.html"
WORDS = "stress.md"
TABLE = "stress.csv"


def write_stress(folders: Sequence[str | Path], out: str | Path, metric: str = "ndcg@10") -> Path:
    """Writes table, summary and page of the runs of a study of one task and one set of data.

    Args:
        folders: Run folders.
        out: The folder to write into.
        metric: What to compare.

    Returns:
        The page.

    Raises:
        UserError: If a folder is no run folder, the metric is in none, or the runs are of several
            tasks or data.
    """
    study = read_study(folders, metric)
    for name in ("task", "data"):
        kinds = sorted(study.table[name].astype(str).unique())
        if len(kinds) > 1:
            raise UserError(f"the runs of a study must be of one {name}, got {', '.join(kinds)}")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    colors = style.strategy_colors(strategies_in_order(study.table["strategy"]))
    words = summary_of(study)
    figures = [
        figure(
            drawing.name,
            number,
            drawing.title,
            Markup(style.svg(drawing.figure, f"f{number}")),
            drawing.caption,
        )
        for number, drawing in enumerate(stress_drawings(study, colors), 1)
    ]
    write_summary(study.table, out / TABLE)
    (out / WORDS).write_text(words, encoding="utf-8", newline="\n")
    text = Markup("<section>{}</section>").format(Markup(to_html(words)))
    html = page("Thin links", [text + Markup("").join(figures)], fits_screens=False)
    (out / PAGE).write_text(html, encoding="utf-8", newline="\n")
    return out / PAGE
