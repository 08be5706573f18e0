"""The base of aggregation rules, and their registry.

An update is what a device would add to the global model, ``trained - global``, as one row of
float64: distances between whole models that hardly differ would cancel out. A device says its
number of examples itself, so every rule but the mean weighs devices alike.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.registry import NoFacts, Registry
from cdc_flower.core.targets import derived_from

Floats = NDArray[np.float64]


@dataclass(eq=False)
class Rule(ABC):
    """Makes one update of those of a round.

    Its fields are its options; those of the package's rules are options of the strategy too, under
    the same names.
    """

    #: Whether it starts from the update of the round before, which a saved run then keeps.
    remembers: ClassVar[bool] = False

    @property
    def least_devices(self) -> int:
        """Counts the devices without which the rule says nothing; 1 by default."""
        return 1

    @abstractmethod
    def combine(self, updates: Floats, weights: Floats, last: Floats) -> Floats:
        """Makes one update ``[P]``.

        Args:
            updates: ``[n, P]``, in the order of the nodes.
            weights: ``[n]``, which add up to 1, by the examples that devices say they have.
            last: ``[P]``, what it made in the round before; zeros before the first.
        """


rules: Registry[type[Rule], NoFacts] = Registry(
    "rule", "rules", NoFacts, "cdc_flower.strategies.fedavg.rules", derived_from(Rule)
)
