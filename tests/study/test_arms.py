"""Arms: several variants of one method in one run."""

from typing import Any

import pytest

from cdc_flower.core.errors import UserError
from cdc_flower.strategies.duet import Duet
from cdc_flower.strategies.fine_tuning import FineTuning
from cdc_flower.strategies.static import Static
from cdc_flower.study.arms import arm, strategies_of

CONFIGURED: dict[str, Any] = {
    "static": {},
    "fine_tuning": {"layers": "head", "steps": 5},
    "fedavg": {"steps": 2},
    "fine_tuning_all": {"method": "fine_tuning", "layers": "all"},
    "sampled": {"method": "fedavg", "num_train_devices": 3},
    "plain_duet": {"method": "duet"},
}


def test_an_arm_has_the_settings_of_its_method_and_its_own_in_their_place() -> None:
    assert arm(CONFIGURED, "fine_tuning_all") == ("fine_tuning", {"layers": "all", "steps": 5})
    assert arm(CONFIGURED, "fine_tuning") == ("fine_tuning", {"layers": "head", "steps": 5})
    assert arm({"fine_tuning_all": {"method": "fine_tuning"}}, "fine_tuning_all") == (
        "fine_tuning",
        {},
    )
    assert (
        CONFIGURED["fine_tuning_all"]["method"] == "fine_tuning"
    )  # the configuration is not changed


def test_arms_stand_beside_methods_under_their_own_names() -> None:
    names = ["static", "fine_tuning_all", "fine_tuning", "plain_duet", "sampled"]
    built = strategies_of({"strategies": names, "strategy": CONFIGURED, "seed": 3})
    assert list(built) == names
    assert [type(built[name]) for name in names[:4]] == [Static, FineTuning, FineTuning, Duet]
    assert (
        built["fine_tuning_all"].how.layers == "all" and built["fine_tuning"].how.layers == "head"
    )


@pytest.mark.parametrize(
    ("names", "changes", "text"),
    [
        (["x"], {}, "strategies: unknown strategy 'x'"),
        (
            ["x"],
            {"x": {"method": "duett"}},
            "strategy.x.method: unknown strategy 'duett'; did you mean 'duet'?",
        ),
        (
            ["x"],
            {"x": {"method": "plain_duet"}},
            "strategy.x.method: unknown strategy 'plain_duet'",
        ),
        (["x"], {"x": {"steps": 1}}, "strategies: unknown strategy 'x'"),
        (
            ["x"],
            {"x": {"method": "fine_tuning", "steps": -1}},
            "strategy.x.steps must be a whole number >= 0, got -1",
        ),
        (
            ["duet"],
            {"duet": {"method": "static"}},
            "strategy.duet.method must be left out, since duet is a method",
        ),
        (
            ["plain_duet", "plain_duet"],
            {},
            "strategies must name each strategy once, got 'plain_duet' twice",
        ),
    ],
)
def test_a_wrong_arm_is_an_error_that_names_its_key(
    names: list[str], changes: dict, text: str
) -> None:
    with pytest.raises(UserError) as caught:
        strategies_of({"strategies": names, "strategy": {**CONFIGURED, **changes}, "seed": 0})
    assert text in str(caught.value)


BAD_NAMES = [
    ("/tmp/x", "got '/tmp/x'"),
    ("../x", "got '../x'"),
    ("rho/0.5", "got 'rho/0.5'"),
    ("rho\\0.5", r"got 'rho\\0.5'"),
    ("", "got ''"),
    (".", "got '.'"),
    (".hidden", "got '.hidden'"),
    ("-x", "got '-x'"),
    ("two words", "got 'two words'"),
    ("line\n", r"got 'line\n'"),
    ("größer", "got 'größer'"),
    ("a" * 300, "got 'aaaaaaaaaaaaaaaaaaaaaaaa'... of 300 characters"),
    ("a" * 65, "got 'aaaaaaaaaaaaaaaaaaaaaaaa'... of 65 characters"),
    (0.5, "got 0.5"),
    (None, "got None"),
]


@pytest.mark.parametrize(("name", "got"), BAD_NAMES, ids=[got for _, got in BAD_NAMES])
def test_a_name_that_no_file_can_have_everywhere_is_refused_in_one_line(
    name: Any, got: str
) -> None:
    with pytest.raises(UserError) as caught:
        strategies_of({"strategies": [name], "strategy": {name: {"method": "static"}}, "seed": 0})
    rule = (
        "strategies: a name must be 1 to 64 letters, digits, '_', '-' and '.', the first a letter "
        "or a digit, "
    )
    assert str(caught.value) == rule + got


@pytest.mark.parametrize("name", ["x", "7", "rho-0.5", "A_b.c-D", "a" * 64])
def test_a_name_that_every_file_can_have_is_taken(name: str) -> None:
    assert list(
        strategies_of({"strategies": [name], "strategy": {name: {"method": "static"}}, "seed": 0})
    ) == [name]


@pytest.mark.parametrize("names", ["static", [], {}, None, 5])
def test_strategies_that_are_no_list_of_names_are_refused(names: Any) -> None:
    with pytest.raises(UserError, match="strategies must be a list of at least one name"):
        strategies_of({"strategies": names, "strategy": {}, "seed": 0})
