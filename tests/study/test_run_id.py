"""A run's name changes with whatever may change its results, and with nothing else."""

import copy
from typing import Any

import pytest
from run_cases import config_of

from cdc_flower.study.run import run_id_of

#: Keys that say where and how a run is played, listed by hand.
HOW = {"out", "command", "grid", "cache", "also", "report", "resume", "checkpoint"}


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return config_of()


def test_it_differs_with_the_network(config: dict[str, Any]) -> None:
    other = config_of("network=nb_iot")
    assert {key for key in config if config[key] != other[key]} == {"network"}
    assert run_id_of(other) != run_id_of(config)
    slower = copy.deepcopy(config)
    slower["network"]["rtt_s"] += 0.001
    assert run_id_of(slower) not in (run_id_of(config), run_id_of(other))


def test_it_differs_with_every_key_but_those_of_where_and_how_a_run_is_played(
    config: dict[str, Any],
) -> None:
    config = {**config, "command": "cdc-flower"}  # which the command line adds
    assert set(config) >= HOW | {
        "network",
        "fleet",
        "model",
        "data",
        "strategies",
        "strategy",
        "policy",
        "seed",
    }
    same = {key for key in config if run_id_of({**config, key: "other"}) == run_id_of(config)}
    assert same == HOW


def test_the_order_of_keys_does_not_matter(config: dict[str, Any]) -> None:
    assert run_id_of(dict(reversed(config.items()))) == run_id_of(config)
