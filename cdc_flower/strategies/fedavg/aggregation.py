"""Makes rows of updates of what devices trained, and a new model of the row that a rule makes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.strategies.fedavg.rules.rule import Floats
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


@dataclass(frozen=True)
class Layout:
    """Lays arrays out as one row of numbers, in the order of their names in the global model.

    Attributes:
        model: The global model that devices started from, by name.
    """

    model: Mapping[str, NDArray]

    @property
    def num_numbers(self) -> int:
        """Counts the numbers of the model, ``P``."""
        return sum(value.size for value in self.model.values())

    def updates(self, batch: MessageBatch) -> Floats:
        """Makes ``trained - global`` ``[n, P]`` of what devices sent back, in double precision."""
        rows = [
            (batch.array(records.ARRAYS, name) - value.astype(np.float64)).reshape(len(batch), -1)
            for name, value in self.model.items()
        ]
        return np.concatenate(rows, axis=1)

    def applied(self, update: Floats) -> Arrays:
        """Adds an update ``[P]`` to the global model."""
        ends = np.cumsum([value.size for value in self.model.values()])
        parts = np.split(update, ends[:-1])
        return {
            name: (value + part.reshape(value.shape)).astype(value.dtype)
            for (name, value), part in zip(self.model.items(), parts, strict=True)
        }
