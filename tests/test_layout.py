"""The shape of the house: one physical package, links for people, arrows that point one way."""

import ast
import importlib.util
import re
import sys
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import cdc_flower

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cdc_flower"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

#: Pages that people read.
PAGES = ("*.md", "docs/*.md", "benchmarks/*.md", "results/**/*.md", "cdc_flower/**/*.md")

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
    "api",
    "doors",
)
DOORS = {"cli", "client_app", "server_app"}


def room(module: str) -> str:
    """Names the room of a dotted ``cdc_flower`` module; configs are data and belong to none."""
    head = [*module.split("."), ""][1]
    return "doors" if head in DOORS else head


@cache
def imports(path: Path) -> list[str]:
    """Lists dotted names that a file imports.

    ``from a.b import c`` is ``a.b.c``, and a relative one starts with a dot. Imports inside
    functions and those for types alone count.
    """
    found: list[str] = []
    own = sources().get(path)
    for node in own.nodes if own else ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [
                "." * node.level + f"{node.module or ''}.{alias.name}" for alias in node.names
            ]
    return found


@cache
def measures() -> ModuleType:
    """Loads what ``python -m benchmarks.structure`` measures with."""
    path = ROOT / "benchmarks" / "support" / "sources.py"
    spec = importlib.util.spec_from_file_location("structure_measures", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up there
    spec.loader.exec_module(module)
    return module


@cache
def sources() -> dict[Path, Any]:
    """Path -> file of the package, which is parsed once for all tests."""
    return {ROOT / source.name: source for source in measures().read_sources(ROOT)}


@cache
def structure() -> tuple[dict[str, float], dict[str, list[str]]]:
    """Measures the package once: numbers, and places by measure."""
    own = [*sources().values()]
    return measures().numbers_of(own), measures().places_of(own)


def inside(name: str, package: str) -> bool:
    """Tells whether a dotted name is the package or lies in it."""
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
    """Names the module of a source file."""
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


def module_imports() -> dict[str, set[str]]:
    """Module -> modules of the package that it imports, also in functions and for types alone."""
    modules = {module_of(path): path for path in SOURCES}
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        # ``from a.b import c`` imports module a.b.c if there is one, else a name of module a.b.
        names = [name if name in modules else name.rpartition(".")[0] for name in imports(path)]
        found[module] = {name for name in names if name in modules}
    return found


def circle_of(arrows: dict[str, set[str]]) -> list[str]:
    """The modules on circles, and any between two circles; none if there is no circle."""
    left = dict(arrows)
    while left:
        ends = {module for module, targets in left.items() if not targets & left.keys()}
        starts = left.keys() - set().union(*left.values())
        if not ends | starts:
            break
        left = {module: targets for module, targets in left.items() if module not in ends | starts}
    return sorted(left)


def test_no_module_imports_itself_around_a_circle() -> None:
    assert circle_of(module_imports()) == []


def test_a_circle_is_found_with_its_modules_and_no_others() -> None:
    circle = {"b": {"c"}, "c": {"d"}, "d": {"b", "e"}}
    assert circle_of({"a": {"b"}, **circle, "e": set()}) == ["b", "c", "d"]
    assert circle_of({"a": {"a"}}) == ["a"]
    assert circle_of({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_only_one_module_touches_the_internals_of_flower() -> None:
    for path in SOURCES:
        if path != PACKAGE / "wire" / "identity.py":
            assert not [found for found in imports(path) if inside(found, "flwr.supercore")], path


def test_every_config_starts_with_a_comment_that_says_how_to_run_it() -> None:
    for path in sorted(PACKAGE.rglob("*.y*ml")):
        header = re.match(r"(#.*\n)*", path.read_text(encoding="utf-8"))
        assert header and "cdc-flower" in header[0], (
            f"{path.relative_to(ROOT)}: say how to run it in the first lines"
        )


def test_every_relative_link_of_a_page_leads_to_a_file() -> None:
    pages = [page for pattern in PAGES for page in ROOT.glob(pattern)]
    links = {page: re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text()) for page in pages}
    assert len(pages) > 15 and sum(map(len, links.values())) > 50
    broken = {
        str(page.relative_to(ROOT)): missing
        for page, targets in links.items()
        if (missing := [target for target in targets if not (page.parent / target).exists()])
    }
    assert broken == {}


def test_the_version_is_the_same_for_flower_and_for_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == cdc_flower.__version__


def test_constraints_pin_public_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert not [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)]


def test_the_oldest_flower_that_is_allowed_is_tested_and_the_pinned_one_is_allowed() -> None:
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


@pytest.mark.parametrize("name", measures().BARS)
def test_the_structure_holds_the_bar_of_each_of_its_numbers(name: str) -> None:
    numbers, places = structure()
    bar = measures().BARS[name]

    assert numbers[name] <= bar, places.get(name.removeprefix("percent_"))


def test_the_structure_is_measured_by_the_same_order_of_rooms() -> None:
    assert measures().ROOMS == ROOMS
    assert measures().DOORS == DOORS


CROOKED = '''"""A file."""
from typing import Any
from cdc_flower.study import run  # upward
def wide(a, b, c, d, e, f, g, h, i):
    """What it does."""
    one, two = a, b
    c, d = d, c
    return [x for y in one for x in [z for z in y]]
@app.command("x")
def command(a, b, c):
    """Tells."""
class Thing:
    @property
    def size(self):
        """What it has."""
'''


def test_each_measure_finds_what_it_is_named_after_and_nothing_else() -> None:
    source, folder = measures().Source, "cdc_flower/core"
    sources = [
        source(f"{folder}/crooked.py", CROOKED + "#" * 101 + "\n"),
        source(f"{folder}/long.py", "def long():\n" + "    pass\n" * 60),
        source(f"{folder}/left.py", "def late():\n    from cdc_flower.core.right import b\n"),
        source(f"{folder}/right.py", "from cdc_flower.core import left\n"),
        source("cdc_flower/study/run.py", "from cdc_flower.core import left\n"),
        source("cdc_flower/stray.py", "x = 1\n"),
    ]
    crooked = f"{folder}/crooked.py"

    assert measures().places_of(sources) == {
        "root_modules": ["cdc_flower/stray.py"],
        "rooms": ["core", "stray", "study"],
        "upward_arrows": ["cdc_flower.core.crooked -> cdc_flower.study.run"],
        "circles": ["cdc_flower.core.left <-> cdc_flower.core.right"],
        "wide_lines": [f"{crooked}:16 101 columns"],
        "any": [f"{crooked}:2"],
        "long_functions": [f"{folder}/long.py:1 long"],
        "wide_functions": [f"{crooked}:4 wide"],
        "functions_without_args": [f"{crooked}:4 wide"],
        "noun_docstrings": [f"{crooked}:4 wide"],
        "tuple_assignments": [f"{crooked}:6"],
        "nested_comprehensions": [f"{crooked}:8"],
        "comment_lines": [f"{crooked}:3", f"{crooked}:16"],
    }
