"""Deployment: every node gets the model once, before virtual time begins, and says its device."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.devices.state import Settings
from cdc_flower.strategies.base import deployed_settings
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import groups_of


class Deployable(Protocol):
    """A strategy with a model for devices, such as one that is ``OnDevices``."""

    def deployment(self) -> Arrays:
        """Gives the device model, static and adaptive layers."""

    def settings(self) -> Settings:
        """Gives what is deployed beside the model."""


@dataclass(frozen=True, eq=False)
class Nodes:
    """The devices of a run after their deployment.

    Attributes:
        node_ids: ``[n]``, Flower's addresses, in the order of their devices.
        device_ids: ``[n]``, ascending.
        model: That every device was given.
    """

    node_ids: NDArray[np.uint64]
    device_ids: NDArray[np.int64]
    model: Arrays


def deploy(grid: Grid, strategy: Deployable, num_devices: int | None = None) -> Nodes:
    """Sends the strategy's device model to every node, once.

    Args:
        grid: Whose nodes are asked.
        strategy: Prepared.
        num_devices: Of the run, which the devices must have been told too; None does not ask.

    Returns:
        The nodes in the order of their devices. Flower gives nodes random ids, and what a strategy
        samples should not depend on them.

    Raises:
        RuntimeError: If a node does not take the model.
        UserError: If two nodes are one device, or a node was told another number of devices.
    """
    asked = np.array(list(grid.get_node_ids()), np.uint64)
    model = strategy.deployment()
    batch = MessageBatch(
        records.DEPLOY,
        asked,
        shared={records.MODEL: model},
        configs={records.CONFIG: deployed_settings(strategy)},
    )
    node_ids, device_ids, told = [], [], []
    for replies, _ in groups_of(grid.send_and_receive(batch)):
        for row, (_, reason) in replies.errors.items():
            raise RuntimeError(
                "every node must take the model, "
                f"got an error from {replies.node_ids[row]}: {reason}"
            )
        node_ids.append(replies.node_ids.astype(np.uint64))
        device_ids.append(replies.metrics[records.SCORES][records.DEVICE_ID])
        told.append(replies.metrics[records.SCORES][records.NUM_DEVICES])
    silent = np.setdiff1d(asked, np.concatenate([np.empty(0, np.uint64), *node_ids]))
    if len(silent):
        raise RuntimeError(f"every node must take the model, got no answer from {silent[0]}")
    order = np.argsort(np.concatenate(device_ids), kind="stable")
    nodes = Nodes(np.concatenate(node_ids)[order], np.concatenate(device_ids)[order], model)
    check_devices(nodes.node_ids, nodes.device_ids, np.concatenate(told)[order], num_devices)
    return nodes


def check_devices(
    node_ids: NDArray[np.uint64],
    device_ids: NDArray[np.int64],
    told: NDArray[np.int64],
    num_devices: int | None,
) -> None:
    """Checks that every node is a device of its own, and of this run.

    Args:
        node_ids: ``[n]``, in the order of the devices.
        device_ids: ``[n]``, ascending.
        told: ``[n]``, the number of devices that each node was told.
        num_devices: Of the run; None does not ask.

    Raises:
        UserError: If two nodes are one device, or a node was told another number of devices.
    """
    twice = np.flatnonzero(np.diff(device_ids) == 0)
    if len(twice):
        one, other = node_ids[twice[0] : twice[0] + 2]
        raise UserError(
            "partition-id must differ from node to node, "
            f"got {device_ids[twice[0]]} on nodes {one} and {other}"
        )
    wrong = np.flatnonzero(told != num_devices)
    if num_devices is not None and len(wrong):
        raise UserError(
            f"num-partitions must be the number of nodes of the run, {num_devices}, "
            f"got {told[wrong[0]]} on node {node_ids[wrong[0]]}; "
            f"num-nodes={told[wrong[0]]} waits for that many"
        )
