"""All devices in one process."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from numpy.typing import NDArray

from cdc_flower.core.options import option
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.simulations.grids.kinds import grids


@grids.register("inline")
@dataclass(frozen=True, kw_only=True)
class InlineOptions:
    """All devices in one process."""

    name: str = option("inline", changes_results=False, doc="inline")
    num_workers: int = option(1, least=1, changes_results=False, doc="always one process")
    shard_devices: int | None = option(
        None,
        least=1,
        changes_results=False,
        doc="devices that are played together; null: all of them",
    )

    def grid(self, app: ClientApp, device_ids: Sequence[int] | NDArray[np.int64]) -> Grid:
        """Makes the grid for devices ``[n]``, whose ids ascend."""
        return InlineGrid(app, device_ids, shard_devices=self.shard_devices)
