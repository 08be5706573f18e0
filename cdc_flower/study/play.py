"""Play one strategy: deploy the model, then one round a segment over the links, and collect the results."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from flwr.serverapp import Grid
from numpy.typing import NDArray

from cdc_flower.simulations.fleet import Fleet
from cdc_flower.simulations.grids.codecs import Lighter
from cdc_flower.simulations.grids.links import LinkGrid
from cdc_flower.simulations.grids.requests import RequestGrid
from cdc_flower.simulations.links.accounting import Usage
from cdc_flower.simulations.protocol.codecs import Codecs
from cdc_flower.simulations.requests.setup import Requests
from cdc_flower.strategies.base import deployed_settings
from cdc_flower.tables.long_table import segment_frame
from cdc_flower.tasks.protocol import Task
from cdc_flower.tasks.recommendation.task import RECOMMENDATION
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import concat


def deploy(grid: Grid, strategy: Any) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Send the strategy's device model to every node, once, before virtual time begins.

    Returns:
        The node ids ``[n]`` in the order of their devices, and the device ids ``[n]``. Flower gives
        nodes random ids, and what a strategy samples should not depend on them.

    Raises:
        RuntimeError: If a node does not take the model.
    """
    asked = np.array(list(grid.get_node_ids()), np.uint64)
    batch = MessageBatch(
        records.DEPLOY,
        asked,
        shared={records.MODEL: strategy.deployment()},
        configs={records.CONFIG: deployed_settings(strategy)},
    )
    node_ids, device_ids = [], []
    for replies, _ in MessageBatch.group(grid.send_and_receive(batch)):
        for row, (_, reason) in replies.errors.items():
            raise RuntimeError(
                f"every node must take the model, got an error from {replies.node_ids[row]}: {reason}"
            )
        node_ids.append(replies.node_ids.astype(np.uint64))
        device_ids.append(replies.metrics[records.SCORES][records.DEVICE_ID])
    silent = np.setdiff1d(asked, np.concatenate([np.empty(0, np.uint64), *node_ids]))
    if len(silent):
        raise RuntimeError(f"every node must take the model, got no answer from {silent[0]}")
    order = np.argsort(np.concatenate(device_ids), kind="stable")
    return np.concatenate(node_ids)[order], np.concatenate(device_ids)[order]


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
    """
    node_ids, device_ids = deploy(grid, strategy)

    def observe(segment: int, replies: list[MessageBatch], usage: Usage) -> None:
        if not replies:
            return
        whole = concat(replies)
        rows = links.rows(whole.node_ids)
        order = np.argsort(rows, kind="stable")
        whole, rows = whole.select(order), rows[order]
        collect(
            rows_of(
                segment,
                segment_starts_s[segment],
                device_ids[rows],
                whole,
                rows,
                usage,
                labels,
                task,
            )
        )

    lighter = Lighter(codecs or Codecs(), node_ids, strategy.deployment())
    devices = lighter.device_side(grid)
    if requests is not None and requests.policy is not None:
        devices = RequestGrid(devices, requests.policy, node_ids, device_ids, requests.max_bytes)
    links = LinkGrid(
        devices,
        fleet.select(device_ids),
        segment_starts_s,
        waits_for_all=getattr(strategy, "waits_for_all", True),
        observer=observe,
        node_ids=node_ids,
    )
    strategy.start(
        grid=lighter.cloud_side(links),
        initial_arrays=strategy.initial_arrays(),
        num_rounds=len(segment_starts_s) - 1,
    )


def rows_of(
    segment: int,
    time_s: float,
    device_ids: NDArray[np.int64],
    replies: MessageBatch,
    rows: NDArray[np.int64],
    usage: Usage,
    labels: dict[str, Any],
    task: Task,
) -> pd.DataFrame:
    """The results table of one segment: one row a device and metric."""
    scores, points = replies.metrics[records.SCORES], replies.arrays.get(records.POINTS, {})
    pooled_sum, pooled_count = task.pool(scores, points)
    return segment_frame(
        **labels,
        segment=segment,
        time_s=float(time_s),
        device_ids=device_ids,
        metrics=(*task.pooled, *task.metrics),
        value_sum=np.column_stack([pooled_sum, scores["value-sum"]]),
        value_count=np.column_stack([pooled_count, scores["value-count"]]),
        context_id=scores["context-id"],
        is_shift=scores["is-shift"].astype(bool),
        num_examples=scores[records.NUM_EXAMPLES],
        **{name: getattr(usage, name)[rows] for name in Usage.__dataclass_fields__},
    )
