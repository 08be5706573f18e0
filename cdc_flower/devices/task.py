"""Reports recent data and scores events: a task's half on the device.

Everything else is the same for all tasks: a device ranks candidates for a query (items for a
history, answers for a question, clips for a caption), and a model says how
(:class:`~cdc_flower.models.base.DeviceModel`).
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.stream import SegmentBatch
from cdc_flower.devices.state import DeviceStates
from cdc_flower.models.base import DeviceModel

#: Arrays or numbers of ``n`` devices, by key.
Columns = dict[str, NDArray]


class DeviceTask(Protocol):
    """Makes reports and scores on devices."""

    # A task plays streams of its own kind, so the type of a stream is left open here.

    #: Names of what devices tell of their recent data; a strategy plays the task if it reads one.
    tells: frozenset[str]

    def report(
        self, model: DeviceModel, stream: Any, states: DeviceStates, segment: int, lag: int = 0
    ) -> tuple[Columns, Columns]:
        """Makes the reports ``[n, ...]`` of devices when a segment starts, and the work of it.

        Args:
            model: Of the devices.
            stream: Their data.
            states: Of the ``n`` devices.
            segment: Which one starts.
            lag: Events by which the report is earlier. 0 is the present.
        """

    def uncertainty(
        self, model: DeviceModel, stream: Any, states: DeviceStates, segment: int
    ) -> NDArray[np.float64]:
        """Tells ``[n]``, how unsure devices are of their newest answers, with the layers in use.

        Args:
            model: Of the devices.
            stream: Their data.
            states: Of the ``n`` devices.
            segment: Which one starts.

        Raises:
            ValueError: If devices have answered nothing of which they could be unsure.
        """

    def score(self, logits: NDArray[np.float32], data: SegmentBatch) -> tuple[Columns, Columns]:
        """Makes sums ``[n, ...]`` for the record ``scores``, and points for ``points``."""
