"""A configuration's values are checked as a whole, and each mistake is one sentence."""

import copy
from typing import Any

import pytest
from run_cases import config_of

import cdc_flower.configs  # noqa: F401  (lets Hydra find the files of methods)
from cdc_flower.core.errors import UserError
from cdc_flower.study.check import checked_config, result_values

#: Overrides -> how the sentence starts, which has the place and the rule.
WRONG = {
    "strategies=[static] strategy.duet.rate=abc": (
        "strategy.duet.rate must be a number >= 0 and finite, got abc"
    ),
    "strategies=[static] strategy.duet=3": "strategy.duet must be ",
    "report=maybe": "report must be true or false, got maybe",
    "seed=true": "seed must be a whole number >= 0, got true",
    "num_segments=0": "num_segments must be a whole number >= 1, got 0",
    "+foo=1": "configuration: unknown key 'foo'",
    "network.rate_up_bps=abc": "network.rate_up_bps must be a number > 0, got abc",
    "network=lte network.rate_up_bps=0": "network.rate_up_bps must be a number > 0, got 0",
    "+network.rate_up=5": "network: unknown key 'rate_up'; did you mean 'rate_up_bps'?",
    "policy=random policy.rate=abc": "policy.rate must be a number in [0, 1], got abc",
    "policy=random policy.rate=1.5": "policy.rate must be a number in [0, 1], got 1.5",
    "policy=every policy.n=0": "policy.n must be a whole number >= 1, got 0",
    "policy=on_drift policy.threshold=abc": "policy.threshold must be a number >= 0, got abc",
    "policy=uncertainty policy.epochs=-1": "policy.epochs must be a whole number >= 0, got -1",
    "policy.name=sometimes": "policy.name: unknown policy 'sometimes'",
    "+policy.rate=0.5": "policy: unknown key 'rate'",
    "model=video_tiny task=recommendation": (
        "model must be one that reads items with task=recommendation"
    ),
    "+model._target_=x.Y": "model._target_: there is no module x in ",
    "+model.num_heads=4": "model: unknown key 'num_heads'",
    "data.num_items=abc": "data.num_items must be a whole number >= 2, got abc",
    "cloud.epochs=abc": "cloud.epochs must be a whole number >= 0, got abc",
    "cloud.adaptation=1": "cloud.adaptation must be a mapping, got 1",
    "+cloud.adaptation.foo=1": "cloud.adaptation: unknown key 'foo'",
    "grid.num_workers=0": "grid.num_workers must be a whole number >= 1, got 0",
    "+conditions.los=1": "conditions: unknown key 'los'; did you mean 'loss'?",
    "conditions.loss=2": "conditions.loss must be a number in [0, 1",
    "+fleet.speed=5": "fleet: unknown key 'speed'",
    "fleet.num_devices=0": "fleet.num_devices must be a whole number >= 1 or null, got 0",
    "protocol.top_k_share=2": "protocol.top_k_share must be a number ",
    "plugins=[no_such_module]": "plugins: there is no module no_such_module in ",
    "references=[most]": "references: unknown reference 'most'",
}


@pytest.mark.parametrize("overrides", WRONG)
def test_a_wrong_value_is_one_sentence_with_its_place_and_rule(overrides: str) -> None:
    config = config_of(*overrides.split())
    with pytest.raises(UserError) as refused:
        checked_config(config)
    text = str(refused.value)
    assert text.startswith(WRONG[overrides])
    assert "\n" not in text


def test_what_a_task_cannot_do_is_refused() -> None:
    overrides = ["task=video_qa", "strategies=[static]", "cloud.validation=last"]
    with pytest.raises(UserError, match=r"^cloud\.validation must be devices with task=video_qa"):
        checked_config(config_of(*overrides, small=["fleet.num_devices=4"]))


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return config_of()


@pytest.mark.parametrize(
    "group",
    [
        "cloud",
        "conditions",
        "data",
        "fleet",
        "grid",
        "metrics",
        "model",
        "network",
        "policy",
        "protocol",
        "quarantine",
    ],
)
def test_a_group_that_was_taken_away_is_told_by_name(config: dict[str, Any], group: str) -> None:
    with pytest.raises(UserError, match=rf"^{group}( must be |\.name|: )[^\n]*$"):
        checked_config({**config, group: None})


def test_what_is_checked_keeps_its_values_in_the_types_of_their_options(
    config: dict[str, Any],
) -> None:
    given = copy.deepcopy(config)
    given["network"]["rtt_s"] = 1
    checked = checked_config(given)
    assert checked["network"]["rtt_s"] == 1.0 and isinstance(checked["network"]["rtt_s"], float)
    assert isinstance(checked["strategies"], tuple)
    assert list(checked["strategies"]) == config["strategies"]
    assert checked.keys() == config.keys()
    assert given["network"]["rtt_s"] == 1  # what was given is left as it is


def test_an_arm_is_checked_by_the_options_of_its_method(config: dict[str, Any]) -> None:
    given = copy.deepcopy(config)
    given["strategy"]["slow_duet"] = {"method": "duet", "rate": 1}
    assert checked_config(given)["strategy"]["slow_duet"] == {"method": "duet", "rate": 1.0}
    given["strategy"]["slow_duet"]["rat"] = 1
    with pytest.raises(UserError, match=r"^strategy\.slow_duet: unknown key 'rat'"):
        checked_config(given)


def test_results_depend_on_all_but_where_and_how_a_run_is_played(config: dict[str, Any]) -> None:
    how = {"out", "grid", "cache", "also", "report", "resume", "checkpoint"}
    assert config.keys() - result_values(config).keys() == how
    assert result_values({"command": "cdc-flower", "seed": 1, "of_ones_own": 2}) == {
        "seed": 1,
        "of_ones_own": 2,
    }
