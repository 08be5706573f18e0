"""Layers whose parameters are either shared by all devices or stacked, one set a device.

Every function takes its parameters as arguments. A weight ``[in, out]`` is shared: the devices' rows go
through one matrix product. A weight ``[n, in, out]`` is stacked: ``n`` devices go through one batched
product. There is no loop over devices. ``x`` is ``[..., in]``, and ``[n, ..., in]`` with stacked weights.
Shared and stacked parameters may be mixed in one model.
"""

import torch
from torch import Tensor

Parameters = dict[str, Tensor]


def _beside(values: Tensor, x: Tensor) -> Tensor:
    """A bias or scale, shared ``[d]`` or stacked ``[n, d]``, in a shape that goes with ``x`` ``[n, ..., d]``."""
    return values if values.dim() == 1 else values.view(len(values), *[1] * (x.dim() - 2), values.shape[-1])


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W + b`` with ``W`` shared ``[in, out]`` or stacked ``[n, in, out]``, and ``b`` likewise."""
    if weight.dim() == 2:
        y = x @ weight
        return y if bias is None else y + _beside(bias, y)
    rows = x.reshape(x.shape[0], -1, x.shape[-1])
    y = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias.unsqueeze(-2), rows, weight)
    return y.reshape(*x.shape[:-1], weight.shape[-1])


def mlp(x: Tensor, parameters: Parameters, name: str, depth: int) -> Tensor:
    """Linear layers ``name.0`` ... with Tanh between them and none after the last."""
    for layer in range(depth):
        if layer:
            x = torch.tanh_(x)  # of a product of our own, which is not needed any more
        x = linear(x, parameters[f"{name}.{layer}.weight"], parameters[f"{name}.{layer}.bias"])
    return x


def embed(table: Tensor, ids: Tensor) -> Tensor:
    """Rows of a table: shared ``[v, d]``, or stacked ``[n, v, d]`` with ids ``[n, ...]``."""
    if table.dim() == 2:
        return torch.nn.functional.embedding(ids, table)
    num_devices, num_rows, width = table.shape
    first = torch.arange(num_devices).view(-1, *[1] * (ids.dim() - 1)) * num_rows
    return torch.nn.functional.embedding(ids + first, table.reshape(num_devices * num_rows, width))


def last_valid(history: Tensor) -> Tensor:
    """``[..., L]`` item ids, padded on the right with 0 -> ``[...]``, the last position in use; 0 if there is none."""
    return ((history != 0).sum(-1) - 1).clamp(min=0)


def gru_last_state(gates: Tensor, num_steps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The state of a GRU after ``num_steps`` steps (Cho et al., EMNLP 2014), in PyTorch's gate order.

    ``r, z = sigmoid(gates_rz + h W_rz + b_rz)``; ``c = tanh(gates_n + r (h W_n + b_n))``;
    ``h <- (1 - z) c + z h``. Steps from ``num_steps`` on leave the state as it is, so padding changes nothing.

    Args:
        gates: ``[..., L, 3 d]``, the inputs already through the input weights and bias.
        num_steps: ``[...]``; a row of 0 keeps the zero state.
        weight: ``[d, 3 d]`` or ``[n, d, 3 d]``; ``bias``: ``[3 d]`` or ``[n, 3 d]``.

    Returns:
        ``[..., d]``.
    """
    state = gates.new_zeros(*gates.shape[:-2], gates.shape[-1] // 3)
    always = int(num_steps.min()) if num_steps.numel() else 0
    alive = torch.arange(gates.shape[-2]) < num_steps.unsqueeze(-1)
    for step, (gate, keep) in enumerate(zip(gates.unbind(-2), alive.unbind(-1), strict=True)):
        after = gru_step(gate, state, weight, bias)
        state = after if step < always else torch.where(keep.unsqueeze(-1), after, state)
    return state


def gru_step(gate: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One step of :func:`gru_last_state`: the gates ``[..., 3 d]`` of an input, and the state ``[..., d]`` before."""
    width = state.shape[-1]
    hidden = linear(state, weight, bias)
    reset, update = torch.sigmoid_(gate[..., : 2 * width] + hidden[..., : 2 * width]).chunk(2, -1)
    candidate = torch.tanh_(torch.addcmul(gate[..., 2 * width :], reset, hidden[..., 2 * width :]))
    return torch.lerp(candidate, state, update)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Layer normalization over the last axis, with shared ``[d]`` or stacked ``[n, d]`` scale and shift."""
    x = torch.nn.functional.layer_norm(x, x.shape[-1:])
    return x * _beside(weight, x) + _beside(bias, x)


def uniform_linear(generator: torch.Generator, num_inputs: int, num_outputs: int) -> tuple[Tensor, Tensor]:
    """A weight ``[in, out]`` and bias ``[out]``, uniform in ±1/√in, as PyTorch starts its linear layers."""
    bound = num_inputs**-0.5
    weight = torch.empty(num_inputs, num_outputs).uniform_(-bound, bound, generator=generator)
    return weight, torch.empty(num_outputs).uniform_(-bound, bound, generator=generator)
