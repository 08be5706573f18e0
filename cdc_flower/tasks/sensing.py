"""The view that a request policy has of devices: statistics of their own data, and their doubt."""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.saveable import ANY, Arrays, Saveable, Saved, taken

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
#: Devices ``[k]`` and a segment -> how unsure they are, ``[k]``; see ``query.uncertainty`` of the
#: device app.
Ask = Callable[[Ints, int], Floats]
#: Weight of the past in the running mean that a new item is compared with.
MEMORY = 0.9


class Sensor(Saveable, Protocol):
    """Keeps statistics of devices before a segment starts."""

    def surprises(self, device_ids: Ints, segment: int) -> list[list[float]]:
        """Measures for each device how far each new thing is from those before it.

        New is what came since the segment before.
        """


class Doubt(Saveable, Protocol):
    """Estimates how unsure devices are of the parameters that they use."""

    @property
    def held_out(self) -> NDArray[np.floating]:
        """``[m]``, the same estimate on held-out historical data, from which thresholds are set."""

    def of(self, device_ids: Ints, segment: int) -> Floats:
        """Estimates ``[k]``, before the segment starts; larger is less sure."""

    def reported(self, device_ids: Ints, segment: int) -> None:
        """Takes note that these devices report, and so get parameters of their data as of now."""


class Past:
    """A running mean of the directions that each device has seen."""

    def __init__(self) -> None:
        self._mean: dict[int, NDArray[np.floating]] = {}

    def surprises(self, device: int, new: NDArray[np.floating]) -> list[float]:
        """Measures 1 − cosine of each new direction ``[k, d]`` and the mean of those before it."""
        values, mean = [], self._mean.get(device)
        for direction in new:
            if mean is None:
                mean = direction
            norm = float(np.linalg.norm(mean))
            values.append(1.0 - float(direction @ mean) / norm if norm > 0 else 0.0)
            mean = MEMORY * mean + (1 - MEMORY) * direction
        if mean is not None:
            self._mean[device] = mean
        return values

    def to_arrays(self) -> Arrays:
        """Takes the mean of each device."""
        return device_rows(self._mean)

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on from saved means."""
        self._mean = rows_of_devices(arrays)


def device_rows(values: Mapping[int, NDArray[np.generic]]) -> Arrays:
    """Holds an array of each of some devices, in order, as ids ``[k]`` and rows ``[k, ...]``."""
    rows = {"rows": np.stack([*values.values()])} if values else {}
    return {"device_ids": np.array([*values], np.int64), **rows}


def rows_of_devices(arrays: Saved) -> dict[int, NDArray]:
    """Reads arrays of devices as :func:`device_rows` holds them."""
    device_ids = taken(arrays, "device_ids", np.int64, (ANY,)).tolist()
    rows = taken(arrays, "rows") if device_ids else np.empty(0)
    return dict(zip(device_ids, rows, strict=True))


def directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales vectors ``[k, d]`` to length one, but for zeros."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1), np.float32)
