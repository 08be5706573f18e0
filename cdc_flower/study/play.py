"""Plays one strategy: deploys the model, then one round a segment over the links."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import numpy as np
import pandas as pd
from flwr.app import ArrayRecord
from flwr.serverapp import Grid
from numpy.typing import NDArray

from cdc_flower.simulations.chain import Chain, ChainLink
from cdc_flower.simulations.deployment import Deployable, deploy
from cdc_flower.simulations.fleet import Fleet
from cdc_flower.simulations.grids.base import BatchedGrid
from cdc_flower.simulations.grids.controls import ControlGrid
from cdc_flower.simulations.grids.links import LinkGrid
from cdc_flower.simulations.grids.strategy import StrategyGrid
from cdc_flower.simulations.links.accounting import Usage
from cdc_flower.study.session import Session
from cdc_flower.tables.controls import control_name
from cdc_flower.tables.long_table import joined_frames, segment_frame
from cdc_flower.tasks.protocol import Task
from cdc_flower.tasks.recommendation.task import RECOMMENDATION
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import concat

#: Records of which results are made.
SCORED = frozenset({records.SCORES, records.POINTS})


class Playable(Deployable, Protocol):
    """One of our strategies, or any of Flower's with the methods of ``OnDevices``."""

    def initial_arrays(self) -> ArrayRecord:
        """Gives the global model that it starts with."""

    def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3) -> object:
        """Plays its rounds.

        Args:
            grid: Where its devices are.
            initial_arrays: The global model that it starts with.
            num_rounds: One a segment.
        """


def play(
    strategy: Playable,
    grid: Grid,
    fleet: Fleet,
    segment_starts_s: NDArray[np.float64],
    *,
    labels: Mapping[str, str | float],
    collect: Callable[[pd.DataFrame], None],
    task: Task = RECOMMENDATION,
    chain: Iterable[ChainLink] = (),
    rounds: Callable[[Session], object] = Session.run,
    controls: bool = False,
) -> None:
    """Runs a strategy over all segments.

    Args:
        strategy: Prepared.
        grid: Any grid whose nodes run ``DeviceApp``.
        fleet: Links and speeds by device id.
        segment_starts_s: ``[num_segments + 1]``.
        labels: ``run_id``, ``experiment``, ``strategy``, ``seed`` and ``task`` for the table.
        collect: Given the rows of each segment when it is done.
        task: Of the devices.
        chain: Between the strategy and its devices beside the links, from the strategy on; see
            :mod:`cdc_flower.simulations.chain`. Nothing by default.
        rounds: Plays the rounds of a deployed session; all by default, see there for others.
        controls: Whether the controls of the strategy are played beside it, if it has any.
    """
    nodes = deploy(grid, strategy, len(fleet))
    has_controls = controls and getattr(strategy, "personal", False)
    beside = ControlGrid(grid, nodes, int(labels["seed"])) if has_controls else None
    own = str(labels["strategy"])

    def observe(segment: int, replies: list[MessageBatch], usage: Usage) -> None:
        played = {}
        made.count(usage)
        if replies:
            played = with_controls(in_order(scored(replies), links), own, segment, beside)
        if isinstance(grid, BatchedGrid):
            usage.num_replays[:] += grid.take_replays()[grid.rows(nodes.node_ids)]
        frames = []
        for name, each in played.items():
            rows = links.rows(each.node_ids)
            when = {"segment": segment, "time_s": float(segment_starts_s[segment])}
            named = {**labels, **when, "strategy": name}
            frames.append(rows_of(named, nodes.device_ids[rows], each, usage.facts(rows), task))
        if frames:
            collect(joined_frames(frames))

    made = Chain.of(chain, nodes)
    links = LinkGrid(
        made.around_devices(beside or grid),
        fleet.select(nodes.device_ids),
        segment_starts_s,
        waits_for_all=getattr(strategy, "waits_for_all", True),
        observer=observe,
        node_ids=nodes.node_ids,
    )
    given = StrategyGrid(made.around_links(links))  # without the instruments of the results
    rounds(Session(strategy, given, num_rounds=len(segment_starts_s) - 1))


def with_controls(
    whole: MessageBatch, name: str, segment: int, beside: ControlGrid | None
) -> dict[str, MessageBatch]:
    """Plays controls after their method, and gives the replies of each by its name in the table.

    Args:
        whole: Replies of the method.
        name: Of the method.
        segment: Its number.
        beside: Plays the controls; None: there are none.
    """
    others = beside.play(segment, whole) if beside else {}
    return {name: whole, **{control_name(name, each): others[each] for each in others}}


def scored(replies: list[MessageBatch]) -> MessageBatch:
    """Keeps of replies what results are made of; what else a device sent may differ."""
    return concat([each.only(SCORED) for each in replies])


def in_order(replies: MessageBatch, links: LinkGrid) -> MessageBatch:
    """Puts replies in the order of their devices."""
    return replies.select(np.argsort(links.rows(replies.node_ids), kind="stable"))


def rows_of(
    labels: Mapping[str, str | float],
    device_ids: NDArray[np.int64],
    replies: MessageBatch,
    counted: Mapping[str, NDArray],
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
