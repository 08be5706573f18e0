"""Tests that pages and the Makefile name are there, under the names that they have."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
PAGES = ["Makefile", *(str(page.relative_to(ROOT)) for page in ROOT.glob("*.md"))]
PAGES += [str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")]
PAGES += [str(page.relative_to(ROOT)) for page in (ROOT / "cdc_flower").rglob("*.md")]


@cache
def names_in(path: Path) -> set[str]:
    """Names of the tests of a file."""
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("page", PAGES)
def test_every_test_file_that_a_page_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"\btests/[a-z_/0-9]+(?:\.py\b|(?=[\s`]))", text))
    assert not [path for path in named if not (ROOT / path).exists()]


def missing_in(clause: str) -> list[str]:
    """Tests that a clause of the page of diagnostics names and that are not where it says.

    It is either ``tests in files`` or ``file::test, test, file::test``, where a name without a file
    is in the file named before it.
    """
    tests, _, files = clause.partition(" in `")
    if files:
        names = re.findall(r"`(test_\w+)`", tests)
        stems = re.findall(r"(\w+/)?(test_\w+\.py)", files)
        folder = stems[0][0]
        paths = [TESTS / folder / name for _, name in stems]
        pairs = [(path, name) for path in paths for name in names]
    else:
        pairs = []
        path = None
        for file, name in re.findall(r"`(?:([\w/]+\.py)::)?(test_\w+)`", clause):
            path = TESTS / file if file else path
            assert path, f"{name} is in no file"
            pairs.append((path, name))
    return [
        f"{path}::{name}"
        for path, name in pairs
        if not path.is_file() or name not in names_in(path)
    ]


def test_every_property_of_the_diagnostics_is_held_by_tests_that_are_there() -> None:
    text = (ROOT / "docs" / "diagnostics.md").read_text(encoding="utf-8")
    rows = [row.split("|")[3] for row in text.splitlines() if re.match(r"\| \d", row)]
    assert len(rows) >= 20 and all("`" in row for row in rows)
    clauses = [clause for row in rows for clause in row.split(";")]
    assert [name for clause in clauses for name in missing_in(clause)] == []
