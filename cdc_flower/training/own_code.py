"""Hashes code of a user's own that training depends on, so that a changed module trains anew.

It is the module of a class, those of the classes that it derives from, and all that these import
from the same folder, or from the same package where they are installed. Code of this package is
hashed by itself; see :mod:`cdc_flower.training.checkpoints`.
"""

import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

from cdc_flower.training.training_code import files_of_name, imported_names

#: Packages that are known by their versions, and this one.
_LEFT_OUT = {"cdc_flower", "flwr", "numpy", "pandas", "torch"}
#: Folders of installed packages, in which every package has files of its own.
_INSTALLED = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
_STANDARD = Path(sysconfig.get_path("stdlib"))
#: Name and content.
Part = tuple[str, bytes]


def own_code(*values: object) -> str:
    """Hashes the code of classes and functions that is not this package's; "" if there is none."""
    parts = {part for value in values for part in _parts_of(value)}
    digest = hashlib.sha256()
    for part in sorted(parts):
        for piece in (part[0].encode(), part[1]):
            digest.update(f"{len(piece)};".encode() + piece)
    return digest.hexdigest()[:20] if parts else ""


def _parts_of(value: object) -> Iterator[Part]:
    """Lists the code of a class with that of its bases, or of a function."""
    head = _head(str(getattr(value, "__module__", "")))
    for kind in inspect.getmro(value) if isinstance(value, type) else (value,):
        name = str(getattr(kind, "__module__", ""))
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is None:
            yield from _typed(kind)  # such as into a notebook, or built in
        elif file.endswith(".py") and _head(name) not in _LEFT_OUT:
            path = Path(file)
            folder = path.parents[name.count(".") + (path.name == "__init__.py")]
            if folder not in _INSTALLED | {_STANDARD} or _head(name) == head:
                yield from _files_of(name, path, folder)


def _files_of(name: str, path: Path, folder: Path) -> Iterator[Part]:
    """Lists the files that a module consists of, by their names below a folder.

    Args:
        name: Of the module.
        path: Of its file.
        folder: From which it is imported.
    """
    found: set[Path] = set()
    waiting = {path, *files_of_name(name, folder)}
    while waiting:
        path = waiting.pop()
        found.add(path)
        for imported in imported_names(path):
            is_own = folder not in _INSTALLED or _head(imported) == _head(name)
            if is_own and _head(imported) not in _LEFT_OUT:
                waiting |= files_of_name(imported, folder) - found
    for path in found:
        yield path.relative_to(folder).as_posix(), path.read_bytes()


def _typed(kind: object) -> Iterator[Part]:
    """Lists the byte code of functions that have no file."""
    functions = vars(kind).values() if isinstance(kind, type) else (kind,)
    for function in functions:
        code = getattr(inspect.unwrap(function) if callable(function) else None, "__code__", None)
        if code is not None:
            yield code.co_qualname, _bytes_of(code)


def _bytes_of(code: CodeType) -> bytes:
    """Writes byte code with its names and constants, and the functions inside it likewise."""
    inner = [_bytes_of(each) for each in code.co_consts if isinstance(each, CodeType)]
    plain = [each for each in code.co_consts if not isinstance(each, CodeType)]
    return b";".join([code.co_code, repr((plain, code.co_names)).encode(), *inner])


def _head(name: str) -> str:
    return name.partition(".")[0]
