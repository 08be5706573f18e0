"""Check that one field gives check, defaults, rows of a table, and what training depends on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import (
    check_options,
    checked_values,
    defaults_of,
    option,
    option_rows,
    options_of,
    training_values,
)


@dataclass
class Knobs:
    """Options of a method."""

    rate: float = option(1e-3, least=0, neutral=0, doc="learning rate; 0 changes nothing")
    epochs: int = option(20, least=0)
    share: float = option(0.5, above=0, most=1)
    fraction: float = option(0.5, above=0, below=1)
    layers: str = option("head", choices=("head", "all"))
    rank: int | None = option(None, least=1)
    joint: bool = option(True)
    names: tuple[str, ...] = option((), changes_training=False)
    sizes: Mapping[str, int] = option(default_factory=dict)
    offset: float = option(0.0)

    def __post_init__(self) -> None:
        check_options(self)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": -1}, r"^rate must be a number >= 0, got -1$"),
        ({"rate": math.nan}, r"^rate must be a number >= 0, got nan$"),
        ({"rate": "abc"}, r"^rate must be a number >= 0, got abc$"),
        ({"rate": True}, r"^rate must be a number >= 0, got true$"),
        ({"rate": None}, r"^rate must be a number >= 0, got null$"),
        ({"epochs": 1.5}, r"^epochs must be a whole number >= 0, got 1\.5$"),
        ({"epochs": 2**31}, r"^epochs must be <= 2147483647, got 2147483648$"),
        ({"share": 0}, r"^share must be a number in \(0, 1\], got 0$"),
        ({"fraction": 1}, r"^fraction must be a number in \(0, 1\), got 1$"),
        ({"layers": "heads"}, r"^layers must be one of head, all, got heads; did you mean head\?$"),
        ({"rank": 0}, r"^rank must be a whole number >= 1 or null, got 0$"),
        ({"joint": "maybe"}, r"^joint must be true or false, got maybe$"),
        ({"names": "abc"}, r"^names must be a list of texts, got abc$"),
        ({"names": ["a", 1]}, r"^names must be a list of texts, got \[a, 1\]$"),
        ({"offset": math.nan}, r"^offset must be a number, got nan$"),
        ({"epochs": True}, r"^epochs must be a whole number >= 0, got true$"),
        ({"sizes": 3}, r"^sizes must be a mapping, got 3$"),
    ],
)
def test_a_value_out_of_its_range_is_refused_with_the_rule(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Knobs(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [("rate", 0), ("epochs", 0), ("share", 1), ("rank", 1), ("epochs", 2**31 - 1)],
)
def test_a_closed_end_is_in_the_range(name: str, value: int) -> None:
    assert getattr(Knobs(**{name: value}), name) == value  # type: ignore[arg-type]


def test_values_come_in_the_types_of_their_options() -> None:
    knobs = Knobs(rate=1, names=["a"], rank=3)  # type: ignore[arg-type]
    assert (type(knobs.rate), knobs.names, knobs.rank) == (float, ("a",), 3)


@given(st.floats(allow_nan=False))
def test_a_half_open_range_holds_its_closed_end_only(value: float) -> None:
    if 0 < value <= 1:
        assert Knobs(share=value).share == value
    else:
        with pytest.raises(ValueError, match="share"):
            Knobs(share=value)


def test_a_key_that_is_none_is_refused_with_the_nearest_one_and_the_place() -> None:
    with pytest.raises(UserError, match=r"strategy\.x: unknown key 'epoch'; did you mean 'epochs'"):
        checked_values(options_of(Knobs), {"epoch": 3}, "strategy.x")
    with pytest.raises(UserError, match=r"^strategy\.x\.rate must be a number >= 0, got -1$"):
        checked_values(options_of(Knobs), {"rate": -1}, "strategy.x")
    assert checked_values(options_of(Knobs), {"rate": 1}, "x") == {"rate": 1.0}


def test_defaults_and_rows_follow_from_the_fields() -> None:
    options = options_of(Knobs)
    assert defaults_of(options)["names"] == []
    assert list(defaults_of(options)) == list(Knobs.__dataclass_fields__)
    rows = option_rows(options)
    assert rows[0] == ("rate", "0.001", "a number >= 0", "learning rate; 0 changes nothing")
    assert rows[5][:3] == ("rank", "null", "a whole number >= 1 or null")


def test_what_changes_no_training_is_in_no_checkpoint_key() -> None:
    values = training_values(Knobs())
    assert "names" not in values
    assert values["rate"] == 1e-3


class Plain:
    """A class of a user's own, whose constructor says what it takes."""

    def __init__(self, rate: float, steps: int = 3, *, mode: str | None = None) -> None:
        self.rate, self.steps, self.mode = rate, steps, mode


def test_a_plain_constructor_s_arguments_are_options() -> None:
    options = options_of(Plain)
    assert list(options) == ["rate", "steps", "mode"]
    assert defaults_of(options) == {"rate": "???", "steps": 3, "mode": None}
    with pytest.raises(UserError, match=r"^strategy\.mine\.rate must be given: a number$"):
        checked_values(options, {}, "strategy.mine")
    with pytest.raises(UserError, match=r"strategy\.mine\.steps must be a whole number, got 1\.5"):
        checked_values(options, {"rate": 1, "steps": 1.5}, "strategy.mine")


def test_a_class_without_a_constructor_has_no_options() -> None:
    class Nothing:
        """Takes nothing."""

    assert options_of(Nothing) == {}
