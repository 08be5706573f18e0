"""Fine-tuning on the device (FTA): each device trains on its own labelled events, and tells nobody.

The baseline of CDC-MMPG, DUET and Persona. DUET's is one epoch of Adam at 1e-3 over all layers, on
all that a user has; here a device trains at the start of each segment on its newest examples, and
every example costs a label. Nothing crosses the link. The work takes device time, and until it is
done the old parameters answer.
"""

from collections.abc import Iterable
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid

from cdc_flower.strategies.base import CloudStrategy, to_every_node
from cdc_flower.training.fit import LocalTraining
from cdc_flower.wire import records


class FineTuning(CloudStrategy):
    """Gradient steps on the device.

    Args:
        layers: ``head`` trains the adaptive layers, ``all`` the whole model (each device then keeps
            a model of its own).
        steps: Gradient steps a segment. 0 is ``static``.
        rate: Learning rate of Adam. 0 is ``static``.
        max_examples: Labels to use in a segment at most.
        num_negatives: For each labelled example.

    Raises:
        ValueError: If a value is out of its range.
    """

    def __init__(
        self,
        layers: str = "head",
        steps: int = 5,
        rate: float = 1e-3,
        max_examples: int = 64,
        num_negatives: int = 4,
    ) -> None:
        self.how = LocalTraining(layers, steps, rate, "adam", max_examples, num_negatives)

    def settings(self) -> dict[str, Any]:
        """How to train, deployed once beside the model."""
        return self.how.to_settings()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """A new segment begins: every device trains in place."""
        return to_every_node(grid, records.TRAIN_LOCAL, server_round)
