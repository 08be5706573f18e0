"""The nodes of a run in Flower's runtimes: who is waited for, and which device a node is."""

from typing import Any

import numpy as np
import pytest

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.deployment import check_devices
from cdc_flower.study import flower
from cdc_flower.study.flower import device_of, wait_for_nodes

NODES = np.array([71, 72, 73], np.uint64)


class Arriving:
    """Three nodes that come one by one, with a pause after each."""

    def __init__(self) -> None:
        self.num_asked = 0

    def get_node_ids(self) -> list[int]:
        self.num_asked += 1
        return [71, 72, 73][: 1 + self.num_asked // 3]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WAIT_S", 0.3), ("STABLE_S", 0.0), ("POLL_S", 0.01)):
        monkeypatch.setattr(flower, name, value)


def test_a_run_waits_for_as_many_nodes_as_it_is_told() -> None:
    assert len(wait_for_nodes(Arriving())) == 1  # type: ignore[arg-type]
    assert wait_for_nodes(Arriving(), at_least=3) == [71, 72, 73]  # type: ignore[arg-type]


def test_nodes_that_do_not_come_are_told_by_their_number() -> None:
    with pytest.raises(UserError, match=r"at least 4 must be connected within 0 s, got 3"):
        wait_for_nodes(Arriving(), at_least=4)  # type: ignore[arg-type]


def test_a_node_is_the_device_of_its_partition() -> None:
    assert device_of({"partition-id": 0, "num-partitions": 3}) == (0, 3)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"partition-id": 1},
        {"partition-id": 3, "num-partitions": 3},
        {"partition-id": "1", "num-partitions": 3},
    ],
)
def test_a_node_without_a_partition_is_told_what_it_must_have(config: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="node-config must have partition-id and num-partitions"):
        device_of(config)


def test_two_nodes_with_one_partition_are_named() -> None:
    with pytest.raises(
        UserError, match="partition-id must differ from node to node, got 1 on nodes 72 and 73"
    ):
        check_devices(NODES, np.array([0, 1, 1]), np.full(3, 3), 3)


def test_a_node_of_a_larger_fleet_is_named() -> None:
    check_devices(NODES, np.arange(3), np.full(3, 3), 3)
    with pytest.raises(
        UserError, match=r"the number of nodes of the run, 3, got 4 on node 72; num-nodes=4 waits"
    ):
        check_devices(NODES, np.arange(3), np.array([3, 4, 3]), 3)
