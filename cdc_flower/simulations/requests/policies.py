"""When a device reports. A policy decides from what the device itself knows; 0 % is never and 100 % is always."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.seeds import hashed_uniform
from cdc_flower.simulations.requests.sensor import Ints, Sensor

DETECTORS = ("page_hinkley", "adwin")
#: Events before Page-Hinkley may say anything, and the change that it does not mind.
FIRST_EVENTS, TOLERANCE = 10, 0.005


class Policy(Protocol):
    """Decides who reports. It may remember what it decided, so each run of a strategy has one of its own."""

    def decide(self, device_ids: Ints, segment: int) -> NDArray[np.bool_]:
        """Which of the devices ``[k]`` that are asked before a segment report."""


class Random:
    """Each device in each segment with the same chance.

    Args:
        rate: The chance. 0 is never, 1 is always.
        seed: Of the run.

    Raises:
        UserError: If the rate is not in [0, 1].
    """

    def __init__(self, rate: float, seed: int) -> None:
        self.rate, self.seed = share("policy.rate", rate), seed

    def decide(self, device_ids: Ints, segment: int) -> NDArray[np.bool_]:
        """Drawn from the seed, the device and the segment."""
        return hashed_uniform(self.seed, "request", device_ids, segment) < self.rate


class Every:
    """Every device in every ``n``-th segment, from the first on. 1 is always.

    Raises:
        UserError: If ``n`` is no whole number of at least 1.
    """

    def __init__(self, n: int) -> None:
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise UserError(f"policy.n must be a whole number >= 1, got {n}")
        self.n = n

    def decide(self, device_ids: Ints, segment: int) -> NDArray[np.bool_]:
        """All of them or none."""
        return np.full(len(device_ids), segment % self.n == 0)


class OnDrift:
    """A device reports when a drift detector of River fires on its own statistics.

    Page-Hinkley looks for a rise: what is new is farther from the past than it was. ADWIN looks
    both ways.

    Args:
        sensor: The statistics.
        detector: ``page_hinkley`` (Page 1954) or ``adwin`` (Bifet and Gavalda, SDM 2007).
        threshold: Of Page-Hinkley; larger reports less, ``inf`` never, and 0 always.
        delta: Of ADWIN; smaller reports less.

    Raises:
        UserError: If River is not installed, or a value is out of its range.
    """

    def __init__(self, sensor: Sensor, detector: str, threshold: float, delta: float) -> None:
        try:
            from river import drift
        except ImportError as error:
            raise UserError(
                "policy on_drift needs River: pip install 'cdc-flower[drift]'"
            ) from error
        if detector not in DETECTORS:
            raise unknown_name("detector", detector, DETECTORS, "policy.detector")
        if isinstance(threshold, bool) or not threshold >= 0:
            raise UserError(f"policy.threshold must be >= 0, got {threshold}")
        if isinstance(delta, bool) or not 0 < delta < 1:
            raise UserError(f"policy.delta must be in (0, 1), got {delta}")
        self.sensor, self._detectors = sensor, {}  # type: ignore[var-annotated]
        self._always = detector == "page_hinkley" and threshold == 0
        if detector == "adwin":
            self._fresh: Any = lambda: drift.ADWIN(delta=delta, clock=1, grace_period=FIRST_EVENTS)
        else:
            self._fresh = lambda: drift.PageHinkley(FIRST_EVENTS, TOLERANCE, threshold, mode="up")

    def decide(self, device_ids: Ints, segment: int) -> NDArray[np.bool_]:
        """Those whose detector fires on what is new since they were asked last."""
        fires = np.full(len(device_ids), self._always)
        for row, (device, values) in enumerate(
            zip(device_ids.tolist(), self.sensor.surprises(device_ids, segment), strict=True)
        ):
            detector = self._detectors.setdefault(device, self._fresh())
            for value in values:
                detector.update(value)
                fires[row] |= bool(detector.drift_detected)
        return fires


def share(key: str, value: float) -> float:
    """A configured number in [0, 1].

    Raises:
        UserError: If it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"{key} must be in [0, 1], got {value!r}")
    return float(value)
