"""The package itself loads nothing slow, and says what is public."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cdc_flower as cdc

SOURCE = Path(cdc.__file__).read_text(encoding="utf-8")
SLOW = ("torch", "ray", "flwr", "pandas", "hydra", "matplotlib", "scipy", "sklearn")


def test_importing_the_package_loads_nothing_slow_and_takes_a_moment() -> None:
    code = (
        "import sys, time; start = time.process_time(); import cdc_flower as cdc; dir(cdc); "
        "print(time.process_time() - start, *{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    seconds, *modules = done.stdout.split()
    assert float(seconds) < 0.5
    assert "cdc_flower" in modules and not set(SLOW) & set(modules)


def test_every_public_name_can_be_imported_and_is_documented() -> None:
    for name in cdc.__all__:
        assert name in dir(cdc)
        assert getattr(cdc, name).__doc__, name


def test_type_checkers_see_the_names_that_are_imported_when_they_are_used() -> None:
    (block,) = (
        node
        for node in ast.parse(SOURCE).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {
        alias.asname: f"{node.module}:{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == cdc._HOMES
    assert {*seen, "__version__"} == {*cdc.__all__}


def test_another_name_is_none_of_the_package() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'comparre'"):
        cdc.comparre  # type: ignore[attr-defined]  # noqa: B018


def test_the_page_lists_what_is_public_and_nothing_else() -> None:
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    public, _, about_runs = page.partition("## compare")
    cells = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", public, re.MULTILINE)
    listed = [name for cell in cells for name in re.findall(r"\w+", cell)]
    assert sorted(listed) == sorted(cdc.__all__)
    members = re.findall(r"`(\w+)(?:\(\w*\))?`", about_runs.partition("## Run")[2])
    shown = {name for name in vars(cdc.Run) if not name.startswith("_")}
    left_out = {"comparison", "tables", "links", "of_rows"}  # how it is made
    assert shown - left_out <= {*members}
