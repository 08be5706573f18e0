"""The page: one HTML file that needs nothing beside it."""

import platform
from collections.abc import Iterable, Sequence
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
import yaml

from cdc_flower.core.errors import UserError
from cdc_flower.core.version import __version__
from cdc_flower.report.comparison.bytes_figures import bytes_of_a_segment
from cdc_flower.report.comparison.figure_data import Panel, panels_of
from cdc_flower.report.comparison.figures import Drawing, all_drawings
from cdc_flower.report.comparison.narrative import reading
from cdc_flower.report.comparison.papers import papers_for
from cdc_flower.report.comparison.tables import cost_table, metric_table, summary_table
from cdc_flower.report.drawing import style
from cdc_flower.report.drawing.page_style import CSS
from cdc_flower.report.folders import (
    Comparison,
    RunFolder,
    arm_settings,
    read_folder,
    run_labels,
    silent_differences,
)
from cdc_flower.tables.summary import BASELINE

PACKAGES = ("torch", "flwr", "ray", "numpy")
_LOG_LINES = 200
NO_EXPERIMENT = "none"


def report_from_folders(
    folders: Sequence[str | Path], out: str | Path | None = None, baseline: str = BASELINE
) -> tuple[Path, Comparison]:
    """Write the report of one run folder, or of several side by side.

    Args:
        folders: Run folders; one that is named twice counts once.
        out: The file to write. By default ``report.html`` in the folder, or beside the first of
            several folders.
        baseline: The strategy that others are compared with.

    Returns:
        The file that was written, and what it shows.

    Raises:
        UserError: If no folder is given, one is missing or lacks results, no run has the baseline,
            or the file cannot be written.
    """
    unique = list(dict.fromkeys(Path(folder).resolve() for folder in folders))
    if not unique:
        raise UserError("no run folder was given; name at least one, such as results/runs/latest")
    comparison = Comparison.of([read_folder(folder) for folder in unique], baseline)
    path = (
        Path(out)
        if out is not None
        else (unique[0] if len(unique) == 1 else unique[0].parent) / "report.html"
    )
    write_report(comparison, path)
    return path, comparison


def write_report(comparison: Comparison, path: str | Path) -> None:
    """Write the report. The same runs give the same bytes.

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
    """The page as text."""
    runs, summary, cells = comparison.runs, comparison.summary, comparison.results.cells
    colors = style.strategy_colors(comparison.strategies)
    panels = panels_of(comparison.results, comparison.baseline, arm_settings(runs))
    body = [_header(runs, cells, panels)]
    if panels:
        sources = _sources(runs)
        body += [_panel_summary(panel, summary, colors) for panel in panels]
        drawings = all_drawings(panels, summary, colors)
        body += [_figure(number, drawing, sources) for number, drawing in enumerate(drawings, 1)]
    else:
        body.append("<p class='reading'>The results hold no rows: no segment was finished.</p>")
    body += [_how_to_read(), _provenance(runs), _papers(comparison.strategies)]
    title = escape(_title(runs, cells))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _title(runs: Sequence[RunFolder], cells: pd.DataFrame) -> str:
    """The named experiments; without one, the data, models and networks; without a configuration, the folders."""
    experiments = [
        str(name) for name in cells["experiment"].unique() if str(name) not in ("", NO_EXPERIMENT)
    ]
    groups = [
        [str((run.config.get(key) or {}).get("name", "")) for run in runs]
        for key in ("data", "model", "network")
    ]
    chosen = [" and ".join(dict.fromkeys(filter(None, names))) for names in groups]
    return (
        ", ".join(experiments)
        or ", ".join(filter(None, chosen))
        or ", ".join(run.name for run in runs)
    )


def _header(runs: Sequence[RunFolder], cells: pd.DataFrame, panels: Sequence[Panel]) -> str:
    seeds = ", ".join(str(seed) for seed in sorted(cells["seed"].unique()))
    facts = [
        f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}",
        f"{cells['device_id'].nunique():,} devices",
        f"{cells['segment'].nunique():,} segments",
        f"{cells['strategy'].nunique()} strategies",
        f"seed {seeds}" if seeds else "",
    ]
    text = " · ".join(fact for fact in facts if fact)
    note = ""
    others = silent_differences(runs)
    if others:
        note = (
            f"<p class='note'>Pooled although they also differ in: {escape(', '.join(others))}.</p>"
        )
    if len(panels) > 1:
        note += f"<p class='note'>Side by side: {escape('; '.join(panel.title for panel in panels))}.</p>"
    return f"<header><h1>{escape(_title(runs, cells))}</h1><p class='facts'>{escape(text)}</p>{note}</header>"


def _panel_summary(panel: Panel, summary: pd.DataFrame, colors: dict[str, str]) -> str:
    rows = panel.of(summary)
    title = f"<h2>{escape(panel.title)}</h2>" if panel.title else ""
    return (
        f"<section>{title}<p class='reading'>{escape(reading(panel, rows))}</p>"
        f"{summary_table(rows, colors)}"
        f"<p class='note'>{escape(panel.size)}. ± is half a 95 % interval over devices.</p>"
        f"<details><summary>Every metric</summary>{metric_table(rows, colors)}</details>"
        "<details><summary>Payload, labels and seconds</summary>"
        f"{cost_table(rows, bytes_of_a_segment(panel), colors)}</details></section>"
    )


def _sources(runs: Sequence[RunFolder]) -> str:
    """What a caption says of where the figure comes from."""
    if len(runs) == 1:
        command = f"; remake with <code>{escape(runs[0].command)}</code>" if runs[0].command else ""
        return f"Run {escape(runs[0].run_id)}{command}."
    return f"Runs {escape(', '.join(run.run_id for run in runs))}; the commands that remake them are below."


def _figure(number: int, drawing: Drawing, sources: str) -> str:
    picture = style.svg(drawing.figure, f"f{number}")
    label = escape(drawing.title, quote=True)
    picture = picture.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    return (
        f"<figure id='{drawing.name}'><h2>{escape(drawing.title)}</h2>{picture}<figcaption><b>Figure {number}.</b> "
        f"{escape(drawing.caption)} <span class='source'>{sources}</span></figcaption></figure>"
    )


def _how_to_read() -> str:
    return (
        "<section><h2>How to read this</h2><p>Every event is predicted before anything learns from it. A value is a "
        "sum over events divided by their number, over all devices, segments and seeds; its 95 % interval treats each "
        "device as one cluster, because the events of a device are alike. A difference compares the same devices, so "
        "it is often more certain than the two values are; its interval comes from 1,000 draws of as many devices. "
        "<i>auc</i> compares each true candidate with those of all "
        "devices in its segment, <i>user_auc</i> with those of its own device. Latency runs from a shift to new "
        "parameters in use; staleness is the age, at the start of a "
        "segment, of the parameters in use during it. Both are in virtual seconds, while seconds "
        "of computing are measured.</p></section>"
    )


def _provenance(runs: Sequence[RunFolder]) -> str:
    parts = ["<section><h2>Remake it</h2>"]
    for run, label in zip(runs, run_labels(runs), strict=True):
        name = escape(" · ".join(part for part in (run.run_id, label) if part))
        command = (
            f"<pre>{escape(run.command)}</pre>"
            if run.command
            else "<p>The config names no command.</p>"
        )
        parts.append(f"<h3>{name}</h3>{command}")
        if run.config:
            text = yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True)
            parts.append(f"<details><summary>Config</summary><pre>{escape(text)}</pre></details>")
        if run.log.strip():
            text = "\n".join(run.log.rstrip().splitlines()[-_LOG_LINES:])
            parts.append(
                f"<details><summary>End of the log</summary><pre>{escape(text)}</pre></details>"
            )
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(number)}</td></tr>" for name, number in _versions()
    )
    parts.append(
        f"<details><summary>Versions that wrote this page</summary><table>{rows}</table></details></section>"
    )
    return "".join(parts)


def _versions() -> list[tuple[str, str]]:
    found = [("python", platform.python_version()), ("cdc-flower", __version__)]
    for name in PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            found.append((name, "not installed"))
    return found


def _papers(strategies: Iterable[str]) -> str:
    papers = papers_for(strategies)
    items = "".join(
        f"<li><b>{escape(paper.name)}</b>. {escape(paper.text)} "
        f"<a href='https://arxiv.org/abs/{paper.arxiv}'>arXiv:{paper.arxiv}</a></li>"
        for paper in papers
    )
    bibtex = escape("\n\n".join(paper.bibtex for paper in papers))
    return (
        f"<section><h2>Papers of these strategies</h2><ul>{items}</ul>"
        f"<details><summary>BibTeX</summary><pre>{bibtex}</pre></details></section>"
    )
