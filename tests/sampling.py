"""Cases of an exhaustive test of which `make test` plays a sample, and `make long` all."""

import random
from collections.abc import Sequence
from typing import Any

import pytest


def a_sample(cases: Sequence[tuple[Any, ...]], count: int, seed: int = 0) -> list[Any]:
    """Marks all but a sample of cases as ``long``, and the sample as ``slow``.

    Of several arguments each value is in the sample: cases with one that is not yet there are
    taken first, in an order that is drawn.

    Args:
        cases: Arguments of a test, of each case as many.
        count: Size of the sample, if its values are not more.
        seed: Of the order.
    """
    order = random.Random(seed).sample(range(len(cases)), len(cases))
    new: list[int] = []
    seen: set[tuple[int, Any]] = set()
    for number in order:
        values = {*enumerate(cases[number])} if len(cases[number]) > 1 else set()
        if not values <= seen:
            new.append(number)
            seen |= values
    rest = [number for number in order if number not in new]
    chosen = {*new, *rest[: max(0, count - len(new))]}
    return [
        pytest.param(*case, marks=pytest.mark.slow if number in chosen else pytest.mark.long)
        for number, case in enumerate(cases)
    ]
