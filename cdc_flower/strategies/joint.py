"""Hypernetworks that read a device's sequence: training with the static layers or without, and use for many devices.

DUET's equation (5): on historical data, the loss of the device model with the layers that each
device's own past generates.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cdc_flower.core.seeds import generator
from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.base import Cloud, History, Stage
from cdc_flower.strategies.checks import check_range, check_switches, check_whole
from cdc_flower.strategies.generation import DEVICES_PER_CHUNK, Report, in_parts
from cdc_flower.training.scoring import Arrays

#: Historical sequences whose mean generated layers every device starts with.
NUM_START_SEQUENCES = 4096


@dataclass(frozen=True)
class Examples:
    """Labelled examples, each with the sequence that its layers are generated from.

    Attributes:
        history: ``[B, L]``; ``candidates``: ``[B, C]``, the true one first.
        reported: ``[B, L]``, the history itself, or what it was some events earlier.
    """

    history: Tensor
    candidates: Tensor
    reported: Tensor


@dataclass(frozen=True)
class JointTraining:
    """How a hypernetwork is trained on historical data.

    Args:
        epochs: At most; 0 leaves everything as it is.
        rate: Learning rate of Adam; 0 leaves everything as it is.
        joint: Whether static layers are trained along with the hypernetwork. False keeps the base
            model's.
        max_lag: The sequence to generate from ends up to this many events before the one to
            predict, as it does on a device that was adapted a while ago. 0 is the papers'.

    Raises:
        ValueError: If a value is out of its range.
    """

    epochs: int
    rate: float
    joint: bool
    max_lag: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        check_whole(vars(self), epochs=0, max_lag=0)
        check_range(vars(self), rate=0)
        check_switches(vars(self), "joint")

    def fit(
        self,
        cloud: Cloud,
        name: str,
        settings: Mapping[str, Any],
        hypernetwork: Mapping[str, Tensor],
        logits: Callable[[Parameters, Examples], Tensor],
    ) -> tuple[Parameters, list[float]]:
        """Train from the base model on, or take the result from the checkpoints.

        Args:
            name: Of the strategy; ``settings``: all of its own that the result depends on.
            hypernetwork: What is trained of it, changed in place.
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
            settings,
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
        self, history: History, batches: Iterable[Any], lags: np.random.Generator
    ) -> Iterator[Examples]:
        """Batches of a history, with lags drawn one an example, uniform in 0 to ``max_lag``."""
        for batch in batches:
            reported = history.lagged(
                batch.rows, lags.integers(0, self.max_lag + 1, len(batch.rows))
            )
            yield Examples(
                *(
                    torch.from_numpy(ids).long()
                    for ids in (batch.history, batch.candidates, reported)
                )
            )


@torch.no_grad()
def in_chunks(generate: Callable[[Report], Parameters], report: Report) -> Arrays:
    """Generates layers from what ``n`` devices told, in parts that bound the memory."""
    torch.set_num_threads(1)
    parts = [generate(part) for part in in_parts(report, DEVICES_PER_CHUNK)]
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


@torch.no_grad()
def mean_generated(cloud: Cloud, generate: Callable[[Tensor], Parameters]) -> Parameters:
    """The mean of what historical sequences generate; what does not depend on the sequence is kept to the bit."""
    first = next(iter(cloud.train.batches(NUM_START_SEQUENCES, 0, cloud.seed, cloud.num_negatives)))
    generated = generate(torch.from_numpy(first.history).long())
    return {name: value[0] + (value - value[0]).mean(0) for name, value in generated.items()}
