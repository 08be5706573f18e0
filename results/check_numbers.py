"""Checks every measured number of the pages of results against the committed tables.

    python results/check_numbers.py                    # all pages; exit code 1: one is nowhere
    python results/check_numbers.py results/README.md

Of each section of a page the tables are the CSV files in the folders that it links to, or that a
comment names (``<!-- numbers: leave_last_out, video/labels -->``, from the page's folder). A number
matches at the digits that are shown:

- ``value [low, high]`` is one row's mean or difference, from the baseline or from a control, with
  both ends of its interval;
- in a row of a table whose first cell is a strategy it is of that strategy, and of the metric, run,
  seed or cost that the head of its column names (``<!-- metric: NDCG@10 -->`` names it for all);
- elsewhere it is the point estimate, cost, or count of some row.

Numbers that were not measured (literature, settings) are listed in the section:
``<!-- given: .908, 30 -->``. So are those that no table holds:
``<!-- not in a table: .843; why -->``. Neither excuses the row of a strategy. Numbers in code, in
names and in heads of tables are left out, and so is 95 %, the level.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "results/README.md", "results/video/README.md")
#: Words that a study writes from its table alone, such as where two curves cross.
WORDS = ("stress.md",)
METRICS = {
    "user auc": "user_auc",
    "auc": "auc",
    "ndcg@10": "ndcg@10",
    "hr@10": "hr@10",
    "accuracy": "accuracy",
    "log loss": "log_loss",
    "r@1": "r@1",
    "mean rank": "mean_rank",
}
#: Head of a column -> columns of the CSV, and what one of the page's units is.
COSTS: Mapping[str, tuple[tuple[str, ...], float]] = {
    "kb up": (("bytes_up_per_device", "payload_bytes_up_per_device"), 1e3),
    "kb down": (("bytes_down_per_device", "payload_bytes_down_per_device"), 1e3),
    "labels": (("num_labels",), 1.0),
    "clicks trained on": (("num_labels",), 1.0),
    "clicks told": (("num_told",), 1.0),
}
ESTIMATES = ("mean", "diff", "mean_diff", "other_diff", "minus_mean", "minus_other", "head_room")
COUNTS = ("num_devices", "num_seeds", "num_labels", "num_told")
SHARES = ("requests", "late", "dropped", "head_room")
#: Names of columns in older tables.
OLD = {"diff_static": "diff", "diff_static_low": "diff_low", "diff_static_high": "diff_high"}
OLD |= {"gain": "diff", "gain_low": "diff_low", "gain_high": "diff_high"}

_NUMBER = r"[+−-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?"
_BEGIN, _END = r"(?<![\w@.,/×−+-])", r"(?![\w@/]|\.\d|,\d{3})"
NUMBER = re.compile(rf"{_BEGIN}(?=[+−-]?\.?\d)({_NUMBER}){_END}")
TRIPLE = re.compile(rf"{_BEGIN}(?=[+−-]?\.?\d)({_NUMBER}) \[({_NUMBER}), ({_NUMBER})\]")
COMMENT = re.compile(r"<!--\s*(given|not in a table|numbers|metric):(.*?)-->", re.DOTALL)


@dataclass(frozen=True)
class Shown:
    """A number as a page shows it.

    Attributes:
        text: On the page.
    """

    text: str

    @property
    def value(self) -> float:
        """Reads it."""
        return float(self.text.replace("−", "-").replace(",", ""))

    @property
    def is_signed(self) -> bool:
        """Tells whether it has a sign."""
        return self.text[0] in "+−-"

    def fits(self, values: NDArray[np.float64], *, by_size: bool = False) -> NDArray[np.bool_]:
        """Tells which values are this number at its digits.

        Args:
            values: Of a table.
            by_size: Whether a number without a sign stands for negative ones as well.
        """
        half = 0.5 * 10.0 ** -len(self.text.partition(".")[2])
        found = np.abs(values) if by_size and not self.is_signed else values
        is_close = np.abs(found - self.value) <= half * (1 + 1e-6)
        if self.is_signed:  # −.0000 is of a negative value, or of zero
            is_close &= (np.sign(values) * (1 if self.text[0] == "+" else -1)) >= 0
        return np.asarray(is_close, np.bool_)


@dataclass
class Section:
    """A part of a page under one heading.

    Attributes:
        lines: Number and text of each line.
        folder: Of the page.
    """

    lines: list[tuple[int, str]] = field(default_factory=list)
    folder: Path = ROOT

    @cached_property
    def text(self) -> str:
        """The whole of it."""
        return "\n".join(line for _, line in self.lines)

    def said(self, key: str) -> list[str]:
        """Reads the comments of a kind; what follows a semicolon is a reason."""
        found = [body for name, body in COMMENT.findall(self.text) if name == key]
        parts = [
            part.strip() for body in found for part in re.split(r",\s", body.partition(";")[0])
        ]
        return [part for part in parts if part]

    @cached_property
    def excused(self) -> set[str]:
        """Numbers that are not to be in a table."""
        return {*self.said("given"), *self.said("not in a table")}

    @cached_property
    def folders(self) -> list[Path]:
        """Folders of its tables."""
        links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", self.text)
        named = [self.folder / name for name in self.said("numbers")]
        linked = [self.folder / link for link in links if "://" not in link]
        found = [path if path.is_dir() else path.parent for path in (*named, *linked)]
        return list(dict.fromkeys(path.resolve() for path in found if path.exists()))

    @cached_property
    def table(self) -> pd.DataFrame:
        """All rows of its tables."""
        paths = [path for folder in self.folders for path in sorted(folder.glob("*.csv"))]
        return pd.concat([_read(path) for path in paths] or [pd.DataFrame()], ignore_index=True)

    @cached_property
    def strategies(self) -> set[str]:
        """Names in its tables."""
        return set(self.table["strategy"].astype(str)) if "strategy" in self.table else set()

    @cached_property
    def words(self) -> NDArray[np.float64]:
        """Numbers of the words that were written from its tables."""
        paths = [folder / name for folder in self.folders for name in WORDS]
        texts = [path.read_text(encoding="utf-8") for path in paths if path.is_file()]
        return np.array([Shown(number).value for text in texts for number in NUMBER.findall(text)])


def sections(page: Path) -> list[Section]:
    """Reads a page, without fenced code."""
    found = [Section(folder=page.parent)]
    is_code = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif not is_code:
            if line.startswith("## "):
                found.append(Section(folder=page.parent))
            found[-1].lines.append((number, line))
    return found


def missing(page: Path) -> list[str]:
    """Lists the numbers of a page that are nowhere, each with its place."""
    return [
        f"{page}:{number}: {text} is in no table of {_names(section)}"
        for section in sections(page)
        for number, text in _missing(section)
    ]


def _missing(section: Section) -> Iterator[tuple[int, str]]:
    heads: list[str] = []
    is_comment = False
    for number, raw in section.lines:
        is_row = raw.lstrip().startswith("|")
        line, is_comment = _plain(raw, is_comment)
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if is_row else [line]
        if not is_row:
            heads = []
        elif not heads:
            heads = _heads(cells)
            continue
        if is_row and re.fullmatch(r"[\s|:-]+", line):
            continue
        strategy = cells[0] if is_row and cells[0] in section.strategies else ""
        for place, cell in enumerate(cells):
            if not (is_row and place == 0):
                head = heads[place] if is_row and place < len(heads) else ""
                rows = _restricted(section, strategy, head, heads[0] if heads else "")
                yield from (
                    (number, text) for text in _of_cell(section, cell, rows, head, strategy)
                )


def _of_cell(
    section: Section, cell: str, rows: pd.DataFrame, head: str, strategy: str
) -> Iterator[str]:
    """Lists what is nowhere of a cell, or of a line of prose.

    Args:
        section: Around it.
        cell: Its text.
        rows: Of the tables, those that it may be of.
        head: Of its column.
        strategy: Of its row; empty in prose.
    """
    cost = COSTS.get(head) if strategy else None
    # A comment excuses no cell of a strategy, but for seeds, of which older tables have no rows.
    excused = section.excused if not strategy or head.isdigit() else set()
    for match in TRIPLE.finditer(cell):
        parts = [Shown(text) for text in match.groups()]
        is_excused = all(part.text in excused for part in parts)
        if not is_excused and not _is_interval(parts, rows, is_prose=not strategy):
            yield match[0]
    for match in NUMBER.finditer(TRIPLE.sub(" ", cell)):
        shown, rest = Shown(match[1]), TRIPLE.sub(" ", cell)[match.end() :]
        is_share = re.match(r"\s?%", rest) is not None
        if shown.text in excused or (is_share and shown.value == 95):
            continue
        if cost is not None:
            is_found = _is_among(shown, rows, cost[0], [cost[1]])
        elif strategy:
            is_found = _is_among(shown, rows, ESTIMATES, [1.0])
        else:
            is_found = _is_said(shown, rows, is_share)
            is_found |= bool(shown.fits(section.words, by_size=True).any())
        if not is_found:
            yield match[1]


def _is_said(shown: Shown, rows: pd.DataFrame, is_share: bool) -> bool:
    """Tells whether a number in prose is of some row."""
    if is_share:
        return _is_among(shown, rows, SHARES, [0.01], by_size=True)
    if "." not in shown.text:
        return _is_among(shown, rows, COUNTS, [1.0]) or _is_among(shown, rows, _bytes(), [1e3])
    estimates = _is_among(shown, rows, ESTIMATES, [1.0], by_size=True)
    return estimates or _is_among(shown, rows, _bytes(), [1e3, 1e6])


def _is_interval(parts: Sequence[Shown], rows: pd.DataFrame, *, is_prose: bool) -> bool:
    """Tells whether value and ends are of one row; in prose "lower by" turns them round."""
    for name in ESTIMATES:
        low, high = ("low", "high") if name == "mean" else (f"{name}_low", f"{name}_high")
        if not {name, low, high} <= {*rows.columns}:
            continue
        columns = [rows[each].to_numpy(float) for each in (name, low, high)]
        turned = [-columns[0], -columns[2], -columns[1]]
        for values in (columns, turned) if is_prose and not parts[0].is_signed else (columns,):
            fits = [part.fits(value) for part, value in zip(parts, values, strict=True)]
            if np.logical_and.reduce(fits).any():
                return True
    return False


def _is_among(
    shown: Shown,
    rows: pd.DataFrame,
    names: Iterable[str],
    units: Iterable[float],
    *,
    by_size: bool = False,
) -> bool:
    """Tells whether some of these columns holds a number, in some of these units."""
    values = [rows[name].to_numpy(float) for name in names if name in rows]
    return any(
        shown.fits(value / unit, by_size=by_size).any() for value in values for unit in units
    )


def _restricted(section: Section, strategy: str, head: str, corner: str) -> pd.DataFrame:
    """Selects the rows that a cell may be of.

    Args:
        section: Around it.
        strategy: Of its row; empty: any.
        head: Of its column.
        corner: Head of the first column, such as ``seed``.
    """
    rows = section.table
    if not strategy:
        return rows
    rows = rows[rows["strategy"] == strategy]
    metric = next((text for text in METRICS if re.search(rf"\b{re.escape(text)}", head)), "")
    named = metric or next((text.lower() for text in section.said("metric")), "")
    if named and "metric" in rows and head not in COSTS:
        rows = rows[rows["metric"] == METRICS[named]]
    if corner == "seed" and head.isdigit():
        return rows[rows["seed"] == int(head)] if "seed" in rows else rows.iloc[:0]
    if "seed" in rows:
        rows = rows[rows["seed"].isna()]
    words = {*_tokens(head.replace(metric, " "))} - {"against", "static"}
    if words and "run" in rows:
        labels = rows["run"].astype(object).fillna("").astype(str)
        is_run = labels.map(lambda label: words <= {*_tokens(label)})
        rows = rows[is_run] if is_run.any() else rows
    return rows


def _heads(cells: Sequence[str]) -> list[str]:
    """Reads heads of a table; "against static" is of the metric to its left."""
    found: list[str] = []
    for cell in cells:
        text = cell.lower().replace("*", "")
        found.append(f"{found[-1]} {text}" if text.startswith("against") and found else text)
    return found


def _plain(line: str, is_comment: bool) -> tuple[str, bool]:
    """Takes comments, code, marks and links' targets away; tells whether a comment is open."""
    if is_comment:
        _, end, line = line.partition("-->")
        if not end:
            return "", True
    line = re.sub(r"<!--.*?-->", " ", line)
    line, begin, _ = line.partition("<!--")
    line = re.sub(r"`[^`]*`", lambda match: " " if " " in match[0] else match[0][1:-1], line)
    line = re.sub(r"\]\([^)]*\)", "]", line)
    return re.sub(r"\*\*|</?sup>", "", line), bool(begin)


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path).rename(columns=OLD).assign(file=str(path))


def _tokens(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _bytes() -> list[str]:
    return [name for names, unit in COSTS.values() for name in names if unit > 1]


def _names(section: Section) -> str:
    names = [str(folder.relative_to(ROOT)) for folder in section.folders if _is_inside(folder)]
    return ", ".join(names) or "its section, which links to none"


def _is_inside(folder: Path) -> bool:
    return folder.is_relative_to(ROOT)


def main(paths: Sequence[str]) -> int:
    """Prints what is missing, and returns the exit code."""
    pages = [Path(path) for path in paths] or [ROOT / page for page in PAGES]
    found = [line for page in pages for line in missing(page)]
    print("\n".join(found) or f"{len(pages)} pages: every number is in a table")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
