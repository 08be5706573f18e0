"""What holds for every option of every strategy that is registered."""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf
from tiny import SETTINGS, cloud, strategy, table
from torch import Tensor
from video_tiny import VIDEO_SETTINGS, video_cloud, video_stream

from cdc_flower.configs.methods import method_files
from cdc_flower.core.errors import UserError
from cdc_flower.core.options import Option, defaults_of, option_rows, options_of
from cdc_flower.strategies.base import Cloud
from cdc_flower.strategies.registry import build_strategy, looks, strategies
from cdc_flower.study.cards import cards
from cdc_flower.training.checkpoints import Checkpoints, fingerprint

pytestmark = pytest.mark.slow  # plays whole runs

OPTIONS = [
    (entry.name, option)
    for entry in strategies.entries()
    for option in options_of(entry.value).values()
]
every_strategy = pytest.mark.parametrize("name", strategies)
every_option = pytest.mark.parametrize(
    ("name", "option"), OPTIONS, ids=[f"{name}.{option.name}" for name, option in OPTIONS]
)


def wrong_values(option: Option) -> Iterator[Any]:
    """Values of another type, and beyond each end of the range."""
    rule = option.rule
    if option.kind is bool:
        yield from (1, "no")
    elif rule.choices:
        yield from ("none_of_them", 1)
    else:
        yield from ("abc", True, float("nan"))
        yield from (least - 1 for least in (rule.least,) if least is not None)
        yield from (most + 1 for most in (rule.most,) if most is not None)
        yield from (bound for bound in (rule.above, rule.below) if bound is not None)
        if option.kind in (int, int | None):
            yield (rule.least or 0) + 0.5


def other_values(option: Option, value: Any) -> list[Any]:
    """Some other values that the option may have."""
    if option.kind is bool:
        return [not value]
    if option.rule.choices:
        return [choice for choice in option.rule.choices if choice != value]
    return [(value or 0) + 2, value * 2 + 1] if value and value > 1 else [(value or 0.5) / 2, 1, 2]


def fitting(option: Option, value: Any) -> list[Any]:
    """Those of :func:`other_values` that are in the option's range."""
    fit = []
    for other in other_values(option, value):
        whole = int(other) if option.kind in (int, int | None) else other
        try:
            fit.append(option.check(whole, option.name))
        except ValueError:
            continue
    return [each for each in fit if each != value]


def settings_of(name: str) -> dict[str, Any]:
    """Small settings, with each option's default where they leave it open."""
    kind = strategies[name].value
    small = SETTINGS[name] if name in SETTINGS else VIDEO_SETTINGS[name]
    return {**defaults_of(options_of(kind)), **small}


def pair_of_settings(name: str, option: Option) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two valid settings that differ in the option alone; others may have to make room for it."""
    start = settings_of(name)
    others = [each for each in options_of(strategies[name].value).values() if each != option]
    changes = [(each.name, value) for each in others for value in fitting(each, start[each.name])]
    changes += [(each.name, each.rule.neutral) for each in others if each.rule.neutral is not None]
    for value in fitting(option, start[option.name]):
        for count in range(3):
            for some in itertools.combinations(changes, count):
                before = {**start, **dict(some)}
                after = {**before, option.name: value}
                try:
                    build_strategy(name, before)
                    build_strategy(name, after)
                except UserError:
                    continue
                return before, after
    raise AssertionError(f"{name}.{option.name} has one value alone")


class Keys(Checkpoints):
    """Takes down what trainings depend on, and trains nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def trained(
        self,
        key: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        train: Callable[..., list[float]],
    ) -> list[float]:
        self.found.add(fingerprint(key))
        return [0.0]


def keys_of(name: str, settings: dict[str, Any]) -> set[str]:
    """The keys of everything that is trained with these settings."""
    given: Cloud = cloud() if name in SETTINGS else video_cloud(video_stream())
    keys = Keys()
    build_strategy(name, settings).prepare(replace(given, identity="base", checkpoints=keys))
    return keys.found


@every_option
def test_a_value_out_of_its_range_is_refused_with_its_key_its_rule_and_itself(
    name: str, option: Option
) -> None:
    place = re.escape(f"strategy.{name}.{option.name} must be {option.words()}, got ")
    for value in wrong_values(option):
        with pytest.raises(UserError, match=f"^{place}"):
            build_strategy(name, {option.name: value})


@every_option
def test_trained_parameters_are_kept_under_another_key_where_an_option_changes_them(
    name: str, option: Option
) -> None:
    before, after = pair_of_settings(name, option)
    is_the_same = keys_of(name, before) == keys_of(name, after)
    assert is_the_same != option.rule.changes_training


@every_option
def test_a_neutral_value_is_taken_and_said(name: str, option: Option) -> None:
    neutral = option.rule.neutral
    assert option.rule.doc
    if neutral is not None:
        build_strategy(name, {**settings_of(name), option.name: neutral})
        assert re.search(rf"\b{str(neutral).lower()}:? ", option.rule.doc), option.rule.doc


@pytest.mark.parametrize(
    ("name", "option"),
    [
        pytest.param(name, option, id=f"{name}.{option.name}")
        for name, option in OPTIONS
        if name in SETTINGS and f"{option.rule.neutral} is static" in option.rule.doc
    ],
)
def test_where_an_option_says_that_a_value_is_static_it_predicts_as_static_does(
    name: str, option: Option
) -> None:
    rows = table(name, built=strategy(name, **{option.name: option.rule.neutral}))
    np.testing.assert_allclose(rows.value_sum, table("static").value_sum, rtol=1e-5, atol=1e-6)


@every_strategy
def test_its_yaml_has_each_option_with_its_default_and_no_other(name: str) -> None:
    own = yaml.safe_load(method_files()[name].read_text(encoding="utf-8"))
    root = OmegaConf.create({"own": own, "data": {}})
    found = OmegaConf.to_container(root, resolve=True)["own"]  # data that suggest nothing
    assert found == defaults_of(options_of(strategies[name].value))
    assert (
        method_files()[name].read_text(encoding="utf-8").startswith(f"# @package strategy.{name}\n")
    )


def test_there_is_a_yaml_of_each_strategy_and_no_other() -> None:
    assert list(method_files()) == list(strategies)


def test_cards_say_of_options_what_methods_declare() -> None:
    for path, text in cards().items():
        hint = "python -m cdc_flower.study.cards --write"
        assert path.read_text(encoding="utf-8") == text, f"{path.parent.name}/{path.name}: {hint}"


@every_strategy
def test_its_card_has_a_row_for_each_option_and_cites_its_paper(name: str) -> None:
    entry = strategies[name]
    card = method_files()[name].with_name("README.md").read_text(encoding="utf-8")
    for key, _, words, doc in option_rows(options_of(entry.value)):
        assert f"| `{key}` |" in card and words in card and doc in card
    assert entry.facts.paper is None or entry.facts.paper.arxiv in card


def test_no_two_strategies_share_a_color() -> None:
    colors = [look.color for look in looks().values() if look.color]
    assert len(set(colors)) == len(colors)
    assert all(re.fullmatch("#[0-9A-Fa-f]{6}", color) for color in colors)
