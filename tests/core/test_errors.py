"""Errors that tell a user the rule, the value and the place in one line."""

from typing import Any

import pytest

from cdc_flower.core.errors import UserError, unknown_name


def test_an_unknown_name_is_answered_with_the_nearest_one() -> None:
    error = unknown_name("strategy", "fedagv", ["static", "fedavg", "duet"], "strategies")
    assert isinstance(error, UserError)
    assert str(error) == (
        "strategies: unknown strategy 'fedagv'; did you mean 'fedavg'? "
        "(known: duet, fedavg, static)"
    )


def test_there_is_no_guess_where_nothing_is_near() -> None:
    assert (
        str(unknown_name("model", "xyz", ["din"], "model.name"))
        == "model.name: unknown model 'xyz' (known: din)"
    )


@pytest.mark.parametrize("name", ["", "a\nb", "né"])
def test_odd_names_stay_on_one_line(name: str) -> None:
    assert "\n" not in str(unknown_name("model", name, ["din"], "model.name"))


def test_a_number_as_a_name_is_told_too() -> None:
    name: Any = 3
    assert "unknown model 3" in str(unknown_name("model", name, ["din"], "model.name"))
