"""Mistakes that a user can make, told in one line: the rule, the value, and where it came from."""

import difflib
from collections.abc import Iterable


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
