"""Mistakes that a user can make, told in one line: the rule, the value, and where it came from."""

import difflib
import re
from collections.abc import Iterable

#: Names of the user's own that files are named after.
_NAME, LONGEST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*"), 64
_SHOWN = 24  # characters of a name that is too long


class UserError(Exception):
    """A mistake in the input. The command line prints its text without a traceback and exits with 2."""


def nearest_name(name: str, known: Iterable[str], cutoff: float = 0.4) -> str | None:
    """The known name that is nearest to a name, or None if none is near.

    Args:
        name: The name that was given.
        known: The names that exist.
        cutoff: The least similarity, from 0 (any) to 1 (the same).
    """
    nearest = difflib.get_close_matches(str(name), sorted(known), n=1, cutoff=cutoff)
    return nearest[0] if nearest else None


def unknown_name(kind: str, name: str, known: Iterable[str], where: str) -> UserError:
    """The error for a name that is not registered, with the nearest name that is.

    Args:
        kind: What the name stands for, such as ``"strategy"``.
        name: The name that was given.
        known: The names that exist.
        where: The config key or file that gave the name.
    """
    names = sorted(known)
    nearest = nearest_name(name, names)
    hint = f"; did you mean {nearest!r}?" if nearest else ""
    return UserError(f"{where}: unknown {kind} {name!r}{hint} (known: {', '.join(names)})")


def check_name(name: object, where: str) -> None:
    """Refuse a name that is no good name of a file on every system; ``@`` is kept for controls.

    Raises:
        UserError: If it is not text, empty, too long, or has another character.
    """
    if isinstance(name, str) and _NAME.fullmatch(name) and len(name) <= LONGEST_NAME:
        return
    got = repr(name)
    if isinstance(name, str) and len(name) > LONGEST_NAME:
        got = f"{name[:_SHOWN]!r}... of {len(name)} characters"
    rule = "letters, digits, '_', '-' and '.', the first a letter or a digit"
    raise UserError(f"{where}: a name must be 1 to {LONGEST_NAME} {rule}, got {got}")
