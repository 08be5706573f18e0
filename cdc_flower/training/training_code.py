"""Finds the code of this package that training depends on, so that other code may change freely.

It is the closure of imports from where training begins, as the sources say, not as they happen to
be loaded. So a function's own imports count, and the hash is the same in every process.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from itertools import chain
from pathlib import Path

#: Where training begins: what makes models, strategies and data from a configuration and trains
#: them. Of a folder every file counts, for what is found there by its name is imported by nobody.
ROOTS = ("models", "tasks", "training", "strategies", "study/cloud.py")


@cache
def training_files(package: Path) -> tuple[Path, ...]:
    """Lists the files that training depends on, sorted.

    The package's own ``__init__.py`` is not among them and not followed: it names what is public,
    the report too.

    Args:
        package: The folder of ``cdc_flower``.

    Raises:
        FileNotFoundError: If one of ``ROOTS`` is not there.
    """
    found: set[Path] = set()
    waiting = list(chain.from_iterable(_files_of(package / root) for root in ROOTS))
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(path, package)
    return tuple(sorted(found))


def hash_of(paths: Iterable[Path], package: Path) -> str:
    """Hashes these files' names below the package and what is in them."""
    digest = hashlib.sha256()
    for path in paths:
        for part in (path.relative_to(package).as_posix().encode(), path.read_bytes()):
            digest.update(f"{len(part)};".encode() + part)
    return digest.hexdigest()


def _files_of(root: Path) -> list[Path]:
    """Lists the file, or every Python file of the folder."""
    if not root.exists():
        raise FileNotFoundError(
            f"ROOTS must name files and folders of the package, and {root} is not there"
        )
    return sorted(root.rglob("*.py")) if root.is_dir() else [root]


def imported_names(path: Path) -> set[str]:
    """Lists the dotted names that a file imports; ``from a.b import c`` is ``a.b.c``."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files_of_name(name: str, folder: Path) -> set[Path]:
    """Lists the files in a folder that an import of a dotted name would read.

    The ``__init__.py`` of the folders they lie in are among them.
    """
    parts = name.split(".")
    # The last part may be a class: then there is no such file.
    places = [folder.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    found = {file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")}
    return {file for file in found if file.is_file()}


def _imported(path: Path, package: Path) -> list[Path]:
    """Lists the files of the package that a file imports, without the package's own first one."""
    names = {name for name in imported_names(path) if name.split(".")[0] == package.name}
    found = {file for name in names for file in files_of_name(name, package.parent)}
    return sorted(found - {package / "__init__.py"})
