"""DUET: the cloud generates each device's adaptive layers from its recent, unlabelled events.

Lv et al., DUET: A Tuning-Free Device-Cloud Collaborative Parameters Generation Framework for
Efficient Device Model Generalization, WWW 2023, https://arxiv.org/abs/2209.05227

Equations and choices: see README.md beside this file.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.base import Cloud
from cdc_flower.strategies.checks import check_switches, check_whole
from cdc_flower.strategies.duet.hypernetwork import Hypernetwork
from cdc_flower.strategies.generation import (
    GenerationStrategy,
    Report,
    parameters_message,
    report_of,
)
from cdc_flower.strategies.joint import Examples, JointTraining, in_chunks, mean_generated
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


class Duet(GenerationStrategy):
    """Full generation of the adaptive layers by a hypernetwork in the cloud.

    Up goes a device's recent data (its last items, or the frames of a clip); down come its adaptive
    layers. No gradient runs on the device and no label leaves it.

    Args:
        epochs: Of training the hypernetwork on historical data. 0 leaves it at its start, which is
            ``static``.
        rate: Learning rate of Adam.
        joint: Whether static layers are trained along with the hypernetwork (5). False keeps the
            base model's.
        max_lag: In training, the sequence to generate from ends up to this many events before the
            one to predict, as it does on a device that was adapted a while ago. 0 is the paper's.
        width: Of the encoder; ``decoder_width``: between a decoder's two linear maps.
        num_generators: m, parallel maps of the stable weight adapter (6)-(8). 1 is equation (4).
        temperature: τ of their mixture, above 0. Without effect if there is one.
        report_lag: How many events before the segment a report ends. 0 is the present, 1 the stale
            arm.
        released_code: Whether to do as the released code does, with random decoders that are never
            trained.

    Raises:
        ValueError: If a value is out of its range.
    """

    reads = frozenset({records.HISTORY, records.FRAMES})

    def __init__(
        self,
        epochs: int = 20,
        rate: float = 1e-3,
        joint: bool = True,
        max_lag: int = 0,
        width: int = 32,
        decoder_width: int = 32,
        num_generators: int = 1,
        temperature: float = 1.0,
        report_lag: int = 0,
        released_code: bool = False,
    ) -> None:
        self.training = JointTraining(epochs, rate, joint, max_lag)
        self.knobs: dict[str, Any] = {
            "width": width,
            "decoder_width": decoder_width,
            "released_code": released_code,
        }
        self.knobs |= {"num_generators": num_generators, "temperature": temperature}
        check_whole(self.knobs, width=1, decoder_width=1, num_generators=1)
        check_whole({"report_lag": report_lag}, report_lag=0)
        check_switches(self.knobs, "released_code")
        if not 0 < temperature < np.inf:
            raise ValueError(f"temperature must be > 0, got {temperature}")
        if released_code and num_generators > 1:
            raise ValueError(
                f"num_generators must be 1 with released_code, which has no mixture, got {num_generators}"
            )
        self.report_lag = report_lag

    def prepare(self, cloud: Cloud) -> None:
        """Train the hypernetwork, and the static layers with it, on historical data (5)."""
        super().prepare(cloud)
        self.hypernetwork = Hypernetwork(
            cloud.model, cloud.parameters, **self.knobs, seed=cloud.seed
        )
        trained = dict(self.hypernetwork.named_parameters())
        settings = {**vars(self.training), **self.knobs}
        self.parameters, self.validation_curve = self.training.fit(
            cloud, "duet", settings, trained, self._logits
        )
        self.hypernetwork.eval()
        self.parameters |= mean_generated(
            cloud, lambda history: self._layers(self.parameters, history)
        )

    def _layers(self, parameters: Parameters, history: Tensor) -> Parameters:
        """Generated layers for sequences ``[B, L]``."""
        return self.hypernetwork(*self.cloud.model.sequence(parameters, history))

    def _logits(self, parameters: Parameters, examples: Examples) -> Tensor:
        """Logits ``[B, C]``, each example with layers of its own."""
        model, reported = self.cloud.model, examples.reported
        x, targets = model.encode(model.tabulate(parameters), examples.history, examples.candidates)
        return model.match(
            self.hypernetwork.head(x, *model.sequence(parameters, reported)), targets
        )

    def generate(self, history: NDArray[np.int32]) -> Arrays:
        """Sequences ``[n, L]`` -> adaptive layers ``[n, ...]``, each from its own sequence alone."""
        return self.generate_from({records.HISTORY: history})

    def generate_from(self, report: Report) -> Arrays:
        """As :meth:`generate`, from what devices report, ``[n, ...]`` each."""
        model = self.cloud.model
        return in_chunks(
            lambda part: self.hypernetwork(*model.reported(self.parameters, part)), report
        )

    def answer(self, reports: MessageBatch) -> list[MessageBatch]:
        """To each device the layers that its report generates."""
        model, generated = self.cloud.model, self.generate_from(report_of(reports))
        flops = model.sequence_flops() + self.hypernetwork.flops(model.history_length)
        return [parameters_message(reports.node_ids, generated, flops)]

    def deployment(self) -> Arrays:
        """Static layers as trained, and the mean generated adaptive layers to start with."""
        return self.cloud.arrays(self.parameters)
