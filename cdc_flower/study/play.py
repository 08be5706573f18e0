"""Play one strategy: deploy the model, then one round a segment over the links, and collect the results."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from flwr.serverapp import Grid
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.fleet import Fleet
from cdc_flower.simulations.grids.codecs import Lighter
from cdc_flower.simulations.grids.links import LinkGrid
from cdc_flower.simulations.grids.requests import RequestGrid
from cdc_flower.simulations.grids.strategy import StrategyGrid
from cdc_flower.simulations.links.accounting import Usage
from cdc_flower.simulations.protocol.codecs import Codecs
from cdc_flower.simulations.requests.setup import Requests
from cdc_flower.strategies.base import deployed_settings
from cdc_flower.study.session import Session
from cdc_flower.tables.long_table import segment_frame
from cdc_flower.tasks.protocol import Task
from cdc_flower.tasks.recommendation.task import RECOMMENDATION
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import concat, groups_of


def deploy(
    grid: Grid, strategy: Any, num_devices: int | None = None
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Send the strategy's device model to every node, once, before virtual time begins.

    Args:
        grid: Whose nodes are asked.
        strategy: Prepared.
        num_devices: Of the run, which the devices must have been told too; None does not ask.

    Returns:
        The node ids ``[n]`` in the order of their devices, and the device ids ``[n]``. Flower gives
        nodes random ids, and what a strategy samples should not depend on them.

    Raises:
        RuntimeError: If a node does not take the model.
        UserError: If two nodes are one device, or a node was told another number of devices.
    """
    asked = np.array(list(grid.get_node_ids()), np.uint64)
    batch = MessageBatch(
        records.DEPLOY,
        asked,
        shared={records.MODEL: strategy.deployment()},
        configs={records.CONFIG: deployed_settings(strategy)},
    )
    node_ids, device_ids, told = [], [], []
    for replies, _ in groups_of(grid.send_and_receive(batch)):
        for row, (_, reason) in replies.errors.items():
            raise RuntimeError(
                f"every node must take the model, got an error from {replies.node_ids[row]}: {reason}"
            )
        node_ids.append(replies.node_ids.astype(np.uint64))
        device_ids.append(replies.metrics[records.SCORES][records.DEVICE_ID])
        told.append(replies.metrics[records.SCORES][records.NUM_DEVICES])
    silent = np.setdiff1d(asked, np.concatenate([np.empty(0, np.uint64), *node_ids]))
    if len(silent):
        raise RuntimeError(f"every node must take the model, got no answer from {silent[0]}")
    order = np.argsort(np.concatenate(device_ids), kind="stable")
    nodes, devices = np.concatenate(node_ids)[order], np.concatenate(device_ids)[order]
    check_devices(nodes, devices, np.concatenate(told)[order], num_devices)
    return nodes, devices


def check_devices(
    node_ids: NDArray[np.uint64],
    device_ids: NDArray[np.int64],
    told: NDArray[np.int64],
    num_devices: int | None,
) -> None:
    """Check that every node is a device of its own, and of this run.

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
        one, other = node_ids[twice[0]], node_ids[twice[0] + 1]
        raise UserError(
            f"partition-id must differ from node to node, got {device_ids[twice[0]]} on nodes {one} and {other}"
        )
    wrong = np.flatnonzero(told != num_devices)
    if num_devices is not None and len(wrong):
        raise UserError(
            f"num-partitions must be the number of nodes of the run, {num_devices}, got {told[wrong[0]]} on node "
            f"{node_ids[wrong[0]]}; num-nodes={told[wrong[0]]} waits for that many"
        )


def play(
    strategy: Any,
    grid: Grid,
    fleet: Fleet,
    segment_starts_s: NDArray[np.float64],
    *,
    labels: dict[str, Any],
    collect: Callable[[pd.DataFrame], None],
    task: Task = RECOMMENDATION,
    codecs: Codecs | None = None,
    requests: Requests | None = None,
    rounds: Callable[[Session], object] = Session.run,
) -> None:
    """Run a strategy over all segments.

    Args:
        strategy: Prepared; one of ours, or any of Flower's with the three methods of ``OnDevices``.
        grid: Any grid whose nodes run ``DeviceApp``.
        fleet: Links and speeds by device id.
        segment_starts_s: ``[num_segments + 1]``.
        labels: ``run_id``, ``experiment``, ``strategy``, ``seed`` and ``task`` for the table.
        collect: Given the rows of each segment when it is done.
        task: Of the devices.
        codecs: What makes payloads lighter; nothing by default.
        requests: When a device reports; always by default.
        rounds: Plays the rounds of a deployed session; all by default, see there for others.
    """
    node_ids, device_ids = deploy(grid, strategy, len(fleet))

    def observe(segment: int, replies: list[MessageBatch], usage: Usage) -> None:
        if not replies:
            return
        whole = concat(replies)
        rows = links.rows(whole.node_ids)
        order = np.argsort(rows, kind="stable")
        whole, rows = whole.select(order), rows[order]
        collect(
            rows_of(
                {**labels, "segment": segment, "time_s": float(segment_starts_s[segment])},
                device_ids[rows],
                whole,
                usage.facts(rows),
                task,
            )
        )

    lighter = Lighter(codecs or Codecs(), node_ids, strategy.deployment())
    devices = lighter.device_side(grid)
    if requests is not None and requests.policy is not None:
        devices = RequestGrid(devices, requests, node_ids, device_ids)
    links = LinkGrid(
        devices,
        fleet.select(device_ids),
        segment_starts_s,
        waits_for_all=getattr(strategy, "waits_for_all", True),
        observer=observe,
        node_ids=node_ids,
    )
    # The results have the instruments, the strategy has not.
    grid = StrategyGrid(lighter.cloud_side(links))
    rounds(Session(strategy, grid, num_rounds=len(segment_starts_s) - 1))


def rows_of(
    labels: dict[str, Any],
    device_ids: NDArray[np.int64],
    replies: MessageBatch,
    counted: dict[str, np.ndarray],
    task: Task,
) -> pd.DataFrame:
    """Makes the results table of one segment: one row a device and metric.

    Args:
        labels: One value of each column of a run or segment.
        device_ids: ``[n]``.
        replies: Scores of the same ``n`` devices.
        counted: ``[n]`` of each column that links count.
        task: Of the devices.
    """
    scores, points = replies.metrics[records.SCORES], replies.arrays.get(records.POINTS, {})
    pooled_sum, pooled_count = task.pool(scores, points)
    return segment_frame(
        labels,
        facts={
            "device_id": device_ids,
            "context_id": scores["context-id"],
            "is_shift": scores["is-shift"].astype(bool),
            "num_examples": scores[records.NUM_EXAMPLES],
            **counted,
        },
        metrics=(*task.pooled, *task.metrics),
        values={
            "value_sum": np.column_stack([pooled_sum, scores["value-sum"]]),
            "value_count": np.column_stack([pooled_count, scores["value-count"]]),
        },
    )
