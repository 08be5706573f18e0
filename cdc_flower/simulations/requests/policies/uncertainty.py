"""A device reports where it is unsure of the parameters that it uses; see the task's own estimate.

On recommendation it is the mis-recommendation detector of IntellectReq, on video the entropy of a
device's own answers. The threshold is set in the cloud, on held-out historical data.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.options import option
from cdc_flower.core.saveable import Arrays, Saved, part_of, prefixed
from cdc_flower.simulations.requests.policies.policy import Devices, Policy, policies
from cdc_flower.tasks.sensing import Ints


@policies.register("uncertainty")
@dataclass(eq=False)
class Uncertainty(Policy):
    """Reports where the estimate of doubt is among the largest.

    The share of the devices that really report may be another than ``rate`` when their data shift.
    """

    rate: float = option(
        0.1,
        least=0,
        most=1,
        doc="share of held-out histories that would report; 0 is never, 1 is always",
    )
    epochs: int = option(
        5, least=0, doc="of training the detector in the cloud, where there is one"
    )

    def start(self, devices: Devices) -> None:
        """Trains the detector, and sets the threshold on held-out histories."""
        super().start(devices)
        self.doubt = devices.doubt(self.epochs)
        self.threshold = self._threshold(self.doubt.held_out)

    def _threshold(self, held_out: NDArray[np.floating]) -> float:
        if self.rate == 1:
            return -np.inf
        return np.inf if self.rate == 0 else float(np.quantile(held_out, 1 - self.rate))

    def to_arrays(self) -> Arrays:
        """Takes what the estimate remembers; the threshold is set anew, and the same."""
        return prefixed("doubt", self.doubt.to_arrays())

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with a saved memory."""
        self.doubt.from_arrays(part_of(arrays, "doubt"))

    def decide(self, device_ids: Ints, segment: int) -> NDArray[np.bool_]:
        """Compares the doubt of each device with the threshold."""
        chosen = np.asarray(self.doubt.of(device_ids, segment) > self.threshold)
        self.doubt.reported(device_ids[chosen], segment)
        return chosen
