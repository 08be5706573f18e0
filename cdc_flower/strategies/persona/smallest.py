"""How large edits would be, without making them: dynamic assignment compares the edits of N prototypes and keeps one.

For the columns k of a decoder that clipping cannot reach, ``|e P_k + p_k| ≤ Σ_j max_i|e_ij| |P_jk| + |p_k| ≤ γ``, all
devices share one small matrix:

    Σ_k (e P_k + q_k)² = e (P Pᵀ) eᵀ + 2 e (P qᵀ) + q qᵀ        q = p - D, D how far the prototype moved

The others are made and clipped. So the result is exact, and costs little where clipping is rare.
"""

import torch
from torch import Tensor

from cdc_flower.layers import Parameters
from cdc_flower.strategies.persona.editor import ParameterEditor

#: Numbers of edits that are made at a time.
NUMBERS_PER_CHUNK = 1_000_000


def edit_norms(
    editor: ParameterEditor, parameters: Parameters, embeddings: list[Tensor], drift: Parameters | None = None
) -> Tensor:
    """``[n]``: the Frobenius norm of each device's editing matrices, all layers together, biases left out.

    As :func:`~cdc_flower.strategies.persona.prototypes.norms` of ``Bank.residual`` of the editor's full-rank edits.

    Args:
        editor: Of full rank.
        parameters: Of the prototype's editor.
        embeddings: e(1), ..., e(L), each ``[n, w]``.
        drift: D, by name of the layer; None where the prototype has not moved.

    Returns:
        In double precision.
    """
    total = torch.zeros(len(embeddings[0]), dtype=torch.float64)
    for layer, (num_inputs, num_outputs) in enumerate(editor.model.head_sizes):
        size = num_inputs * num_outputs
        decoder, bias = parameters[f"decoder.{layer}.weight"][:, :size], parameters[f"decoder.{layer}.bias"][:size]
        moved = None if drift is None else drift[f"head.{layer}.weight"].flatten()
        total += _squares(embeddings[layer], decoder, bias, moved, editor.clip)
    return total.clamp_(min=0).sqrt_()


def _squares(e: Tensor, decoder: Tensor, bias: Tensor, moved: Tensor | None, clip: float) -> Tensor:
    """``[n]``: the sum of squares of ``clip(clip(e P + p) - D)`` over its columns."""
    offset = bias if moved is None else bias - moved
    reach = e.abs().amax(0) @ decoder.abs()
    is_free = reach + torch.maximum(bias.abs(), offset.abs()) <= clip
    if len(e) < e.shape[1]:  # making so few edits costs less than P Pᵀ does
        is_free.zero_()
    free, q, many = decoder[:, is_free].double(), offset[is_free].double(), e.double()
    squares = ((many @ (free @ free.T)) * many).sum(1) + 2 * many @ (free @ q) + q @ q
    if is_free.all():
        return squares
    decoder, bias = decoder[:, ~is_free], bias[~is_free]
    for rows in torch.arange(len(e)).split(max(1, NUMBERS_PER_CHUNK // len(bias))):
        made = torch.addmm(bias, e[rows], decoder).clamp_(-clip, clip)
        if moved is not None:
            made = made.sub_(moved[~is_free]).clamp_(-clip, clip)
        squares[rows] += torch.linalg.vector_norm(made, dim=1).double() ** 2
    return squares
