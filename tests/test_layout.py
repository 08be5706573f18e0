"""The shape of the house: one physical package, links for people, arrows that point one way."""

import ast
import re
import statistics
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import cdc_flower

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cdc_flower"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

#: Rooms in the order of their arrows: each may import from itself and from the rooms before it.
ROOMS = (
    "core",
    "wire",
    "models",
    "tables",
    "training",
    "devices",
    "tasks",
    "strategies",
    "simulations",
    "report",
    "study",
    "doors",
)
DOORS = {"cli", "client_app", "server_app"}


def room(module: str) -> str:
    """The room of a dotted ``cdc_flower`` module; configs are data and belong to none."""
    head = [*module.split("."), ""][1]
    return "doors" if head in DOORS else head


@cache
def imports(path: Path) -> list[str]:
    """Dotted names that a file imports: ``from a.b import c`` is ``a.b.c``, a relative one starts with a dot."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [
                "." * node.level + f"{node.module or ''}.{alias.name}" for alias in node.names
            ]
    return found


def inside(name: str, package: str) -> bool:
    """Whether a dotted name is the package or lies in it."""
    return f"{name}.".startswith(f"{package}.")


@pytest.mark.parametrize("name", ["strategies", "simulations", "configs"])
def test_a_top_level_folder_is_a_link_into_the_package(name: str) -> None:
    link = ROOT / name
    if link.is_file():  # a checkout without symbolic links holds a file of one line instead
        assert link.read_text(encoding="utf-8").strip() == f"cdc_flower/{name}"
    else:
        assert link.is_symlink(), f"{name} must be a symbolic link to cdc_flower/{name}"
        assert link.readlink() == Path("cdc_flower", name)
        assert (PACKAGE / name / "__init__.py").is_file()


@pytest.mark.parametrize(
    "name", ["strategies", "simulations", "configs", "tests", "results", "benchmarks"]
)
def test_no_module_imports_a_generic_top_level_name(name: str) -> None:
    for path in SOURCES + TESTS:
        assert not [found for found in imports(path) if inside(found, name)], path


def test_imports_are_absolute() -> None:
    for path in SOURCES + TESTS:
        assert not [found for found in imports(path) if found.startswith(".")], path


def module_of(path: Path) -> str:
    """Dotted name of a source file."""
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return dotted.removesuffix(".__init__")


def test_every_module_lies_in_a_room() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert folders == {*ROOMS, "configs"} - {"doors"}
    assert {path.stem for path in PACKAGE.glob("*.py")} == {"__init__", *DOORS}


def test_imports_point_one_way() -> None:
    for path in SOURCES:
        module = module_of(path)
        here = room(module)
        for name in imports(path):
            if not inside(name, "cdc_flower") or not here:
                continue
            there = room(name)
            if there in ROOMS:
                message = f"{module} ({here}) imports {name} ({there})"
                assert ROOMS.index(there) <= ROOMS.index(here), message
            else:
                assert there in ("configs", "__version__"), f"{module} imports {name}"


def test_only_one_module_touches_the_internals_of_flower() -> None:
    for path in SOURCES:
        if path != PACKAGE / "wire" / "identity.py":
            assert not [found for found in imports(path) if inside(found, "flwr.supercore")], path


def test_no_file_is_longer_than_400_lines_and_most_have_at_most_150() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert not {
        str(path.relative_to(ROOT)): length for path, length in lengths.items() if length > 400
    }
    assert statistics.median(length for length in lengths.values() if length) <= 150


def test_every_config_starts_with_a_comment_that_says_how_to_run_it() -> None:
    for path in sorted(PACKAGE.rglob("*.y*ml")):
        header = re.match(r"(#.*\n)*", path.read_text(encoding="utf-8"))
        assert header and "cdc-flower" in header[0], (
            f"{path.relative_to(ROOT)}: say how to run it in the first lines"
        )


def test_the_version_is_the_same_for_flower_and_for_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == cdc_flower.__version__


def test_constraints_pin_public_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert not [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)]


def test_the_oldest_flower_that_is_tested_is_the_oldest_that_is_allowed_and_the_pinned_one_is_allowed_too() -> (
    None
):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (allowed,) = (
        Requirement(text).specifier for text in project["dependencies"] if text.startswith("flwr")
    )
    oldest = re.search(
        r"^OLDEST_FLWR := (\S+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    pinned = re.search(
        r"^flwr==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )

    assert oldest and pinned
    assert {Version(part.version) for part in allowed if part.operator == ">="} == {
        Version(oldest[1])
    }
    assert allowed.contains(pinned[1])
