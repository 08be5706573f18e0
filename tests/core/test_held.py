"""Objects in the place of configured nodes."""

import json

import numpy as np
import pytest
import yaml

from cdc_flower.core.held import Held, described, held
from cdc_flower.core.registry import snake_case


class Thing:
    def __init__(self, size: int, table: object = None) -> None:
        self.size = size
        self.table = table


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("MyStrategy", "my_strategy"),
        ("Static", "static"),
        ("FedAvgM", "fed_avg_m"),
        ("CDCNudge", "cdc_nudge"),
        ("nudge", "nudge"),
    ],
)
def test_a_class_is_named_in_snake_case(name: str, snake: str) -> None:
    assert snake_case(name) == snake


def test_a_node_is_plain_and_carries_the_object() -> None:
    thing = Thing(3, np.arange(4.0))
    node = held(thing, "thing", "place")

    assert node["size"] == 3 and str(node["table"]).startswith("float64 [4] ")
    assert node["_target_"] == f"{__name__}.Thing" and node["name"] == "thing"
    assert json.loads(json.dumps(node)) == node
    assert yaml.safe_load(yaml.safe_dump({"a": node})) == {"a": dict(node)}
    made = node.made("place")
    assert isinstance(made, Thing) and made is not thing and made.size == 3


def test_an_array_counts_by_its_content() -> None:
    one, other = (described(np.array([value, 0.0])) for value in (1.0, 2.0))
    assert one != other
    assert described(np.float64(2)) == 2.0 and type(described(np.float64(2))) is float
    assert described(np.int8(2)) == 2 and described({"a": (1, None)}) == {"a": [1, None]}


def test_a_class_is_made_with_its_settings_and_what_is_given() -> None:
    node = held(Thing, "thing", "place", {"table": [1]}, made_by_data=("size",))
    assert dict(node) == {"table": [1], "name": "thing", "_target_": f"{__name__}.Thing"}
    made = node.made("place", size=5)
    assert isinstance(made, Thing) and (made.size, made.table) == (5, [1])


def test_held_is_a_mapping() -> None:
    assert Held(object(), {"a": 1}) == {"a": 1}
