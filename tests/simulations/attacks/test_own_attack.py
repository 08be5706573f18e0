"""An attack and a rule of one's own, in a module that nobody lists."""

from pathlib import Path

import numpy as np
import pytest
from attack_cases import HOSTILE, UPDATES, exchange, sent_to, trained

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import argument_names
from cdc_flower.core.registry import OWN_KINDS
from cdc_flower.simulations.attacks.setup import attack_of
from cdc_flower.strategies.fedavg.rules import rules
from cdc_flower.strategies.registry import build_strategy
from cdc_flower.wire import records

TEXT = """
from dataclasses import dataclass

import numpy as np

from cdc_flower.core.options import option
from cdc_flower.simulations.attacks.updates import UpdateAttack
from cdc_flower.strategies.fedavg.rules import Rule


@dataclass(eq=False)
class Same(UpdateAttack):
    size: float = option(0.0, least=0, doc="of every number")

    def made(self, updates):
        return np.full_like(updates.own, self.size)


@dataclass(eq=False)
class First(Rule):
    def combine(self, updates, weights, last):
        return updates[0]
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_hostile_parts.py").write_text(TEXT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_hostile_parts"


def test_an_attack_is_named_by_its_path_and_has_its_own_options(module: str) -> None:
    attack = attack_of({"_target_": f"{module}.Same", "share": 0.1, "size": 7.0})
    replies = attack.attacked(exchange(trained(), sent=sent_to()))
    found = replies.arrays[records.ARRAYS]["w"] - sent_to()["w"]
    np.testing.assert_allclose(found[HOSTILE], np.full((2, 2), 7.0))
    np.testing.assert_allclose(found[~HOSTILE], UPDATES[~HOSTILE][:, :2])
    with pytest.raises(UserError, match=r"attack\.size must be a number >= 0, got -1"):
        attack_of({"_target_": f"{module}.Same", "size": -1})
    with pytest.raises(UserError, match="must be a class that derives from Attack"):
        attack_of({"_target_": f"{module}.First"})


def test_a_rule_that_is_registered_later_is_a_choice_like_the_others(module: str) -> None:
    kind = rules.of_target(f"{module}.First", "rule").value
    with pytest.raises(UserError, match="rule must be one of"):
        build_strategy("fedavg", {"rule": "first"})
    rules.register("first")(kind)
    try:
        built = build_strategy("fedavg", {"rule": "first"})
    finally:
        del rules._entries["first"]
        OWN_KINDS.discard("rules")
    assert "combines" not in argument_names(type(built))
    assert type(vars(built)["combines"]) is kind
