"""A task: how devices report, how they are scored, and how scores of all devices are pooled."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cdc_flower.devices.task import Columns, DeviceTask


class Task(DeviceTask, Protocol):
    """Reports and scores on devices, and metrics over all of them."""

    #: Metrics that are sums over events of a device, in the order of the columns of ``value-sum``.
    metrics: tuple[str, ...]
    #: Metrics that need the events of all devices; see :meth:`pool`.
    pooled: tuple[str, ...]

    def pool(
        self, scores: Columns, points: Columns
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Makes sums and counts ``[n, P]`` of the ``P`` pooled metrics from all replies of a segment."""
