"""The edits of one group: its trained layers W, its editor, and how far its prototype moved, D.

    K = W + clip(e P + p, ±γ)              what a device predicts with
    K - (W + D)                            what is added to its prototype, clipped too
    |e P_k + p_k| ≤ Σ_j max_i|e_ij| |P_jk| + |p_k|      over devices i: the reach of column k

Where every reach is within γ, clipping changes nothing, and K is one product with a bias.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cdc_flower.models.generated_layers import clip_, generated, split_layer
from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.persona.editor import ParameterEditor, decoder_of
from cdc_flower.strategies.persona.prototypes import Bank, norms

#: Numbers of adaptive layers that are made at a time, so that they stay in the cache.
NUMBERS_PER_CHUNK = 1_000_000


@dataclass(frozen=True)
class Group:
    """One prototype of a bank, with the parameters of its editor.

    Attributes:
        editor: Functions of the editor.
        parameters: Of the group's own.
        bank: The prototypes.
        index: Of this one.
    """

    editor: ParameterEditor
    parameters: Parameters
    bank: Bank
    index: int

    def embeddings(self, feature: Tensor) -> list[Tensor]:
        """Makes e(1), ..., e(L), each ``[n, w]``, of features ``[n, w]``."""
        return self.editor.embeddings(self.parameters, feature)

    def prototype(self) -> Parameters:
        """Gives P of this group by name."""
        return {
            name: value[self.index] + self.bank.drift[name][self.index]
            for name, value in self.bank.trained.items()
        }

    def edits(self, embeddings: list[Tensor]) -> tuple[Parameters, Parameters]:
        """Makes what travels of the edits ``[n, ...]``, and the edits ``K - P`` themselves."""
        edits = self.editor.edits(self.parameters, embeddings)
        residual = self.bank.residual(self.index, edits, self.editor.clip)
        if self.editor.low_rank is None:
            return residual, residual
        return self.editor.factors(self.parameters, embeddings), residual

    def is_free(self, embeddings: list[Tensor]) -> bool:
        """Tells whether clipping surely changes no edit of these devices. False with low rank."""
        if self.editor.low_rank is not None:
            return False
        return all(
            bool((reach(e, *self._decoder(layer), self._drift(layer)) <= self.editor.clip).all())
            for layer, e in enumerate(embeddings)
        )

    def layers(self, embeddings: list[Tensor]) -> Parameters:
        """Makes K ``[n, ...]`` by name, where :meth:`is_free`: e P + (p + W)."""
        layers: Parameters = {}
        for layer, (num_inputs, num_outputs) in enumerate(self.editor.model.head_sizes):
            base = self._flat(self.bank.trained, layer)
            flat = generated(embeddings[layer], *self._decoder(layer), base=base)
            layers |= split_layer(flat, layer, num_inputs, num_outputs)
        return layers

    def norms(self, embeddings: list[Tensor]) -> Tensor:
        """Measures edits as :func:`~cdc_flower.strategies.persona.prototypes.norms`, ``[n]``.

        Most are not made for it. For columns within reach of no clipping all devices share one
        small matrix: ``Σ_k (e P_k + q_k)² = e (P Pᵀ) eᵀ + 2 e (P qᵀ) + q qᵀ`` with ``q = p - D``.
        The others are made and clipped.

        Returns:
            In double precision.
        """
        if self.editor.low_rank is not None:
            size = rows_per_chunk(self.editor.model.num_adaptive)
            parts = zip(*(e.split(size) for e in embeddings), strict=True)
            return torch.cat([norms(self.edits(list(part))[1]) for part in parts]).double()
        total = torch.zeros(len(embeddings[0]), dtype=torch.float64)
        for layer, (num_inputs, num_outputs) in enumerate(self.editor.model.head_sizes):
            size = num_inputs * num_outputs  # biases do not count
            (weight, bias), drift = self._decoder(layer), self._drift(layer)
            moved = None if drift is None else drift[:size]
            total += _squares(
                embeddings[layer], weight[:, :size], bias[:size], moved, self.editor.clip
            )
        return total.clamp_(min=0).sqrt_()

    def _decoder(self, layer: int) -> tuple[Tensor, Tensor]:
        """Gives P and p of a layer."""
        return decoder_of(self.parameters, f"decoder.{layer}")

    def _drift(self, layer: int) -> Tensor | None:
        """Gives D of a layer, ``[(in + 1) out]``; None where the prototype has not moved."""
        return self._flat(self.bank.drift, layer) if self.bank.version[self.index] else None

    def _flat(self, stacked: Parameters, layer: int) -> Tensor:
        """Flattens one layer of this prototype, ``[(in + 1) out]``."""
        parts = (
            stacked[f"head.{layer}.{part}"][self.index].flatten() for part in ("weight", "bias")
        )
        return torch.cat(list(parts))


def rows_per_chunk(num_numbers: int) -> int:
    """Counts the devices whose layers, of so many numbers each, are made at a time."""
    return max(1, NUMBERS_PER_CHUNK // max(1, num_numbers))


def reach(e: Tensor, weight: Tensor, bias: Tensor, drift: Tensor | None) -> Tensor:
    """Bounds ``|e P_k + p_k|`` and ``|e P_k + p_k - D_k|`` of these devices, by column k.

    Args:
        e: ``[n, w]``.
        weight: P, ``[w, columns]``.
        bias: p, ``[columns]``.
        drift: D, ``[columns]``; None for zero.
    """
    offset = bias.abs() if drift is None else torch.maximum(bias.abs(), (bias - drift).abs())
    return offset + e.abs().amax(0) @ weight.abs()


def _squares(e: Tensor, weight: Tensor, bias: Tensor, drift: Tensor | None, clip: float) -> Tensor:
    """Sums the squares ``[n]`` of ``clip(clip(e P + p) - D)`` over columns; see :func:`reach`."""
    is_free = reach(e, weight, bias, drift) <= clip
    if len(e) < e.shape[1]:  # making so few edits costs less than P Pᵀ does
        is_free.zero_()
    offset = bias if drift is None else bias - drift
    free, q, many = weight[:, is_free].double(), offset[is_free].double(), e.double()
    squares = ((many @ (free @ free.T)) * many).sum(1) + 2 * many @ (free @ q) + q @ q
    if is_free.all():
        return squares
    weight, bias = weight[:, ~is_free], bias[~is_free]
    for rows in torch.arange(len(e)).split(rows_per_chunk(len(bias))):
        made = generated(e[rows], weight, bias, clip)
        if drift is not None:
            clip_(made.sub_(drift[~is_free]), clip)
        squares[rows] += torch.linalg.vector_norm(made, dim=1).double() ** 2
    return squares
