"""Kinds of grids: where a run plays its devices, found by scanning this folder.

Each is a dataclass of the options under ``grid``, which makes the grid.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from numpy.typing import NDArray

from cdc_flower.core.registry import NoFacts, Registry
from cdc_flower.core.targets import having


class GridOptions(Protocol):
    """Options of a kind of grid."""

    def grid(self, app: ClientApp, device_ids: Sequence[int] | NDArray[np.int64]) -> Grid:
        """Makes the grid for devices ``[n]``, whose ids ascend."""


grids: Registry[type[GridOptions], NoFacts] = Registry(
    "grid", "grids", NoFacts, __name__, having("grid")
)
