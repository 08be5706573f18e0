"""Options of strategies that take gradient steps on the labelled examples of devices."""

import math
from dataclasses import dataclass, fields

from cdc_flower.core.options import option
from cdc_flower.strategies.base import OnDevices
from cdc_flower.training.fit import LocalTraining


@dataclass(eq=False, repr=False)
class LabelledSteps(OnDevices):
    """Gradient steps in each segment. Nothing is trained before the stream, so nothing is kept.

    Attributes:
        how: The same as devices are told it.
    """

    steps: int = option(
        5,
        least=0,
        neutral=0,
        changes_training=False,
        doc="gradient steps a segment, each on all examples of a device; 0 is static",
    )
    rate: float = option(
        1e-3,
        least=0,
        below=math.inf,
        neutral=0,
        changes_training=False,
        doc="learning rate; 0 changes no parameter",
    )
    max_examples: int = option(
        64,
        least=1,
        changes_training=False,
        doc="newest labelled examples that a device uses in a segment at most",
    )
    num_negatives: int = option(
        4,
        least=1,
        changes_training=False,
        doc="candidates beside the true one of an example, where the task draws them",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        named = {field.name for field in fields(LocalTraining)} & vars(self).keys()
        self.how = LocalTraining(**{name: getattr(self, name) for name in named})


def layers_option(default: str) -> str:
    """Makes the option of which layers are trained, ``head`` or ``all``."""
    made: str = option(
        default,
        choices=("head", "all"),
        changes_training=False,
        doc="head: the adaptive layers; all: the whole model",
    )
    return made
