"""Lets a device report when a drift detector of River fires on its own statistics."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import option
from cdc_flower.core.saveable import ANY, Arrays, Saved, part_of, prefixed, taken
from cdc_flower.simulations.requests.policies.policy import Devices, Policy, policies
from cdc_flower.tasks.sensing import Ints, Sensor

#: Events before Page-Hinkley may say anything, and the change that it does not mind.
FIRST_EVENTS, TOLERANCE = 10, 0.005


class Detector(Protocol):
    """Detects drift, as the detectors of River do."""

    @property
    def drift_detected(self) -> bool:
        """Tells whether the last value made it fire."""

    def update(self, x: float) -> None:
        """Takes one more value."""


@policies.register("on_drift")
@dataclass(eq=False)
class OnDrift(Policy):
    """Reports when a detector says that a device's own statistics have changed.

    Page-Hinkley (Page 1954) looks for a rise: new values are farther from the past than before.
    ADWIN (Bifet and Gavalda, SDM 2007) looks both ways.

    Raises:
        UserError: If River is not installed, or a value is out of its range.
    """

    detector: str = option("page_hinkley", choices=("page_hinkley", "adwin"), doc="of River")
    threshold: float = option(
        1.0, least=0, doc="of Page-Hinkley; larger reports less, inf never, 0 always"
    )
    delta: float = option(0.05, above=0, below=1, doc="of ADWIN; smaller reports less")
    sensor: Sensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._fresh = fresh_detector(self.detector, self.threshold, self.delta)
        self._detectors: dict[int, Detector] = {}
        self._seen: dict[int, list[float]] = {}
        self._always = self.detector == "page_hinkley" and self.threshold == 0

    def start(self, devices: Devices) -> None:
        """Takes the devices and the statistics that they keep."""
        super().start(devices)
        self.sensor = devices.sensor()

    def decide(self, device_ids: Ints, segment: int) -> NDArray[np.bool_]:
        """Decides for those whose detector fires on what is new since they were asked last."""
        fires = np.full(len(device_ids), self._always)
        surprises = self.sensor.surprises(device_ids, segment)
        for row, (device, values) in enumerate(zip(device_ids.tolist(), surprises, strict=True)):
            detector = self._detectors.setdefault(device, self._fresh())
            self._seen.setdefault(device, []).extend(values)
            for value in values:
                detector.update(value)
                fires[row] |= bool(detector.drift_detected)
        return fires

    def to_arrays(self) -> Arrays:
        """Takes the values that each detector has seen, and what the sensor remembers.

        Detectors are River's, which says nowhere what is inside them; values make them anew.
        """
        seen = [np.array(values, np.float64) for values in self._seen.values()]
        return {
            "device_ids": np.array([*self._seen], np.int64),
            "num_seen": np.array([len(values) for values in seen], np.int64),
            "seen": np.concatenate([np.empty(0), *seen]),
            **prefixed("sensor", self.sensor.to_arrays()),
        }

    def from_arrays(self, arrays: Saved) -> None:
        """Shows new detectors the values that the saved ones have seen."""
        device_ids = taken(arrays, "device_ids", np.int64, (ANY,)).tolist()
        counts = taken(arrays, "num_seen", np.int64, (len(device_ids),))
        seen = taken(arrays, "seen", np.float64, (int(counts.sum()),))
        parts = np.split(seen, np.cumsum(counts)[:-1]) if device_ids else []
        self._seen = {k: part.tolist() for k, part in zip(device_ids, parts, strict=True)}
        self._detectors = {device: self._fresh() for device in device_ids}
        for device, values in self._seen.items():
            for value in values:
                self._detectors[device].update(value)
        self.sensor.from_arrays(part_of(arrays, "sensor"))


def fresh_detector(name: str, threshold: float, delta: float) -> Callable[[], Detector]:
    """Makes the function that makes a detector for a device.

    Args:
        name: ``page_hinkley`` or ``adwin``.
        threshold: Of Page-Hinkley.
        delta: Of ADWIN.

    Raises:
        UserError: If River is not installed.
    """
    try:
        from river import drift
    except ImportError as error:
        raise UserError("policy on_drift needs River: pip install 'cdc-flower[drift]'") from error
    if name == "adwin":
        return lambda: drift.ADWIN(delta=delta, clock=1, grace_period=FIRST_EVENTS)
    return lambda: drift.PageHinkley(FIRST_EVENTS, TOLERANCE, threshold, mode="up")
