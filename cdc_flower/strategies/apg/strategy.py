"""APG: the cloud generates a small core of each adaptive layer; the maps around it are on every device.

Yan et al., APG: Adaptive Parameter Generation Network for Click-Through Rate Prediction, NeurIPS
2022, https://arxiv.org/abs/2203.16218, as a baseline of DUET and Persona (Persona's released code,
module/common.py).

Equations and choices: see apg.md beside this file.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.core.seeds import torch_generator
from cdc_flower.devices.decoders.protocol import Decoder
from cdc_flower.models.layers import Parameters, linear, tanh_, uniform_linear
from cdc_flower.models.sequence_feature import feature_flops, init_feature, sequence_feature
from cdc_flower.strategies.apg.decoder import CORE, CoreDecoder
from cdc_flower.strategies.base import Cloud
from cdc_flower.strategies.checks import check_switches, check_whole
from cdc_flower.strategies.generation import GenerationStrategy, Report, report_of
from cdc_flower.strategies.joint import Examples, JointTraining, in_chunks, mean_generated
from cdc_flower.strategies.reference_code import random_numbers
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


class Apg(GenerationStrategy):
    """Generation of a ``k × k`` core for each adaptive layer.

    Up goes a device's recent data (its last items, or the frames of a clip); down come ``k²``
    numbers a layer. The device puts them between its own two maps. No gradient runs on the device
    and no label leaves it.

    Args:
        epochs: Of training on historical data. 0 leaves the base model's head in its best
            approximation of rank k.
        rate: Learning rate of Adam.
        joint: Whether static layers are trained along. False keeps the base model's.
        max_lag: In training, the sequence to generate from ends up to this many events before the
            one to predict. 0 is the papers'.
        rank: k. From the smaller side of a layer on, the layer starts as the base model's.
        width: Of the sequence encoder.
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
        rank: int = 16,
        width: int = 32,
        report_lag: int = 0,
        released_code: bool = False,
    ) -> None:
        self.training = JointTraining(epochs, rate, joint, max_lag)
        self.knobs = {"rank": rank, "width": width, "released_code": released_code}
        check_whole(self.knobs, rank=1, width=1)
        check_whole({"report_lag": report_lag}, report_lag=0)
        check_switches(self.knobs, "released_code")
        self.rank, self.width, self.report_lag = rank, width, report_lag

    def prepare(self, cloud: Cloud) -> None:
        """Train encoder, decoders and outer maps, and the static layers with them, on historical data."""
        super().prepare(cloud)
        draws = torch_generator(cloud.seed, "apg")
        encoder = init_feature(draws, cloud.model.width, self.width)
        start = random_start if self.knobs["released_code"] else base_start
        decoders, self.maps = start(cloud, self.width, self.rank, draws)
        trained = {**encoder, **({} if self.knobs["released_code"] else decoders), **self.maps}
        self.hypernetwork = {**encoder, **decoders}
        settings = {**vars(self.training), **self.knobs}
        self.parameters, self.validation_curve = self.training.fit(
            cloud, "apg", settings, trained, self._logits
        )
        cores = mean_generated(cloud, lambda history: self._cores(self.parameters, history))
        self.parameters |= {**self.maps, **composed(cores, self.maps)}

    def _cores(self, parameters: Parameters, history: Tensor) -> Parameters:
        """Generated cores ``[B, k, k]`` for sequences ``[B, L]``."""
        return self._cores_of(*self.cloud.model.sequence(parameters, history))

    def _cores_of(self, states: Tensor, num_steps: Tensor) -> Parameters:
        """Generates cores ``[B, k, k]`` from states ``[B, L, d]``, of which ``num_steps`` ``[B]`` count."""
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
        """Logits ``[B, C]``, each example with cores of its own."""
        model = self.cloud.model
        cores = self._cores(parameters, examples.reported)
        x, targets = model.encode(model.tabulate(parameters), examples.history, examples.candidates)
        return model.match(factored_head(x, list(cores.values()), self.maps), targets)

    def generate(self, history: NDArray[np.int32]) -> Arrays:
        """Sequences ``[n, L]`` -> cores ``[n, k, k]`` of each layer, each from its own sequence alone."""
        return self.generate_from({records.HISTORY: history})

    def generate_from(self, report: Report) -> Arrays:
        """As :meth:`generate`, from what devices report, ``[n, ...]`` each."""
        model = self.cloud.model
        return in_chunks(
            lambda part: self._cores_of(*model.reported(self.parameters, part)), report
        )

    def flops(self) -> float:
        """Floating-point operations of one generation, counting a multiply-add as two."""
        model = self.cloud.model
        decoders = 2.0 * len(model.head_sizes) * self.width * self.rank**2
        feature = feature_flops(model.width, self.width, model.history_length)
        return model.sequence_flops() + feature + decoders

    def answer(self, reports: MessageBatch) -> list[MessageBatch]:
        """To each device the cores that its report generates."""
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
        """Static layers as trained, outer maps, and adaptive layers with the mean generated cores to start with."""
        return self.cloud.arrays(self.parameters)

    def decoders(self) -> tuple[type[Decoder], ...]:
        """Makes layers of cores on devices."""
        return (CoreDecoder,)


def base_start(
    cloud: Cloud, width: int, rank: int, draws: torch.Generator
) -> tuple[Parameters, Parameters]:
    """Decoders and outer maps that give the base model's head in its best approximation of rank k for any sequence.

    Cores are the identity. Around them are U √S and √S Vᵀ of the k largest singular values of the
    base layer's weight (Eckart and Young, 1936). Where k is more than there are, the left map has
    fresh columns and the right one zeros beside them: the product is the weight, and training can
    use them.

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
    """Decoders of the released code and fresh outer maps, which do not know the base model; as :func:`base_start`."""
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
    """The head with three maps a layer: x ← Tanh(((x L + a) C) R + b), no Tanh after the last.

    Args:
        x: ``[B, c, in]``; ``cores``: C, ``[B, k, k]`` a layer.
        maps: ``apg.l.left`` L, ``apg.l.left_bias`` a, ``apg.l.right`` R and ``apg.l.right_bias`` b,
            which all share.
    """
    for layer, core in enumerate(cores):
        left, left_bias, right, right_bias = _sides(maps, layer)
        inner = linear(tanh_(x) if layer else x, left, left_bias)
        x = linear(linear(inner, core), right, right_bias)
    return x


def composed(cores: Parameters, maps: Parameters) -> Parameters:
    """One set of adaptive layers from one core ``[k, k]`` a layer: K = L C R, k = a C R + b."""
    layers: Parameters = {}
    for layer, core in enumerate(cores.values()):
        left, left_bias, right, right_bias = _sides(maps, layer)
        layers[f"head.{layer}.weight"] = left @ core @ right
        layers[f"head.{layer}.bias"] = left_bias @ core @ right + right_bias
    return layers


def _sides(maps: Parameters, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    left, right = f"apg.{layer}.left", f"apg.{layer}.right"
    return maps[left], maps[f"{left}_bias"], maps[right], maps[f"{right}_bias"]
