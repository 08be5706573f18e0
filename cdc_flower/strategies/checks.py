"""Checks of a strategy's settings, with the rule and the value in the error."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def check_range(knobs: Mapping[str, Any], **least: float) -> None:
    """Refuse what is not a number of at least its least value.

    Raises:
        ValueError: If there is one.
    """
    for name, low in least.items():
        value = knobs[name]
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value < np.inf
        ):
            raise ValueError(f"{name} must be >= {low}, got {value!r}")


def check_choices(knobs: Mapping[str, Any], **known: tuple[str, ...]) -> None:
    """Refuse what is not one of the known values.

    Raises:
        ValueError: If there is one.
    """
    for name, values in known.items():
        if knobs[name] not in values:
            raise ValueError(f"{name} must be one of {', '.join(values)}, got {knobs[name]!r}")


def check_switches(knobs: Mapping[str, Any], *names: str) -> None:
    """Refuse what is neither true nor false.

    Raises:
        ValueError: If there is one.
    """
    for name in names:
        if not isinstance(knobs[name], bool):
            raise ValueError(f"{name} must be true or false, got {knobs[name]!r}")


def check_whole(knobs: Mapping[str, Any], **least: int) -> None:
    """Refuse what is not a whole number of at least its least value.

    Raises:
        ValueError: If there is one.
    """
    check_range(knobs, **least)
    for name in least:
        if not isinstance(knobs[name], int):
            raise ValueError(f"{name} must be a whole number, got {knobs[name]!r}")
