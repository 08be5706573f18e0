"""Generates layers' weights, one set a row: ``K = W + clip(e P + p, ±γ)``.

A decoder is linear: row ``i`` of a layer is ``G_i = clip(e_i P + p, ±γ)``, reshaped to ``[in + 1,
out]`` with the bias last, and is added to a shared layer ``W``. :func:`generated` makes whole
layers, and :func:`generated_linear` applies them without ever holding all of them at once. For the
three layers of DIN a batch of 1,024 rows would hold 68 MB of ``G`` and pass over it a dozen times.
Here chunks of rows stay in the cache, forward and backward.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

#: Rows whose weights are held at a time.
ROWS_PER_CHUNK = 64


def generated(
    embedding: Tensor,
    weight: Tensor,
    bias: Tensor,
    clip: float = float("inf"),
    base: Tensor | None = None,
) -> Tensor:
    """Makes K = W + clip(e P + p, ±γ), each row a layer with its bias last.

    Args:
        embedding: e, ``[B, w]``.
        weight: P, ``[w, (in + 1) out]``.
        bias: p, ``[(in + 1) out]``.
        clip: γ; infinity clips nothing.
        base: W, ``[(in + 1) out]``; None for zeros.

    Returns:
        ``[B, (in + 1) out]``.
    """
    if base is not None and clip == float("inf"):  # W joins p, which saves a pass over the rows
        return torch.addmm(bias + base, embedding, weight)
    made = torch.addmm(bias, embedding, weight)
    if made.requires_grad:
        made = made if clip == float("inf") else made.clamp(-clip, clip)
    else:
        clip_(made, clip)
    return made if base is None else made + base


def clip_(values: Tensor, bound: float) -> bool:
    """Clips to ±bound in place, and tells whether any entry was beyond it."""
    if bound == float("inf") or not values.numel():
        return False
    least, most = values.aminmax()
    is_within = float(most) <= bound and float(least) >= -bound  # of NaN neither holds
    if not is_within:
        values.clamp_(-bound, bound)
    return not is_within


def split_layer(flat: Tensor, layer: int, num_inputs: int, num_outputs: int) -> dict[str, Tensor]:
    """Names the weight ``[B, in, out]`` and the bias ``[B, out]`` of one layer's rows.

    Args:
        flat: ``[B, (in + 1) out]``, the bias last; from :func:`generated`.
        layer: Number of the layer in the head.
        num_inputs: Of the layer.
        num_outputs: Of the layer.
    """
    weight, bias = flat.split([num_inputs * num_outputs, num_outputs], -1)
    return {
        f"head.{layer}.weight": weight.reshape(-1, num_inputs, num_outputs),
        f"head.{layer}.bias": bias,
    }


class _Context(Protocol):
    """Holds what goes from forward to backward: fields of PyTorch's context, and our own."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]
    chunks: list[tuple[slice, Tensor, bool]]
    clip: float

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keeps tensors for the backward pass."""


class _GeneratedLinear(torch.autograd.Function):
    """Computes y = [x, 1] (W + G), G = clip(e P + p, ±γ), and gradients of x, W, e, P and p."""

    @staticmethod
    def forward(
        ctx: _Context,
        x: Tensor,
        base: Tensor,
        embedding: Tensor,
        weight: Tensor,
        bias: Tensor,
        clip: float,
    ) -> Tensor:
        num_inputs, num_outputs = base.shape
        y = (x.reshape(-1, num_inputs) @ base).view(*x.shape[:-1], num_outputs)
        ctx.chunks = []
        for start in range(0, len(x), ROWS_PER_CHUNK):
            rows = slice(start, start + ROWS_PER_CHUNK)
            made = generated(embedding[rows], weight, bias)
            is_clipped = clip_(made, clip)  # apart, since the gradient has to know
            y[rows].baddbmm_(x[rows], made.view(-1, num_inputs, num_outputs))
            ctx.chunks.append((rows, made, is_clipped))
        ctx.save_for_backward(x, base, embedding, weight, bias)
        ctx.clip = clip
        return y

    @staticmethod
    def backward(ctx: _Context, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, base, embedding, weight, bias = ctx.saved_tensors
        num_inputs, num_outputs = base.shape
        flat = grad.reshape(-1, num_outputs)
        grad_x = (flat @ base.T).view(x.shape)
        grad_base = x.reshape(-1, num_inputs).T @ flat if ctx.needs_input_grad[1] else None
        grad_embedding, grad_weight, grad_bias = (
            torch.zeros_like(part) for part in (embedding, weight, bias)
        )
        trains_decoder = ctx.needs_input_grad[3] or ctx.needs_input_grad[4]
        for rows, made, is_clipped in ctx.chunks:
            grad_x[rows].baddbmm_(
                grad[rows], made.view(-1, num_inputs, num_outputs).transpose(1, 2)
            )
            part = torch.bmm(x[rows].transpose(1, 2), grad[rows]).view(-1, num_inputs * num_outputs)
            if is_clipped:
                part.masked_fill_(made.abs() >= ctx.clip, 0.0)
            torch.mm(part, weight.T, out=grad_embedding[rows])
            if trains_decoder:
                grad_weight.addmm_(embedding[rows].T, part)
                grad_bias += part.sum(0)
        return grad_x, grad_base, grad_embedding, grad_weight, grad_bias, None


def generated_linear(
    x: Tensor,
    base: Tensor,
    embedding: Tensor,
    weight: Tensor,
    bias: Tensor,
    clip: float = float("inf"),
) -> Tensor:
    """Computes Y = [x, 1] (W + clip(e P + p, ±γ)), each row with a layer of its own.

    Args:
        x: ``[B, k, in]``.
        base: W, ``[in + 1, out]``, the bias last; zeros where there is none.
        embedding: e, ``[B, w]``.
        weight: P, ``[w, (in + 1) out]``.
        bias: p, ``[(in + 1) out]``.
        clip: γ; infinity clips nothing.

    Returns:
        ``[B, k, out]``.
    """
    with_one = torch.cat([x, x.new_ones(*x.shape[:-1], 1)], -1)
    result: Tensor = _GeneratedLinear.apply(with_one, base, embedding, weight, bias, clip)
    return result


def generated_head(
    x: Tensor,
    bases: Sequence[Tensor],
    embeddings: Sequence[Tensor],
    decoders: Sequence[tuple[Tensor, Tensor]],
    clip: float = float("inf"),
) -> Tensor:
    """Runs a device model's head with generated layers.

    There is Tanh between layers, and none after the last.

    Args:
        x: ``[B, k, in]``.
        bases: W of each layer; see :func:`generated_linear`.
        embeddings: e of each layer.
        decoders: P and p of each layer.
        clip: γ; infinity clips nothing.
    """
    for layer, (base, embedding, (weight, bias)) in enumerate(
        zip(bases, embeddings, decoders, strict=True)
    ):
        x = generated_linear(torch.tanh(x) if layer else x, base, embedding, weight, bias, clip)
    return x
