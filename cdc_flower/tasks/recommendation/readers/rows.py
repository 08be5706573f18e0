"""Rows of a text file: their lines, and the rules that they keep or break."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cdc_flower.core.errors import UserError

_SHOWN = 80


@dataclass(frozen=True)
class Ids:
    """Holds ids as numbers of names.

    Attributes:
        codes: ``[M]``, places among the names.
        names: Stripped and not empty; two may be equal.
    """

    codes: NDArray[np.int64]
    names: list[str]

    def __len__(self) -> int:
        return len(self.codes)


#: Ids of rows as texts, as whole numbers, or as numbers of names.
RawIds = Sequence[str] | NDArray[np.object_] | NDArray[np.int64] | Ids


@dataclass(frozen=True)
class Rows:
    """Holds ``M`` interactions as a file has them.

    Attributes:
        users: Raw ids.
        items: Raw ids.
        times_s: ``[M]``, seconds, or another unit that the data tell by their size; None where the
            order of the rows is all that is known.
        num_skipped: Malformed rows that were left out.
        is_dated: Whether times were dates, so that their unit is known.
        num_unwanted: Rows that were left out because they are of another kind.
        notes: What there is to say of them, without a full stop.
    """

    users: RawIds
    items: RawIds
    times_s: NDArray[np.float64] | NDArray[np.int64] | None
    num_skipped: int
    is_dated: bool = False
    num_unwanted: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """One rule for rows: where it holds, its words, and the value to show where it does not."""

    holds: NDArray[np.bool_]  # [R]
    rule: str
    got: Callable[[int], str]


def shown(value: object) -> str:
    """A value in quotes on one line, cut to a length that fits there."""
    text = value if isinstance(value, str) else str(value)
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def good_rows(
    source: str, line_of: Callable[[int], int], checks: Sequence[Check], skip_errors: bool
) -> NDArray[np.bool_]:
    """``[R]``: which rows keep every rule.

    Args:
        source: The path, for the error.
        line_of: The line of a row, counted from 1.
        checks: The rules, each over all ``R`` rows; the first that a row breaks is the one told.
        skip_errors: Whether to return a mask with holes. False raises for the first malformed row.

    Raises:
        UserError: If a row breaks a rule and ``skip_errors`` is false.
    """
    good: NDArray[np.bool_] = np.logical_and.reduce([check.holds for check in checks])
    if skip_errors or good.all():
        return good
    row = int(np.argmin(good))
    broken = next(check for check in checks if not check.holds[row])
    raise UserError(f"{source}:{line_of(row)}: {broken.rule}, got {broken.got(row)}")


def text_rows(text: str, sep: str | None) -> tuple[list[str], NDArray[np.int64]]:
    """Splits lines ``[R]`` that are not blank, and numbers them from 1 as in the file.

    A line is blank if it holds white space only, unless that is the separator: two empty fields are
    malformed.
    """
    lines = text.split("\n")
    kept = np.fromiter((bool(line) and not line.isspace() for line in lines), np.bool_, len(lines))
    if sep is not None and sep.isspace():
        for index in np.flatnonzero(~kept):
            kept[index] = sep in lines[index]
    numbers = np.flatnonzero(kept)
    return (
        lines if len(numbers) == len(lines) else [lines[index] for index in numbers]
    ), numbers + 1


def not_empty(values: Sequence[str]) -> NDArray[np.bool_]:
    """``[R]``: which strings have a character."""
    return np.fromiter(map(bool, values), np.bool_, len(values))


def is_number(text: str) -> bool:
    """Tells whether a text is a number: ASCII digits, point, sign, exponent, ``nan`` or ``inf``."""
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text


def to_numbers(texts: Sequence[str]) -> NDArray[np.float64]:
    """``[R]`` numbers, NaN where a text is none."""
    joined = "".join(texts)
    if joined.isascii() and "_" not in joined:
        try:
            return np.fromiter(map(float, texts), np.float64, len(texts))
        except ValueError:
            pass
    return np.array([float(text) if is_number(text) else np.nan for text in texts], np.float64)


def spread(values: ArrayLike, where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``[R]``: booleans put back where a mask is true; rows outside it count as right."""
    full = np.ones(len(where), np.bool_)
    full[where] = values
    return full
