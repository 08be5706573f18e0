"""Training and use of hypernetworks that read a device's sequence.

DUET's equation (5): on historical data, the loss of the device model with the layers that each
device's own past generates.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cdc_flower.core.options import option, training_values
from cdc_flower.core.seeds import generator
from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.base import Cloud, History, Stage
from cdc_flower.strategies.generation import DEVICES_PER_CHUNK, GenerationStrategy, Report, in_parts
from cdc_flower.strategies.past import Examples, NumberedBatch, ReportedPast
from cdc_flower.training.scoring import Arrays

#: Historical sequences whose mean generated layers every device starts with.
NUM_START_SEQUENCES = 4096


@dataclass(eq=False, repr=False)
class JointGeneration(GenerationStrategy):
    """Options and training of methods whose hypernetwork is trained on historical data."""

    generates = True

    epochs: int = option(
        20,
        least=0,
        neutral=0,
        doc="of training on historical data at most, as cloud.patience_steps has it; 0 leaves "
        "everything at its start",
    )
    rate: float = option(
        3e-3, least=0, below=math.inf, neutral=0, doc="learning rate of Adam; 0 is epochs=0"
    )
    joint: bool = option(
        True,
        neutral=False,
        doc="whether static layers are trained along, as in the papers; false keeps the base "
        "model's",
    )

    def fit(
        self,
        cloud: Cloud,
        name: str,
        hypernetwork: Mapping[str, Tensor],
        logits: Callable[[Parameters, Examples], Tensor],
    ) -> tuple[Parameters, list[float]]:
        """Trains from the base model on, or takes the result from the checkpoints.

        Args:
            cloud: Base model and historical data.
            name: Of the method.
            hypernetwork: Tensors of it that are trained, changed in place.
            logits: Parameters of the device model and ``B`` examples -> ``[B, C]``.

        Returns:
            The device model's parameters, whose adaptive layers are still the base model's; and the
            validation loss before training and after each epoch.
        """
        parameters = {key: value.detach().clone() for key, value in cloud.parameters.items()}
        static = [value for key, value in parameters.items() if key not in cloud.model.adaptive]
        leaves = [*hypernetwork.values(), *(static if self.joint else [])]
        for leaf in leaves:
            leaf.requires_grad_()

        def loss(examples: Examples) -> Tensor:
            return cloud.model.loss(logits(parameters, examples)).mean()

        stage = Stage(
            f"{name}: training the hypernetwork",
            {**training_values(self), **self.past(cloud).settings},
            {**{f"hypernetwork.{key}": value for key, value in hypernetwork.items()}, **parameters},
            leaves,
            self.epochs,
            self.rate,
        )
        curve = cloud.fit(
            stage,
            loss,
            batches=lambda epoch: self.examples(
                cloud.train, cloud.batches(epoch), generator(cloud.seed, name, "lag", epoch)
            ),
            held_out=lambda: self.examples(
                cloud.validation, cloud.held_out(), generator(cloud.seed, name, "validation-lag")
            ),
        )
        for leaf in leaves:
            leaf.requires_grad_(False)
        return parameters, curve

    def examples(
        self, history: History, batches: Iterable[NumberedBatch], draws: np.random.Generator
    ) -> Iterator[Examples]:
        """Makes examples of batches; see :meth:`~cdc_flower.strategies.past.ReportedPast.examples`.

        Args:
            history: Whose batches they are.
            batches: With ``rows``, ``history`` and ``candidates``.
            draws: Of the age of reports.
        """
        return self.past(self.cloud).examples(history, batches, draws)


@torch.no_grad()
def in_chunks(generate: Callable[[Report], Parameters], report: Report) -> Arrays:
    """Generates layers from what ``n`` devices told, in parts that bound the memory."""
    torch.set_num_threads(1)
    parts = [generate(part) for part in in_parts(report, DEVICES_PER_CHUNK)]
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


@torch.no_grad()
def mean_generated(
    cloud: Cloud, generate: Callable[[Tensor], Parameters], past: ReportedPast | None = None
) -> Parameters:
    """Averages the layers that historical sequences generate.

    Layers that do not depend on the sequence are kept to the bit.

    Args:
        cloud: With the historical data.
        generate: Sequences ``[B, R]`` -> layers ``[B, ...]``.
        past: Makes the sequences; None: what the device model reads.
    """
    past = past or ReportedPast(cloud.model.history_length)
    first = next(iter(cloud.train.batches(NUM_START_SEQUENCES, 0, cloud.seed, cloud.num_negatives)))
    generated = generate(past.of_batch(cloud.train, first))
    return {name: value[0] + (value - value[0]).mean(0) for name, value in generated.items()}
