"""APG: the cloud generates a small core of each adaptive layer, between maps that devices have.

Yan et al., APG: Adaptive Parameter Generation Network for Click-Through Rate Prediction, NeurIPS
2022, https://arxiv.org/abs/2203.16218, as a baseline of DUET and Persona (Persona's released code,
module/common.py).

Equations and choices: see README.md beside this file.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.core.options import option
from cdc_flower.core.seeds import torch_generator
from cdc_flower.devices.decoders.protocol import Decoder
from cdc_flower.models.layers import Parameters, linear, tanh_, uniform_linear
from cdc_flower.models.sequence_feature import feature_flops, init_feature, sequence_feature
from cdc_flower.strategies.apg.decoder import CORE, CoreDecoder
from cdc_flower.strategies.base import Cloud
from cdc_flower.strategies.generation import Report, report_of
from cdc_flower.strategies.joint import JointGeneration, in_chunks, mean_generated
from cdc_flower.strategies.past import Examples
from cdc_flower.strategies.reference_code import random_numbers
from cdc_flower.strategies.registry import strategies
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


@strategies.register(
    "apg",
    up="10 items, or a clip",
    down="256 numbers a layer",
    tiny={"epochs": 2, "rate": 0.01, "rank": 4, "width": 8, "max_lag": 0},
)
@dataclass(eq=False, repr=False)
class Apg(JointGeneration):
    """Generation of a ``k × k`` core for each adaptive layer.

    Up goes a device's recent data (its last items, or the frames of a clip); down come ``k²``
    numbers a layer. The device puts them between its own two maps. No gradient runs on the device
    and no label leaves it. Without training a layer is the base model's in its best approximation
    of rank k.

    Raises:
        ValueError: If a value is out of its range.
    """

    reads = frozenset({records.HISTORY, records.FRAMES})

    rank: int = option(
        16,
        least=1,
        doc="rank² numbers a layer travel; from the smaller side of a layer on, the layer starts "
        "as the base model's",
    )
    width: int = option(32, least=1, doc="of the sequence encoder")
    released_code: bool = option(
        False,
        neutral=False,
        doc="whether decoders are random and never trained, as in the released code; false trains "
        "them",
    )

    def prepare(self, cloud: Cloud) -> None:
        """Trains encoder, decoders and outer maps, and the static layers with them."""
        super().prepare(cloud)
        draws = torch_generator(cloud.seed, "apg")
        encoder = init_feature(draws, self.input_width(cloud.model), self.width)
        start = random_start if self.released_code else base_start
        decoders, self.maps = start(cloud, self.width, self.rank, draws)
        trained = {**encoder, **({} if self.released_code else decoders), **self.maps}
        self.hypernetwork = {**encoder, **decoders}
        self.parameters, self.validation_curve = self.fit(cloud, "apg", trained, self._logits)
        cores = mean_generated(
            cloud, lambda reported: self._cores(self.parameters, reported), self.past(cloud)
        )
        self.parameters |= {**self.maps, **composed(cores, self.maps)}

    def _cores(self, parameters: Parameters, history: Tensor) -> Parameters:
        """Generates cores ``[B, k, k]`` for sequences ``[B, L]``."""
        return self._cores_of(*self.cloud.model.sequence(parameters, history))

    def _cores_of(self, states: Tensor, num_steps: Tensor) -> Parameters:
        """Generates cores ``[B, k, k]`` from states ``[B, L, d]``, of which ``[B]`` steps count."""
        feature = sequence_feature(self.hypernetwork, states, num_steps)
        cores: Parameters = {}
        for layer in range(len(self.cloud.model.head_sizes)):
            weight, bias = (
                self.hypernetwork[f"decoder.{layer}.{part}"] for part in ("weight", "bias")
            )
            cores[f"head.{layer}.core"] = linear(feature, weight, bias).unflatten(
                -1, (self.rank, self.rank)
            )
        return cores

    def _logits(self, parameters: Parameters, examples: Examples) -> Tensor:
        """Makes logits ``[B, C]``, each example with cores of its own."""
        model = self.cloud.model
        cores = self._cores(parameters, examples.reported)
        x, targets = model.encode(model.tabulate(parameters), examples.history, examples.candidates)
        return model.match(factored_head(x, list(cores.values()), self.maps), targets)

    def generate(self, history: NDArray[np.int32]) -> Arrays:
        """Generates cores ``[n, k, k]`` from sequences ``[n, L]``, each from its own."""
        return self.generate_from({records.HISTORY: history})

    def generate_from(self, report: Report) -> Arrays:
        """Generates as :meth:`generate`, from what devices report, ``[n, ...]`` each."""
        model = self.cloud.model
        return in_chunks(
            lambda part: self._cores_of(*model.reported(self.parameters, part)), report
        )

    def flops(self) -> float:
        """Counts floating-point operations of one generation, a multiply-add as two."""
        model = self.cloud.model
        decoders = 2.0 * len(model.head_sizes) * self.width * self.rank**2
        feature = feature_flops(self.input_width(model), self.width, self.num_steps(model))
        return model.sequence_flops() + feature + decoders

    def answer(self, reports: MessageBatch) -> list[MessageBatch]:
        """Answers each device with the cores that its report generates."""
        cores = self.generate_from(report_of(reports))
        return [
            MessageBatch(
                records.EVALUATE,
                np.asarray(reports.node_ids, np.uint64),
                arrays={CORE: cores},
                configs={records.WORK: {records.FLOPS: self.flops()}},
            )
        ]

    def deployment(self) -> Arrays:
        """Deploys static layers, outer maps, and adaptive layers with the mean generated cores."""
        return self.cloud.arrays(self.parameters)

    def decoders(self) -> tuple[type[Decoder], ...]:
        """Makes layers of cores on devices."""
        return (CoreDecoder,)


def base_start(
    cloud: Cloud, width: int, rank: int, draws: torch.Generator
) -> tuple[Parameters, Parameters]:
    """Makes decoders and outer maps that give the base model's head for any sequence.

    It is in its best approximation of rank k. Cores are the identity. Around them are U √S and
    √S Vᵀ of the k largest singular values of the base layer's weight (Eckart and Young, 1936).
    Where k is more than there are, the left map has fresh columns and the right one zeros: the
    product is the weight, and training can use them.

    Args:
        cloud: The base model.
        width: w, of the feature that decoders read.
        rank: k.
        draws: Of what is drawn.

    Returns:
        ``decoder.l.weight`` ``[w, k²]`` and ``decoder.l.bias`` ``[k²]``; and ``apg.l.left`` ``[in,
        k]``, ``apg.l.left_bias`` ``[k]``, ``apg.l.right`` ``[k, out]`` and ``apg.l.right_bias``
        ``[out]``.
    """
    decoders: Parameters = {}
    maps: Parameters = {}
    for layer, (num_inputs, num_outputs) in enumerate(cloud.model.head_sizes):
        u, singular, v = torch.linalg.svd(
            cloud.parameters[f"head.{layer}.weight"], full_matrices=False
        )
        count, root = min(rank, len(singular)), singular[:rank].sqrt()
        left, right = uniform_linear(draws, num_inputs, rank)[0], torch.zeros(rank, num_outputs)
        left[:, :count], right[:count] = u[:, :count] * root, root[:, None] * v[:count]
        decoders |= _named(
            f"decoder.{layer}", weight=torch.zeros(width, rank**2), bias=torch.eye(rank).flatten()
        )
        maps |= _named(f"apg.{layer}", left=left, left_bias=torch.zeros(rank))
        maps |= _named(
            f"apg.{layer}", right=right, right_bias=cloud.parameters[f"head.{layer}.bias"].clone()
        )
    return decoders, maps


def random_start(
    cloud: Cloud, width: int, rank: int, draws: torch.Generator
) -> tuple[Parameters, Parameters]:
    """Draws decoders as the released code does, and outer maps that do not know the base model.

    Args:
        cloud: The base model, for its shapes.
        width: w, of the feature that decoders read.
        rank: k.
        draws: Of what is drawn.

    Returns:
        As :func:`base_start`.
    """
    decoders: Parameters = {}
    maps: Parameters = {}
    for layer, (num_inputs, num_outputs) in enumerate(cloud.model.head_sizes):
        weight, bias = random_numbers(draws, width, rank**2), random_numbers(draws, rank**2)
        left, left_bias = uniform_linear(draws, num_inputs, rank)
        right, right_bias = uniform_linear(draws, rank, num_outputs)
        decoders |= _named(f"decoder.{layer}", weight=weight, bias=bias)
        maps |= _named(
            f"apg.{layer}", left=left, left_bias=left_bias, right=right, right_bias=right_bias
        )
    return decoders, maps


def _named(layer: str, **tensors: Tensor) -> Parameters:
    return {f"{layer}.{name}": value for name, value in tensors.items()}


def factored_head(x: Tensor, cores: list[Tensor], maps: Parameters) -> Tensor:
    """Applies the head with three maps a layer: x ← Tanh(((x L + a) C) R + b), no last Tanh.

    Args:
        x: ``[B, c, in]``.
        cores: C, ``[B, k, k]`` a layer.
        maps: ``apg.l.left`` L, ``apg.l.left_bias`` a, ``apg.l.right`` R and ``apg.l.right_bias`` b,
            which all share.
    """
    for layer, core in enumerate(cores):
        left, left_bias, right, right_bias = _sides(maps, layer)
        inner = linear(tanh_(x) if layer else x, left, left_bias)
        x = linear(linear(inner, core), right, right_bias)
    return x


def composed(cores: Parameters, maps: Parameters) -> Parameters:
    """Makes adaptive layers of one core ``[k, k]`` a layer: K = L C R, k = a C R + b."""
    layers: Parameters = {}
    for layer, core in enumerate(cores.values()):
        left, left_bias, right, right_bias = _sides(maps, layer)
        layers[f"head.{layer}.weight"] = left @ core @ right
        layers[f"head.{layer}.bias"] = left_bias @ core @ right + right_bias
    return layers


def _sides(maps: Parameters, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    left, right = f"apg.{layer}.left", f"apg.{layer}.right"
    return maps[left], maps[f"{left}_bias"], maps[right], maps[f"{right}_bias"]
