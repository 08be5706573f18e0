"""The base of request policies, and what they may look at."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import check_options, option
from cdc_flower.core.registry import NoFacts, Registry
from cdc_flower.core.saveable import Arrays, Saved
from cdc_flower.core.targets import derived_from
from cdc_flower.tasks.sensing import Doubt, Ints, Sensor


@dataclass(frozen=True)
class Devices:
    """The devices of one run of a strategy, as a policy may look at them.

    Attributes:
        seed: Of the run.
        sensor: Makes the statistics that devices keep of their own data.
        doubt: Epochs of training -> how unsure devices are of the parameters that they use.
    """

    seed: int
    sensor: Callable[[], Sensor]
    doubt: Callable[[int], Doubt]


@dataclass(eq=False)
class Policy(ABC):
    """Decides who reports. It may remember decisions, so each run of a strategy has one of its own.

    Raises:
        UserError: If a value is out of its range.
    """

    name: str = option("", doc="of the policy")
    max_bytes: float | None = option(
        None, least=0, doc="up and down, after which a device reports no more; null: no limit"
    )
    devices: Devices = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_options(self, "policy")

    def start(self, devices: Devices) -> None:
        """Takes the devices of a run, before the first segment."""
        self.devices = devices

    def to_arrays(self) -> Arrays:
        """Takes what it remembers of decisions. Nothing by default."""
        return {}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with what was saved, once it has been started.

        Raises:
            UserError: If that is of a policy that remembers something, and this one does not.
        """
        if arrays:
            raise UserError(
                f"a saved policy must be {type(self).__name__}, got one with {next(iter(arrays))}"
            )

    @abstractmethod
    def decide(self, device_ids: Ints, segment: int) -> NDArray[np.bool_]:
        """Decides which of the devices ``[k]`` that are asked before a segment report."""


policies: Registry[type[Policy], NoFacts] = Registry(
    "policy",
    "policies",
    NoFacts,
    "cdc_flower.simulations.requests.policies",
    derived_from(Policy),
)
