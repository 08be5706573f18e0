"""Writes the page: one HTML file that needs nothing beside it."""

import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
import yaml
from markupsafe import Markup

from cdc_flower.core.errors import UserError
from cdc_flower.core.version import __version__
from cdc_flower.core.words import counted
from cdc_flower.report.comparison.adaptation import controls_table
from cdc_flower.report.comparison.bytes_figures import bytes_of_a_segment
from cdc_flower.report.comparison.figure_data import Panel, panels_of
from cdc_flower.report.comparison.figures import Drawing, all_drawings
from cdc_flower.report.comparison.footnotes import footnotes, numbers, sentences
from cdc_flower.report.comparison.narrative import line_names, reading
from cdc_flower.report.comparison.page_parts import (
    EMPTY,
    HEADER,
    HOW_TO_READ,
    PANEL,
    PAPERS,
    PROVENANCE,
)
from cdc_flower.report.comparison.papers import papers_for
from cdc_flower.report.comparison.provenance import provenance_line, provenance_rows
from cdc_flower.report.comparison.quarantined import quarantined_table
from cdc_flower.report.comparison.tables import cost_table, metric_table, summary_table
from cdc_flower.report.drawing import style
from cdc_flower.report.drawing.page_style import figure, filled, page
from cdc_flower.report.folders import (
    Comparison,
    RunFolder,
    arm_settings,
    part_of,
    read_folder,
    run_labels,
    silent_differences,
)
from cdc_flower.tables.summary import BASELINE
from cdc_flower.tables.trainings import interval_words

PACKAGES = ("torch", "flwr", "ray", "numpy")
_LOG_LINES = 200
NO_EXPERIMENT = "none"


def report_from_folders(
    folders: Sequence[str | Path],
    out: str | Path | None = None,
    baseline: str = BASELINE,
    primary: str = "",
) -> tuple[Path, Comparison]:
    """Writes the report of one run folder, or of several side by side.

    Args:
        folders: Run folders; one that is named twice counts once.
        out: The file to write. By default ``report.html`` in the folder, or beside the first of
            several folders.
        baseline: The strategy that others are compared with.
        primary: The strategy whose gain was named beforehand; see :mod:`cdc_flower.tables.holm`.

    Returns:
        The file that was written, and what it shows.

    Raises:
        UserError: If no folder is given, one is missing or lacks results, no run has the baseline
            or the primary strategy, or the file cannot be written.
    """
    unique = list(dict.fromkeys(Path(folder).resolve() for folder in folders))
    if not unique:
        raise UserError("no run folder was given; name at least one, such as results/runs/latest")
    comparison = Comparison.of([read_folder(folder) for folder in unique], baseline, primary)
    path = (
        Path(out)
        if out is not None
        else (unique[0] if len(unique) == 1 else unique[0].parent) / "report.html"
    )
    write_report(comparison, path)
    return path, comparison


def write_report(comparison: Comparison, path: str | Path) -> None:
    """Writes the report; the same runs give the same bytes.

    Raises:
        UserError: If the file cannot be written.
    """
    text = render(comparison)
    try:
        Path(path).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(
            f"{path}: the report cannot be written ({error.strerror or error})"
        ) from error


def render(comparison: Comparison) -> str:
    """Makes the page as text."""
    runs = comparison.runs
    summary = comparison.summary
    cells = comparison.results.cells
    colors = style.strategy_colors(comparison.strategies)
    panels = panels_of(comparison.results, comparison.baseline, arm_settings(runs))
    parts = [_header(comparison, panels)]
    if panels:
        sources = _sources(runs)
        parts += [_panel_summary(panel, comparison, colors) for panel in panels]
        drawings = all_drawings(panels, summary, colors)
        parts += [_figure(number, drawing, sources) for number, drawing in enumerate(drawings, 1)]
    else:
        parts.append(EMPTY)
    parts += [HOW_TO_READ, _provenance(runs), _papers(comparison.strategies)]
    return page(_title(runs, cells), parts)


def _title(runs: Sequence[RunFolder], cells: pd.DataFrame) -> str:
    """Names the experiments, else data, models and networks, else the folders."""
    experiments = [
        str(name) for name in cells["experiment"].unique() if str(name) not in ("", NO_EXPERIMENT)
    ]
    groups = [
        [str(part_of(run.config, key).get("name", "")) for run in runs]
        for key in ("data", "model", "network")
    ]
    chosen = [" and ".join(dict.fromkeys(filter(None, names))) for names in groups]
    return (
        ", ".join(experiments)
        or ", ".join(filter(None, chosen))
        or ", ".join(run.name for run in runs)
    )


def _header(comparison: Comparison, panels: Sequence[Panel]) -> Markup:
    runs, cells = comparison.runs, comparison.results.cells
    seeds = ", ".join(str(seed) for seed in sorted(cells["seed"].unique()))
    facts = [
        counted(len(runs), "run"),
        counted(cells["device_id"].nunique(), "device"),
        counted(cells["segment"].nunique(), "segment"),
        counted(len(set(cells["strategy"]) - line_names()), "strategy", "strategies"),
        f"seed {seeds}" if seeds else "",
    ]
    text = " · ".join(fact for fact in facts if fact)
    notes = []
    others = silent_differences(runs)
    if others:
        notes.append(f"Pooled although they also differ in: {', '.join(others)}.")
    if len(panels) > 1:
        notes.append(f"Side by side: {'; '.join(panel.title for panel in panels)}.")
    notes += comparison.notes_of_base
    return filled(HEADER, title=_title(runs, cells), facts=text, notes=notes)


def _panel_summary(panel: Panel, comparison: Comparison, colors: dict[str, str]) -> Markup:
    rows = panel.of(comparison.summary)
    notes = footnotes(comparison.runs, rows, panel.main_metrics)
    return filled(
        PANEL,
        title=panel.title,
        reading=reading(panel, rows),
        summary=summary_table(rows, colors, numbers(notes)),
        notes=sentences(notes),
        intervals=interval_words(int(rows["num_seeds"].max())),
        controls=controls_table(rows, colors),
        quarantined=quarantined_table(comparison.runs, rows, colors),
        size=panel.size,
        metrics=metric_table(rows, colors),
        costs=cost_table(rows, bytes_of_a_segment(panel), colors),
    )


def _sources(runs: Sequence[RunFolder]) -> str | Markup:
    """Says in a caption which runs a figure shows, and the command that remakes one."""
    if len(runs) > 1:
        names = ", ".join(run.run_id for run in runs)
        return f"Runs {names}; the commands that remake them are below."
    run = runs[0]
    if not run.command:
        return f"Run {run.run_id}."
    return Markup("Run {}; remake with <code>{}</code>.").format(run.run_id, run.command)


def _figure(number: int, drawing: Drawing, sources: str | Markup) -> Markup:
    picture = style.svg(drawing.figure, f"f{number}")
    label = Markup('<svg role="img" aria-label="{}" ').format(drawing.title)
    labelled = Markup(picture.replace("<svg ", label, 1))
    return figure(drawing.name, number, drawing.title, labelled, drawing.caption, sources)


def _provenance(runs: Sequence[RunFolder]) -> Markup:
    shown = [
        {
            "name": " · ".join(part for part in (run.run_id, label) if part),
            "command": run.command,
            "where": provenance_line(run.provenance),
            "facts": provenance_rows(run.provenance),
            "config": yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True)
            if run.config
            else "",
            "log": "\n".join(run.log.rstrip().splitlines()[-_LOG_LINES:]),
        }
        for run, label in zip(runs, run_labels(runs), strict=True)
    ]
    return filled(PROVENANCE, runs=shown, versions=_versions())


def _versions() -> list[tuple[str, str]]:
    found = [("python", platform.python_version()), ("cdc-flower", __version__)]
    for name in PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            found.append((name, "not installed"))
    return found


def _papers(strategies: Iterable[str]) -> Markup:
    papers = papers_for(strategies)
    return filled(PAPERS, papers=papers, bibtex="\n\n".join(paper.bibtex for paper in papers))
