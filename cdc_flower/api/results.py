"""Holds the results of a comparison: tables, figures and the report, from memory or a folder."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import yaml
from markupsafe import Markup
from matplotlib.figure import Figure

from cdc_flower.api.rows import LongTable
from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.words import counted
from cdc_flower.report.comparison.figure_data import Panel, panels_of
from cdc_flower.report.comparison.figures import Drawing, all_drawings
from cdc_flower.report.comparison.latex import latex_tables
from cdc_flower.report.comparison.narrative import reading
from cdc_flower.report.comparison.page import write_report
from cdc_flower.report.comparison.tables import summary_table
from cdc_flower.report.drawing.page_style import filled, template
from cdc_flower.report.drawing.style import strategy_colors
from cdc_flower.report.folders import (
    NOTES_FILE,
    RESULTS_FILE,
    Comparison,
    Config,
    RunFolder,
    arm_settings,
    read_folder,
    run_folders,
    run_labels,
)
from cdc_flower.study import folder as files
from cdc_flower.tables.column import Scope
from cdc_flower.tables.columns import COLUMNS
from cdc_flower.tables.long_table import METRIC, ResultsWriter, joined_frames
from cdc_flower.tables.results import Results
from cdc_flower.tables.summary import BASELINE, write_summary

Place = str | os.PathLike[str]
_PAGE = template(
    "<div class='cdc-flower'><style>.cdc-flower td i {display: inline-block; width: 10px; "
    "height: 10px; border-radius: 5px; margin-right: 6px}</style>"
    "{% for title, reading, table in panels %}"
    "{% if title %}<b>{{ title }}</b>{% endif %}<p>{{ reading }}</p>{{ table }}"
    "{% endfor %}</div>"
)


@dataclass(frozen=True, repr=False, eq=False)
class Run:
    """Results of one run, or of several side by side.

    Attributes:
        comparison: The runs and their pooled results.
        tables: Rows of each run, in the order of the runs.
        links: Median rates of the links of a run that was just played; empty for a folder.
    """

    comparison: Comparison
    tables: Sequence[LongTable]
    links: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_rows(
        cls,
        frames: Sequence[pd.DataFrame],
        config: Config,
        links: Mapping[str, float],
        baseline: str = BASELINE,
        notes: Config = MappingProxyType({}),
    ) -> "Run":
        """Makes the results of a run that was just played.

        Args:
            frames: Rows of its segments.
            config: Of the run.
            links: Their median rates.
            baseline: The strategy that others are compared with.
            notes: On its trainings, as :class:`~cdc_flower.report.RunFolder` has them.
        """
        rows = joined_frames(frames)
        name = str(rows["run_id"].iloc[0]) if len(rows) else "run"
        run = RunFolder(name, Results.of(rows), config, notes=notes)
        return cls(Comparison.of([run], baseline), [LongTable(rows)], links)

    @property
    def strategies(self) -> list[str]:
        """Their names, the baseline first."""
        return self.comparison.strategies

    @property
    def config(self) -> Config:
        """The resolved configuration of the first run."""
        return self.comparison.runs[0].config

    @cached_property
    def results(self) -> pd.DataFrame:
        """One row a device, segment and metric.

        ``value`` is ``value_sum / value_count``; to pool rows add up both and divide.
        """
        names = [*COLUMNS.keys, METRIC, "value_sum", "value_count"]
        rows = self._labeled(table.columns(names) for table in self.tables)
        with np.errstate(invalid="ignore", divide="ignore"):
            value = rows["value_sum"] / rows["value_count"]
        return rows.assign(value=value)[[*rows.columns[:-2], "value", *rows.columns[-2:]]]

    @cached_property
    def costs(self) -> pd.DataFrame:
        """One row a strategy, device and segment: bytes, seconds, labels, messages, context."""
        names = [column.name for column in COLUMNS if column.scope is not Scope.METRIC]
        key = list(COLUMNS.keys)
        return self._labeled(
            table.columns(names).drop_duplicates(key).reset_index(drop=True)
            for table in self.tables
        )

    @property
    def summary(self) -> pd.DataFrame:
        """One row a task, strategy and metric: value, interval, gain over the baseline, costs."""
        return self.comparison.summary.copy()

    @property
    def notes(self) -> list[str]:
        """Sentences on trainings, such as of a method that kept its start."""
        return list(self.comparison.notes)

    @property
    def figures(self) -> list[str]:
        """Names of the figures that these results allow."""
        return list(self._drawings)

    def figure(self, name: str) -> Figure:
        """Draws a figure of the report.

        Raises:
            UserError: If these results have none of that name.
        """
        if name not in self._drawings:
            raise unknown_name("figure", name, self._drawings, "figure")
        return self._drawings[name].figure

    def report(self, path: Place) -> Path:
        """Writes the report, one page that needs nothing beside it, and returns its path.

        Raises:
            UserError: If the file cannot be written.
        """
        write_report(self.comparison, Path(path))
        return Path(path)

    def to_latex(self) -> str:
        r"""Writes the summary as tables in LaTeX, in need of ``\usepackage{booktabs}``."""
        return latex_tables(self.comparison.summary)

    def save(self, folder: Place) -> Path:
        """Writes a run folder with the files that the command writes, and returns its path.

        Raises:
            UserError: If it cannot be written, holds a run already, or these are several runs.
        """
        if len(self.tables) != 1:
            raise UserError(f"save must be asked of one run, got {len(self.tables)}")
        out = Path(folder)
        files.check_writable(out)
        files.make_folder(out)
        notes = self.comparison.runs[0].notes
        kept = ((files.CONFIG, self.config), (files.LINKS, self.links), (NOTES_FILE, notes))
        for name, facts in kept:
            if facts:
                text = yaml.safe_dump(dict(facts), sort_keys=False)
                (out / name).write_text(text, encoding="utf-8")
        with ResultsWriter(out / files.RESULTS) as writer:
            writer.append(self.tables[0].columns(COLUMNS.names))
        write_summary(self.comparison.summary, out / files.SUMMARY)
        self.report(out / files.REPORT)
        return out

    @cached_property
    def _panels(self) -> list[Panel]:
        whole = self.comparison
        return panels_of(whole.results, whole.baseline, arm_settings(whole.runs))

    @cached_property
    def _drawings(self) -> dict[str, Drawing]:
        colors = strategy_colors(self.strategies)
        drawn = all_drawings(self._panels, self.comparison.summary, colors) if self._panels else []
        return {each.name: each for each in drawn}

    def _labeled(self, frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
        """Joins tables; of several runs with their labels in a first column ``run``."""
        found = list(frames)
        if len(found) > 1:
            labels = run_labels(self.comparison.runs)
            found = [
                pd.DataFrame({"run": pd.Categorical([label] * len(frame)), **frame})
                for frame, label in zip(found, labels, strict=True)
            ]
        return joined_frames(found)

    def _repr_html_(self) -> str:
        colors = strategy_colors(self.strategies)
        summary = self.comparison.summary
        shown: list[tuple[str, str, Markup]] = []
        for panel in self._panels:
            rows = panel.of(summary)
            shown.append((panel.title, reading(panel, rows), summary_table(rows, colors)))
        return str(filled(_PAGE, panels=shown))

    def __repr__(self) -> str:
        cells = self.comparison.results.cells
        devices = counted(cells["device_id"].nunique(), "device")
        counts = f"{devices}, {counted(cells['segment'].nunique(), 'segment')}"
        seeds = ", ".join(str(seed) for seed in sorted(cells["seed"].unique()))
        return f"Run({', '.join(self.strategies)}; {counts}, seed {seeds})"


def load(*folders: Place | Iterable[Place], baseline: str = BASELINE) -> Run:
    """Reads run folders, such as ``results/runs/latest``; several are pooled or put side by side.

    Args:
        folders: Of runs; what else a pattern found is passed over.
        baseline: The strategy that others are compared with.

    Raises:
        UserError: If none is given, one is missing or lacks results, or no run has the baseline.
    """
    paths: list[Place] = []
    for each in folders:
        given = [each] if isinstance(each, str | os.PathLike) else each
        if not isinstance(given, Iterable):
            raise UserError(f"load: a run folder must be a path, got {each!r}")
        paths += given
    if not paths:
        raise UserError("no run folder was given; name at least one, such as results/runs/latest")
    found, _ = run_folders([Path(path) for path in paths])
    comparison = Comparison.of([read_folder(path) for path in found], baseline)
    return Run(comparison, [LongTable(path / RESULTS_FILE) for path in found])
