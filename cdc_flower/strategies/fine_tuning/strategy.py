"""Fine-tuning on the device (FTA): each device trains on its own labelled events, and tells nobody.

The baseline of CDC-MMPG, DUET and Persona. DUET's is one epoch of Adam at 1e-3 over all layers, on
all that a user has; here a device trains at the start of each segment on its newest examples, and
every example costs a label. Nothing crosses the link. The work takes device time, and until it is
done the old parameters answer.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid

from cdc_flower.devices.state import Settings
from cdc_flower.strategies.base import CloudStrategy, to_every_node
from cdc_flower.strategies.labelled_steps import LabelledSteps, layers_option
from cdc_flower.strategies.registry import strategies
from cdc_flower.wire import records


@strategies.register(
    "fine_tuning",
    color="#E69F00",
    labels="every example",
    tiny={"steps": 2, "rate": 0.05, "max_examples": 8},
)
@dataclass(eq=False, repr=False)
class FineTuning(LabelledSteps, CloudStrategy):
    """Gradient steps of Adam on the device. With ``all`` layers each keeps a model of its own.

    Raises:
        ValueError: If a value is out of its range.
    """

    layers: str = layers_option("head")

    def settings(self) -> Settings:
        """Says how to train, deployed once beside the model."""
        return self.how.to_settings()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Lets every device train in place, now that a new segment begins.

        Args:
            server_round: From 1; the segment is the one before.
            arrays: The global model, which stays in the cloud.
            config: Of Flower's round; not read.
            grid: Of the nodes.
        """
        return to_every_node(grid, records.TRAIN_LOCAL, server_round)
