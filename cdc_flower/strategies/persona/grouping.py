"""Options of methods that cluster historical samples: Persona and its baseline."""

import math
from dataclasses import dataclass

from cdc_flower.core.options import option
from cdc_flower.strategies.generation import GenerationStrategy


@dataclass(eq=False, repr=False)
class GroupingStrategy(GenerationStrategy):
    """Stages of training, with an editor whose output tells where samples belong."""

    generates = True

    cluster_on: str = option(
        "edits",
        choices=("edits", "embeddings"),
        doc="samples are clustered by their edits (paper) or by their layer embeddings (released "
        "code)",
    )
    epochs: int = option(
        20,
        least=0,
        neutral=0,
        doc="of each stage at most, as cloud.patience_steps has it; 0 leaves everything at its "
        "start",
    )
    rate: float = option(
        3e-3, least=0, below=math.inf, neutral=0, doc="learning rate of Adam; 0 is epochs=0"
    )
    width: int = option(32, least=1, doc="of a device's feature and of the layer embeddings")
    max_samples: int = option(100_000, least=1, doc="samples that k-means is fitted on")
