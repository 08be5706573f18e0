"""The parameter editor: from a device's feature to one editing matrix for each adaptive layer.

    e(1..L) = transfer(z)                      layer embeddings, see transfer.py
    G(l)    = clip(e(l) P_l + p_l, -γ, γ)      editing matrix, [in + 1, out] with the bias in the last row
    K(l)    = W(l) + G(l)                      what a device predicts with; W is its prototype's layer

Decoders P, p are registered and trained, and start at zero, so every first edit is zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.models.base import DeviceModel, init_layers
from cdc_flower.models.generated_layers import generated, generated_head, split_layer
from cdc_flower.models.layers import Parameters
from cdc_flower.models.sequence_feature import (
    feature_flops,
    history_feature,
    init_feature,
    reported_feature,
)
from cdc_flower.strategies.persona.transfer import (
    KINDS,
    NUM_HEADS,
    init_transfer,
    layer_embeddings,
    transfer_flops,
)


@dataclass(frozen=True)
class ParameterEditor:
    """Functions of an editor; its parameters are given to them.

    Attributes:
        model: The device model, whose head is edited.
        width: w, of the feature and of the layer embeddings.
        transfer: Between layers; one of ``gru``, ``transformer``, ``none``, or ``cloned`` as in the
            released code.
        clip: γ; 0 makes every edit zero, infinity clips nothing.
        low_rank: Rank of the editing matrices; None for full rank. The two factors travel instead
            of the matrix.
        random_decoders: Whether decoders are random and not trained, as in the released code.

    Raises:
        ValueError: If a value is out of its range.
    """

    model: DeviceModel
    width: int = 32
    transfer: str = "gru"
    clip: float = 1.0
    low_rank: int | None = None
    random_decoders: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        if self.transfer not in KINDS:
            raise ValueError(f"transfer must be one of {', '.join(KINDS)}, got {self.transfer!r}")
        if self.width < 1 or (self.transfer == "transformer" and self.width % NUM_HEADS):
            raise ValueError(
                f"width must be >= 1 (a multiple of {NUM_HEADS} for transformer), got {self.width}"
            )
        if not self.clip >= 0:
            raise ValueError(f"clip must be >= 0, got {self.clip}")
        if self.low_rank is not None and self.low_rank < 1:
            raise ValueError(f"low_rank must be >= 1 or null, got {self.low_rank}")

    @property
    def num_layers(self) -> int:
        """L, how many adaptive layers."""
        return len(self.model.head_sizes)

    def _decoder_sizes(self) -> dict[str, tuple[int, int]]:
        sizes: dict[str, tuple[int, int]] = {}
        for layer, (num_inputs, num_outputs) in enumerate(self.model.head_sizes):
            if self.low_rank is None:
                sizes[f"decoder.{layer}"] = self.width, (num_inputs + 1) * num_outputs
                continue
            sizes[f"decoder.{layer}.left"] = self.width, num_inputs * self.low_rank
            sizes[f"decoder.{layer}.right"] = self.width, self.low_rank * num_outputs
            sizes[f"decoder.{layer}.offset"] = self.width, num_outputs
        return sizes

    def init(self, generator: torch.Generator) -> Parameters:
        """Fresh parameters: ``feature.*``, ``transfer.*`` and ``decoder.*``. Every edit is zero at first.

        With low rank the left factor starts as drawn and the right one at zero. Random decoders are
        drawn from a standard normal distribution, remainders by 2, and edit from the start.
        """
        parameters = init_feature(generator, self.model.width, self.width)
        parameters |= init_transfer(generator, self.transfer, self.num_layers, self.width)
        for name, value in init_layers(generator, self._decoder_sizes()).items():
            if self.random_decoders:
                value = torch.empty_like(value).normal_(generator=generator).fmod(2.0)
            elif ".left." not in name:
                value = torch.zeros_like(value)
            parameters[name] = value
        return parameters

    def trained(self, parameters: Parameters) -> dict[str, Tensor]:
        """Those that are trained: all but random decoders."""
        kept = {
            name: value for name, value in parameters.items() if not name.startswith("decoder.")
        }
        return kept if self.random_decoders else dict(parameters)

    def feature(self, parameters: Parameters, static: Parameters, history: Tensor) -> Tensor:
        """Makes z ``[B, w]`` of histories ``[B, L]``, from a table where there is one."""
        return history_feature(parameters, self.model, static, history)

    def reported_feature(
        self, parameters: Parameters, static: Parameters, report: Mapping[str, NDArray[Any]]
    ) -> Tensor:
        """Makes z ``[n, w]`` of what devices report; see :func:`~cdc_flower.models.sequence_feature.reported_feature`.

        Args:
            parameters: Of the editor.
            static: Of the device model.
            report: ``[n, ...]`` by name.
        """
        return reported_feature(parameters, self.model, static, report)

    def embeddings(self, parameters: Parameters, feature: Tensor) -> list[Tensor]:
        """e(1), ..., e(L), each ``[B, w]``."""
        return layer_embeddings(parameters, self.transfer, feature, self.num_layers)

    def factors(self, parameters: Parameters, embeddings: list[Tensor]) -> Parameters:
        """What travels of the edits of ``B`` devices: matrices and biases, or with low rank two factors a matrix.

        Names are those of the layers; factors are ``head.l.left`` ``[B, in, r]`` and
        ``head.l.right`` ``[B, r, out]``, each clipped to ±√(γ/r), so that no entry of their product
        is beyond ±γ.
        """
        edits: Parameters = {}
        for layer, (num_inputs, num_outputs) in enumerate(self.model.head_sizes):
            name, e = f"decoder.{layer}", embeddings[layer]
            if self.low_rank is None:
                flat = generated(e, *decoder_of(parameters, name), self.clip)
                edits |= split_layer(flat, layer, num_inputs, num_outputs)
                continue
            bound = (self.clip / self.low_rank) ** 0.5
            left = generated(e, *decoder_of(parameters, f"{name}.left"), bound)
            right = generated(e, *decoder_of(parameters, f"{name}.right"), bound)
            edits[f"head.{layer}.left"] = left.reshape(-1, num_inputs, self.low_rank)
            edits[f"head.{layer}.right"] = right.reshape(-1, self.low_rank, num_outputs)
            offset = decoder_of(parameters, f"{name}.offset")
            edits[f"head.{layer}.bias"] = generated(e, *offset, self.clip)
        return edits

    def edits(self, parameters: Parameters, embeddings: list[Tensor]) -> Parameters:
        """G ``[B, in, out]`` and ``[B, out]`` under the names of the layers."""
        factors = self.factors(parameters, embeddings)
        if self.low_rank is None:
            return factors
        edits: Parameters = {}
        for layer in range(self.num_layers):
            edits[f"head.{layer}.weight"] = (
                factors[f"head.{layer}.left"] @ factors[f"head.{layer}.right"]
            )
            edits[f"head.{layer}.bias"] = factors[f"head.{layer}.bias"]
        return edits

    def head(
        self, parameters: Parameters, embeddings: list[Tensor], prototype: Parameters, x: Tensor
    ) -> Tensor:
        """The edited head on ``x`` ``[B, k, in]``: the layers of the prototype, and on each row an edit of its own.

        The same as adding :meth:`edits` to the prototype, made for training.
        """
        if self.low_rank is not None:
            edits = self.edits(parameters, embeddings)
            return self.model.head(
                {name: prototype[name] + edit for name, edit in edits.items()}, x
            )
        layers = range(self.num_layers)
        bases = [
            torch.cat([prototype[f"head.{k}.weight"], prototype[f"head.{k}.bias"][None]])
            for k in layers
        ]
        decoders = [decoder_of(parameters, f"decoder.{k}") for k in layers]
        return generated_head(x, bases, embeddings, decoders, self.clip)

    def coordinates(self, parameters: Parameters, embeddings: list[Tensor]) -> Tensor:
        """Points ``[B, c]`` that lie as far from each other as the editing matrices before clipping do.

        With full rank ``‖e P - e' P‖ = ‖(e - e') R‖`` where ``R Rᵀ = P Pᵀ``, so L w numbers stand
        for all entries. Biases do not count. With low rank these are the entries themselves.
        """
        if self.low_rank is not None:
            edits = self.edits(parameters, embeddings)
            return torch.cat(
                [edits[f"head.{k}.weight"].flatten(1) for k in range(self.num_layers)], -1
            )
        points = []
        for layer, (num_inputs, num_outputs) in enumerate(self.model.head_sizes):
            weight = parameters[f"decoder.{layer}.weight"][:, : num_inputs * num_outputs].double()
            value, vector = torch.linalg.eigh(weight @ weight.T)
            root = vector * value.clamp(min=0).sqrt()
            points.append(embeddings[layer] @ root.float())
        return torch.cat(points, -1)

    def flops(self, history_length: int) -> float:
        """Floating-point operations of the edits of one device, counting a multiply-add as two."""
        return self.feature_flops(history_length) + self._transfer_flops() + self._decoder_flops()

    def comparison_flops(self) -> float:
        """The same of finding out where a device's edits lie, or how large they are, once its feature is known.

        Columns that clipping reaches are not counted; see ``group.py``.
        """
        low = 2.0 * self.num_layers * self.width**2
        return self._transfer_flops() + (low if self.low_rank is None else self._decoder_flops())

    def _transfer_flops(self) -> float:
        return transfer_flops(self.transfer, self.num_layers, self.width)

    def _decoder_flops(self) -> float:
        return 2.0 * sum(
            num_inputs * num_outputs for num_inputs, num_outputs in self._decoder_sizes().values()
        )

    def feature_flops(self, history_length: int) -> float:
        """The part of :meth:`flops` that makes the feature."""
        return feature_flops(self.model.width, self.width, history_length)


def decoder_of(parameters: Parameters, name: str) -> tuple[Tensor, Tensor]:
    """Takes P and p of a decoder, such as ``decoder.0``."""
    return parameters[f"{name}.weight"], parameters[f"{name}.bias"]
