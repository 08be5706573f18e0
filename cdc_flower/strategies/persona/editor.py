"""The parameter editor: from a device's feature to one editing matrix for each adaptive layer.

    e(1..L) = transfer(z)                      layer embeddings, see transfer.py
    G(l)    = clip(e(l) P_l + p_l, -γ, γ)      editing matrix; its last row is the bias
    K(l)    = W(l) + G(l)                      a device predicts with it; W is its prototype's

Decoders P, p are registered and trained, and start at zero, so every first edit is zero.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cdc_flower.core.options import check_options, option
from cdc_flower.models.base import DeviceModel, init_layers
from cdc_flower.models.generated_layers import generated, generated_head, split_layer
from cdc_flower.models.layers import Parameters
from cdc_flower.models.sequence_feature import (
    feature_flops,
    history_feature,
    init_feature,
    reported_feature,
)
from cdc_flower.strategies.generation import Report
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

    With low rank two factors travel instead of a matrix.

    Attributes:
        model: The device model, whose head is edited.

    Raises:
        ValueError: If a value is out of its range.
    """

    model: DeviceModel = option(changes_training=False)
    width: int = option(32, least=1, doc="w, of the feature and of the layer embeddings")
    transfer: str = option("gru", choices=KINDS, doc="between layers; cloned: the released code's")
    clip: float = option(1.0, least=0, doc="γ; 0 makes every edit zero, infinity clips nothing")
    low_rank: int | None = option(None, least=1, doc="of the editing matrices; null: full rank")
    reads: str = option(
        "items", choices=("items", "pairs"), doc="of a report: single states, or pairs of them"
    )
    random_decoders: bool = option(
        False, doc="whether decoders are random and not trained, as in the released code"
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.transfer == "transformer" and self.width % NUM_HEADS:
            raise ValueError(
                f"width must be a multiple of {NUM_HEADS} with transfer=transformer, "
                f"got {self.width}"
            )

    @property
    def num_layers(self) -> int:
        """Counts the adaptive layers, L."""
        return len(self.model.head_sizes)

    @property
    def _input_width(self) -> int:
        """Counts the numbers that the feature reads at a step."""
        return self.model.width * (2 if self.reads == "pairs" else 1)

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
        """Draws parameters ``feature.*``, ``transfer.*``, ``decoder.*``; edits are zero at first.

        With low rank the left factor starts as drawn and the right one at zero. Random decoders are
        drawn from a standard normal distribution, remainders by 2, and edit from the start.
        """
        parameters = init_feature(generator, self._input_width, self.width)
        parameters |= init_transfer(generator, self.transfer, self.num_layers, self.width)
        for name, value in init_layers(generator, self._decoder_sizes()).items():
            if self.random_decoders:
                value = torch.empty_like(value).normal_(generator=generator).fmod(2.0)
            elif ".left." not in name:
                value = torch.zeros_like(value)
            parameters[name] = value
        return parameters

    def trained(self, parameters: Parameters) -> dict[str, Tensor]:
        """Lists the trained ones: all but random decoders."""
        kept = {
            name: value for name, value in parameters.items() if not name.startswith("decoder.")
        }
        return kept if self.random_decoders else dict(parameters)

    def feature(self, parameters: Parameters, static: Parameters, history: Tensor) -> Tensor:
        """Makes z ``[B, w]`` of histories, from a table where there is one.

        Args:
            parameters: Of the editor.
            static: Of the device model.
            history: ``[B, L]``.
        """
        return history_feature(parameters, self.model, static, history)

    def reported_feature(
        self, parameters: Parameters, static: Parameters, report: Report
    ) -> Tensor:
        """Makes z ``[n, w]`` of what devices report.

        See :func:`~cdc_flower.models.sequence_feature.reported_feature`.

        Args:
            parameters: Of the editor.
            static: Of the device model.
            report: ``[n, ...]`` by name.
        """
        return reported_feature(parameters, self.model, static, report)

    def embeddings(self, parameters: Parameters, feature: Tensor) -> list[Tensor]:
        """Makes e(1), ..., e(L), each ``[B, w]``."""
        return layer_embeddings(parameters, self.transfer, feature, self.num_layers)

    def factors(self, parameters: Parameters, embeddings: list[Tensor]) -> Parameters:
        """Makes what travels of edits of ``B`` devices: matrices, or two factors each, and biases.

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
        """Makes G ``[B, in, out]`` and ``[B, out]`` under the names of the layers."""
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
        """Applies the edited head: layers of the prototype, with an edit of its own on each row.

        The same as adding :meth:`edits` to the prototype, made for training.

        Args:
            parameters: Of the editor.
            embeddings: From :meth:`embeddings`.
            prototype: The layers that are edited.
            x: ``[B, k, in]``.
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
        """Makes points ``[B, c]`` as far from each other as editing matrices are before clipping.

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

    def flops(self, num_steps: int) -> float:
        """Counts floating-point operations of the edits of a device, a multiply-add as two."""
        return self.feature_flops(num_steps) + self._transfer_flops() + self._decoder_flops()

    def comparison_flops(self) -> float:
        """Counts those of placing a device's edits, or measuring them, once its feature is known.

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

    def feature_flops(self, num_steps: int) -> float:
        """Counts the operations of :meth:`flops` that make the feature."""
        return feature_flops(self._input_width, self.width, num_steps)


def decoder_of(parameters: Parameters, name: str) -> tuple[Tensor, Tensor]:
    """Takes P and p of a decoder, such as ``decoder.0``."""
    return parameters[f"{name}.weight"], parameters[f"{name}.bias"]
