"""Samples of exhaustive tests have each value of each argument, and leave no case out for good."""

from itertools import product

import pytest
from sampling import a_sample

CASES = [*product(range(6), "abcd", (False, True))]


@pytest.mark.parametrize("seed", range(5))
def test_a_sample_has_each_value_of_each_argument(seed: int) -> None:
    params = a_sample(CASES, 8, seed)
    marked = {param.values: [mark.name for mark in param.marks] for param in params}
    chosen = [case for case, names in marked.items() if names == ["slow"]]

    assert [*marked] == CASES  # the others are long
    assert {*map(tuple, marked.values())} == {("slow",), ("long",)}
    assert 8 <= len(chosen) <= 12
    assert [len({*values}) for values in zip(*chosen, strict=True)] == [6, 4, 2]


def test_of_one_argument_some_values_are_drawn() -> None:
    marks = [param.marks[0].name for param in a_sample([(seed,) for seed in range(20)], 4)]
    assert (marks.count("slow"), marks.count("long")) == (4, 16)
