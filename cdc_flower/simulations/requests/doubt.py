"""How unsure devices are: the estimate by which a policy lets those report that need new parameters."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.saveable import Saveable
from cdc_flower.simulations.requests.sensor import Floats, Ints


class Doubt(Saveable, Protocol):
    """Estimates how unsure devices are of the parameters that they use."""

    @property
    def held_out(self) -> NDArray[np.floating]:
        """``[m]``, the same estimate on held-out historical data, from which thresholds are set."""

    def of(self, device_ids: Ints, segment: int) -> Floats:
        """Estimates ``[k]``, before the segment starts; larger is less sure."""

    def reported(self, device_ids: Ints, segment: int) -> None:
        """Takes note that these devices report, and so get parameters of what they look like now."""
