"""Each device reports with the same chance in each segment."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.options import option
from cdc_flower.core.seeds import hashed_uniform
from cdc_flower.simulations.requests.policies.policy import Policy, policies
from cdc_flower.tasks.sensing import Ints


@policies.register("random")
@dataclass(eq=False)
class Random(Policy):
    """Each device in each segment with the same chance."""

    rate: float = option(0.1, least=0, most=1, doc="the chance; 0 is never, 1 is always")

    def decide(self, device_ids: Ints, segment: int) -> NDArray[np.bool_]:
        """Draws from the seed, the device and the segment."""
        return hashed_uniform(self.devices.seed, "request", device_ids, segment) < self.rate
