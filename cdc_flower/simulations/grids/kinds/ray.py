"""Devices in shards over Ray workers; Ray is imported where a grid is made."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from numpy.typing import NDArray

from cdc_flower.core.options import option
from cdc_flower.simulations.grids.kinds import grids


@grids.register("ray")
@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Devices in shards over Ray workers, on this machine or on a cluster."""

    name: str = option("ray", changes_results=False, doc="ray")
    num_workers: int = option(2, least=1, changes_results=False, doc="processes")
    address: str | None = option(
        None, changes_results=False, doc="of a running Ray cluster; null starts one here"
    )
    shard_devices: int | None = option(
        None,
        least=1,
        changes_results=False,
        doc="devices that are played together; null: as many shards as processes",
    )

    def grid(self, app: ClientApp, device_ids: Sequence[int] | NDArray[np.int64]) -> Grid:
        """Makes the grid for devices ``[n]``, whose ids ascend."""
        from cdc_flower.simulations.grids.ray import RayGrid

        return RayGrid(
            app,
            device_ids,
            num_workers=self.num_workers,
            shard_devices=self.shard_devices,
            address=self.address,
        )
