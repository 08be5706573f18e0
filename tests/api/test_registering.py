"""Names of a user's own."""

from dataclasses import dataclass

import pytest
from api_cases import small

import cdc_flower as cdc
from cdc_flower.strategies.registry import strategies


def test_a_registered_strategy_is_played_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {entry.name: entry for entry in strategies.entries()}
    monkeypatch.setattr(strategies, "_entries", dict(before))

    @cdc.register("strategy", "stay", color="#117733")
    @dataclass(eq=False, repr=False)
    class Stay(cdc.CloudStrategy):
        """Sends nothing."""

    found = small(["static", "stay"])

    assert found.strategies == ["static", "stay"]
    assert "stay" in cdc.list_of("strategies")
    assert strategies["stay"].value is Stay and strategies["stay"].facts.color == "#117733"
    with pytest.raises(cdc.UserError, match="register: strategy 'static' must be registered once"):
        cdc.register("strategies", "static")(Stay)


def test_a_mistake_in_registering_is_one_sentence() -> None:
    with pytest.raises(cdc.UserError, match=r"unknown kind 'strateg'; did you mean 'strategy'\?"):
        cdc.register("strateg", "x")
    with pytest.raises(cdc.UserError, match=r"facts of a strategy are .*did you mean 'color'"):
        cdc.register("strategy", "x", colour="#fff")(cdc.CloudStrategy)


def test_names_are_listed_by_kind() -> None:
    assert {"static", "persona"} <= {*cdc.list_of("strategies")}
    assert {"lte", "nb_iot"} <= {*cdc.list_of("networks")}
    assert "delta" in cdc.list_of("codecs") and "delimited" in cdc.list_of("readers")
    for kind in ("strategies", "models", "codecs", "policies"):
        assert len(cdc.list_of(kind)) == len({*cdc.list_of(kind)})
    with pytest.raises(
        cdc.UserError, match=r"unknown kind 'strategie'; did you mean 'strategies'\?"
    ):
        cdc.list_of("strategie")
