"""Tells mistakes that a user can make in one line: the rule, the value, and its place."""

import difflib
import re
from collections.abc import Iterable

#: Names of the user's own that files are named after.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
LONGEST_NAME = 64
_SHOWN = 24  # characters of a name that is too long

#: Keys that went, and what has taken their place.
RENAMED = {"refinement_rate": "bytes_rate, with refinement=bytes"}


class UserError(Exception):
    """Reports a mistake in the input, which the command line prints without a traceback.

    The command line then exits with 2.
    """


def nearest_name(name: str, known: Iterable[str], cutoff: float = 0.4) -> str | None:
    """Finds the known name that is nearest to a name; None if none is near.

    Args:
        name: The name that was given.
        known: The names that exist.
        cutoff: The least similarity, from 0 (any) to 1 (the same).
    """
    # A name may come from YAML, where 1 and true are no text.
    nearest = difflib.get_close_matches(str(name), sorted(known), n=1, cutoff=cutoff)
    return nearest[0] if nearest else None


def renamed(name: str, known: Iterable[str]) -> str:
    """Says what has taken the place of a key that went; "" if nothing of these names has.

    Args:
        name: The key that was given.
        known: The keys that exist.
    """
    now = RENAMED.get(str(name), "")
    return f"; it is now {now}" if now.partition(",")[0] in set(known) else ""


def unknown_name(kind: str, name: str, known: Iterable[str], where: str) -> UserError:
    """Makes the error for a name that is not registered, with the nearest name that is.

    Args:
        kind: What the name stands for, such as ``"strategy"``.
        name: The name that was given.
        known: The names that exist.
        where: The config key or file that gave the name.
    """
    names = sorted(known)
    nearest = nearest_name(name, names)
    hint = renamed(name, names) or (f"; did you mean {nearest!r}?" if nearest else "")
    return UserError(f"{where}: unknown {kind} {name!r}{hint} (known: {', '.join(names)})")


def check_name(name: object, where: str) -> None:
    """Refuses a name that cannot name a file on every system; ``@`` is for controls alone.

    Raises:
        UserError: If it is not text, empty, too long, or has another character.
    """
    if isinstance(name, str) and _NAME.fullmatch(name) and len(name) <= LONGEST_NAME:
        return
    if isinstance(name, str) and "@" in name:
        raise UserError(f"{where}: a name must have no '@', which is for controls, got {name!r}")
    got = repr(name)
    if isinstance(name, str) and len(name) > LONGEST_NAME:
        got = f"{name[:_SHOWN]!r}... of {len(name)} characters"
    rule = "letters, digits, '_', '-' and '.', the first a letter or a digit"
    raise UserError(f"{where}: a name must be 1 to {LONGEST_NAME} {rule}, got {got}")
