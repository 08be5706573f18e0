"""DUET: the cloud generates each device's adaptive layers from its recent, unlabelled events.

Lv et al., DUET: A Tuning-Free Device-Cloud Collaborative Parameters Generation Framework for
Efficient Device Model Generalization, WWW 2023, https://arxiv.org/abs/2209.05227

Equations and choices: see README.md beside this file.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.core.options import option
from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.base import Cloud
from cdc_flower.strategies.duet.hypernetwork import Hypernetwork
from cdc_flower.strategies.generation import Report, parameters_message, report_of
from cdc_flower.strategies.joint import JointGeneration, in_chunks, mean_generated
from cdc_flower.strategies.papers import paper
from cdc_flower.strategies.past import Examples
from cdc_flower.strategies.registry import strategies
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

PAPER = paper(
    "DUET",
    key="lv2023duet",
    author="Lv, Zheqi",
    title="{DUET}: A Tuning-Free Device-Cloud Collaborative Parameters Generation Framework for "
    "Efficient Device Model Generalization",
    venue="Proceedings of the ACM Web Conference (WWW)",
    year=2023,
    arxiv="2209.05227",
)


@strategies.register(
    "duet",
    paper=PAPER,
    color="#0072B2",
    up="10 items, or a clip",
    down="adaptive layers",
    tiny={"epochs": 2, "rate": 0.01, "width": 8, "decoder_width": 8, "max_lag": 0},
)
@dataclass(eq=False, repr=False)
class Duet(JointGeneration):
    """Full generation of the adaptive layers by a hypernetwork in the cloud.

    Up goes a device's recent data (its last items, or the frames of a clip); down come its adaptive
    layers. No gradient runs on the device and no label leaves it.

    Raises:
        ValueError: If a value is out of its range.
    """

    reads = frozenset({records.HISTORY, records.FRAMES})

    width: int = option(32, least=1, doc="of the encoder and of the layer embeddings")
    decoder_width: int = option(32, least=1, doc="between a decoder's two linear maps")
    num_generators: int = option(
        1,
        least=1,
        neutral=1,
        doc="parallel maps of the stable weight adapter, equations (6)-(8); 1 is equation (4)",
    )
    temperature: float = option(
        1.0,
        above=0,
        below=math.inf,
        doc="of their mixture: the larger, the more equal the shares; without effect on one map",
    )
    released_code: bool = option(
        False,
        neutral=False,
        doc="whether decoders are random and never trained, as in the released code; false is the "
        "paper's",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.released_code and self.num_generators > 1:
            raise ValueError(
                "num_generators must be 1 with released_code, which has no mixture, "
                f"got {self.num_generators}"
            )

    def prepare(self, cloud: Cloud) -> None:
        """Trains the hypernetwork, and the static layers with it, on historical data (5)."""
        super().prepare(cloud)
        self.hypernetwork = Hypernetwork(
            cloud.model,
            cloud.parameters,
            width=self.width,
            decoder_width=self.decoder_width,
            num_generators=self.num_generators,
            temperature=self.temperature,
            released_code=self.released_code,
            reads_pairs=self.report_reads == "pairs",
            seed=cloud.seed,
        )
        trained = dict(self.hypernetwork.named_parameters())
        self.parameters, self.validation_curve = self.fit(cloud, "duet", trained, self._logits)
        self.hypernetwork.eval()
        self.parameters |= mean_generated(
            cloud, lambda reported: self._layers(self.parameters, reported), self.past(cloud)
        )

    def _layers(self, parameters: Parameters, history: Tensor) -> Parameters:
        """Generates layers for sequences ``[B, L]``."""
        return self.hypernetwork(*self.cloud.model.sequence(parameters, history))

    def _logits(self, parameters: Parameters, examples: Examples) -> Tensor:
        """Makes logits ``[B, C]``, each example with layers of its own."""
        model, reported = self.cloud.model, examples.reported
        x, targets = model.encode(model.tabulate(parameters), examples.history, examples.candidates)
        return model.match(
            self.hypernetwork.head(x, *model.sequence(parameters, reported)), targets
        )

    def generate(self, history: NDArray[np.int32]) -> Arrays:
        """Generates adaptive layers ``[n, ...]`` from sequences ``[n, L]``, each from its own."""
        return self.generate_from({records.HISTORY: history})

    def generate_from(self, report: Report) -> Arrays:
        """Generates as :meth:`generate`, from what devices report, ``[n, ...]`` each."""
        model = self.cloud.model
        return in_chunks(
            lambda part: self.hypernetwork(*model.reported(self.parameters, part)), report
        )

    def answer(self, reports: MessageBatch) -> list[MessageBatch]:
        """Answers each device with the layers that its report generates."""
        model, generated = self.cloud.model, self.generate_from(report_of(reports))
        flops = model.sequence_flops() + self.hypernetwork.flops(self.num_steps(model))
        return [parameters_message(reports.node_ids, generated, flops)]

    def deployment(self) -> Arrays:
        """Deploys static layers as trained, and the mean generated layers to start with."""
        return self.cloud.arrays(self.parameters)
