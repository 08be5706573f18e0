"""Imports what a configuration names by its path: ``_target_: my_module.Nudge``, and plug-ins.

The current folder counts among those that Python imports from, as it does for ``python -m``.
"""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from cdc_flower.core.errors import UserError, nearest_name, unknown_name

#: Key of the path of a class or function that a node configures.
TARGET = "_target_"


@dataclass(frozen=True)
class Shape:
    """Says which classes or functions a registry takes.

    Attributes:
        words: After "must be", such as ``a class that derives from Policy``.
        fits: Whether a class or function is one.
    """

    words: str
    fits: Callable[[object], bool]


def derived_from(base: type, *, or_a_function: bool = False) -> Shape:
    """Takes classes that derive from a base.

    Args:
        base: Of the classes.
        or_a_function: Whether a function that makes an instance will do too.
    """
    words = f"a class that derives from {base.__name__}"

    def fits(value: object) -> bool:
        return (isinstance(value, type) and issubclass(value, base)) or (
            or_a_function and inspect.isroutine(value)
        )

    return Shape(f"{words}, or a function that makes one" if or_a_function else words, fits)


def having(method: str) -> Shape:
    """Takes classes that have a method."""
    return Shape(
        f"a class with a method {method}",
        lambda value: isinstance(value, type) and callable(getattr(value, method, None)),
    )


def check_shape(value: object, shape: Shape | None, place: str, shown: str) -> None:
    """Refuses a class or function that is of another kind, or that leaves methods open.

    Args:
        value: To be checked.
        shape: That is due; None takes anything.
        place: The key that named it.
        shown: Its name in messages.

    Raises:
        UserError: If it is.
    """
    if shape is not None and not shape.fits(value):
        raise UserError(f"{place} must be {shape.words}, got {shown}")
    if isinstance(value, type) and inspect.isabstract(value):
        missing = ", ".join(sorted(getattr(value, "__abstractmethods__", ())))
        raise UserError(f"{place}: {shown} must define {missing}")


def import_target(path: object, place: str) -> object:
    """Imports the class or function of a path such as ``my_module.Nudge``.

    Args:
        path: As configured.
        place: The key that gave it.

    Raises:
        UserError: If there is none.
    """
    module, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    if not module or not all(part.isidentifier() for part in [*module.split("."), name]):
        raise UserError(f"{place} must be MODULE.NAME, such as my_module.Mine, got {path}")
    found = import_plugin(module, place)
    if not hasattr(found, name):
        own = (
            list(getattr(found, "__all__", ()))
            or [  # a package lists what it imports
                each
                for each, value in vars(found).items()
                if getattr(value, "__module__", None) == found.__name__ and each[:1] != "_"
            ]
        )
        raise unknown_name(f"name of {module}", name, own, place)
    return getattr(found, name)


def import_plugin(name: object, place: str) -> ModuleType:
    """Imports a module of the user's own, from the current folder too.

    Args:
        name: Dotted.
        place: The key that gave it.

    Raises:
        UserError: If there is no such module, or it cannot be imported.
    """
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise UserError(f"{place} must name modules, such as my_module, got {name}")
    add_current_folder()
    importlib.invalidate_caches()  # a file may be younger than the look into its folder
    try:
        return importlib.import_module(name)
    except UserError:
        raise
    except Exception as error:  # a module of the user's may fail in any way
        parts = name.split(".")
        is_missing = isinstance(error, ModuleNotFoundError) and error.name in {
            ".".join(parts[: count + 1]) for count in range(len(parts))
        }
        if is_missing:
            raise _missing(name, place) from error
        raise UserError(
            f"{place}: {name} must be importable, got {type(error).__name__}: {_said(error)}"
        ) from error


def add_current_folder() -> None:
    """Lets Python import from the current folder; a console script's Python does not."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _missing(name: str, place: str) -> UserError:
    """Makes the error for a module that is nowhere, with the nearest one of the current folder."""
    here = [path.stem for path in Path.cwd().glob("*.py")]
    here += [path.parent.name for path in Path.cwd().glob("*/__init__.py")]
    near = nearest_name(name, here)
    hint = f"; did you mean {near}?" if near and near != name else ""
    return UserError(
        f"{place}: there is no module {name} in {Path.cwd()}, nor among the installed ones{hint}"
    )


def _said(error: Exception) -> str:
    """Says an error in one line, with the line of the file where it was raised."""
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        return text  # it has file and line
    frames = traceback.extract_tb(error.__traceback__)
    last = next((frame for frame in reversed(frames) if "importlib" not in frame.filename), None)
    return f"{text} ({last.filename}:{last.lineno})" if last else text
