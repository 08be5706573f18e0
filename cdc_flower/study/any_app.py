"""Puts recorded links around any Flower app, in one call."""

from pathlib import Path
from typing import Unpack

from flwr.serverapp import Grid

from cdc_flower.simulations.fleet import Conditions, Fleet, Network
from cdc_flower.simulations.grids.base import BlockingGrid
from cdc_flower.simulations.grids.flower import FlowerGrid
from cdc_flower.simulations.grids.links import LinkGrid
from cdc_flower.simulations.network.recordings import Choices, read_recordings
from cdc_flower.study.flower import wait_for_nodes


def under_trace(
    grid: Grid,
    path: str | Path,
    *,
    format: str = "pensieve",
    rtt_s: float = 0.08,
    seed: int = 0,
    conditions: Conditions | None = None,
    **reading: Unpack[Choices],
) -> LinkGrid:
    """Puts every node of a grid behind a recorded link; rounds follow one another in virtual time.

    In Flower's runtimes it waits until the nodes are there.

    Args:
        grid: Of a ``ServerApp``, or one of ours.
        path: A recording, or a folder or an archive of them.
        format: Of the recordings, as ``cdc-flower list trace_formats`` lists them.
        rtt_s: Round-trip time.
        seed: Which node follows which recording, and from which moment on.
        conditions: Losses, outages, deadlines, a shared cell; none by default.
        reading: As for ``read_recordings``, such as ``up_ratio``.

    Raises:
        UserError: If there is no recording, one has a mistake, or no node comes.
    """
    traces = read_recordings(path, format, **reading)
    if not isinstance(grid, BlockingGrid | FlowerGrid):
        grid = FlowerGrid(grid, wait_for_nodes(grid))
    num_nodes = len(list(grid.get_node_ids()))
    fleet = Fleet.build(
        num_nodes, Network("traces", rtt_s=rtt_s, traces=traces), conditions=conditions, seed=seed
    )
    return LinkGrid(grid, fleet)
