"""Layers whose parameters are either shared by all devices or stacked, one set a device.

Every function takes its parameters as arguments. A weight ``[in, out]`` is shared: the devices' rows go
through one matrix product. A weight ``[n, in, out]`` is stacked: ``n`` devices go through one batched
product. There is no loop over devices. ``x`` is ``[..., in]``, and ``[n, ..., in]`` with stacked weights.
Shared and stacked parameters may be mixed in one model.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

Parameters = dict[str, Tensor]
_ONE, _TWO = torch.tensor(1.0), torch.tensor(2.0)  # a number would be made into a tensor at every call


def _beside(values: Tensor, x: Tensor) -> Tensor:
    """A bias or scale, shared ``[d]`` or stacked ``[n, d]``, in a shape that goes with ``x`` ``[n, ..., d]``."""
    return values if values.dim() == 1 else values.view(len(values), *[1] * (x.dim() - 2), values.shape[-1])


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W + b`` with ``W`` shared ``[in, out]`` or stacked ``[n, in, out]``, and ``b`` likewise."""
    if weight.dim() == 2:
        if bias is not None and bias.dim() == 1:
            if x.dim() == 2:
                return torch.addmm(bias, x, weight)
            return torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], weight.shape[-1])
        y = x @ weight
        return y if bias is None else y + _beside(bias, y)
    rows = x.reshape(x.shape[0], -1, x.shape[-1])
    y = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias.unsqueeze(-2), rows, weight)
    return y.view(*x.shape[:-1], weight.shape[-1])


def _on_top(y: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """``y + x W``, with ``y`` and ``x`` of the same leading axes and ``W`` shared or stacked."""
    if x.dim() == 2 == weight.dim():
        return torch.addmm(y, x, weight)
    lead = (-1,) if weight.dim() == 2 else (len(weight), -1)
    product = torch.addmm if weight.dim() == 2 else torch.baddbmm
    return product(y.reshape(*lead, y.shape[-1]), x.reshape(*lead, x.shape[-1]), weight).view(y.shape)


def tanh_(x: Tensor) -> Tensor:
    """Tanh in place, for a product of our own that is not needed any more.

    Where no gradient is asked for it is ``2 σ(2 x) - 1``: the same within 2e-7, and three times faster with the
    kernels that PyTorch has on a CPU.
    """
    if x.requires_grad:
        return torch.tanh_(x)
    return x.mul_(_TWO).sigmoid_().mul_(_TWO).sub_(_ONE)


def mlp(x: Tensor, parameters: Parameters, name: str, depth: int) -> Tensor:
    """Linear layers ``name.0`` ... with Tanh between them and none after the last."""
    for layer in range(depth):
        if layer:
            x = tanh_(x)
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


def gru_gates(x: Tensor, parameters: Parameters, name: str) -> Tensor:
    """What inputs ``[..., d]`` add to the three gates of a GRU, ``[..., 3 w]``, in PyTorch's order r, z, n.

    ``x W + b`` of the layer ``name.input``. For r and z the bias of ``name.hidden`` is in it, so that no step adds it.
    """
    hidden = parameters[f"{name}.hidden.bias"]
    width = hidden.shape[-1] // 3
    bias = parameters[f"{name}.input.bias"] + torch.nn.functional.pad(hidden[..., : 2 * width], (0, width))
    return linear(x, parameters[f"{name}.input.weight"], bias)


def gru_states(gates: Tensor, parameters: Parameters, name: str) -> Iterator[Tensor]:
    """The states ``[..., w]`` of a GRU (Cho et al., EMNLP 2014) after each of its inputs, from zero on.

    ``r, z = σ(gates_rz + h W_rz)``; ``c = tanh(gates_n + r (h W_n + b_n))``; ``h ← (1 - z) c + z h``.

    Args:
        gates: ``[..., L, 3 w]``, from :func:`gru_gates`.
        parameters: ``name.hidden.weight`` ``[w, 3 w]`` or ``[n, w, 3 w]``, and its bias likewise.
    """
    weight, bias = parameters[f"{name}.hidden.weight"], parameters[f"{name}.hidden.bias"]
    sizes = 2 * weight.shape[-2], weight.shape[-2]
    (weight_rz, weight_n), bias_n = weight.split(sizes, -1), bias[..., sizes[0] :]
    gates_rz, gates_n = (part.unbind(-2) for part in gates.split(sizes, -1))
    state = gates.new_zeros(*gates.shape[:-2], sizes[1])
    for gate_rz, gate_n in zip(gates_rz, gates_n, strict=True):
        reset, update = torch.sigmoid_(_on_top(gate_rz, state, weight_rz)).chunk(2, -1)
        candidate = tanh_(torch.addcmul(gate_n, reset, linear(state, weight_n, bias_n)))
        state = torch.lerp(candidate, state, update)
        yield state


def gru_last_state(gates: Tensor, num_steps: Tensor, parameters: Parameters, name: str) -> Tensor:
    """The state ``[..., w]`` of :func:`gru_states` after ``num_steps`` ``[...]`` of the gates ``[..., L, 3 w]``.

    Steps from ``num_steps`` on leave the state as it is, so padding changes nothing; with 0 steps it is zero.
    """
    last = gates.new_zeros(*gates.shape[:-2], gates.shape[-1] // 3)
    always = int(num_steps.min()) if num_steps.numel() else 0
    alive = (torch.arange(gates.shape[-2]) < num_steps.unsqueeze(-1)).unsqueeze(-1).unbind(-2)
    for step, state in enumerate(gru_states(gates, parameters, name)):
        last = state if step < always else torch.where(alive[step], state, last)
    return last


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Layer normalization over the last axis, with shared ``[d]`` or stacked ``[n, d]`` scale and shift."""
    x = torch.nn.functional.layer_norm(x, x.shape[-1:])
    return x * _beside(weight, x) + _beside(bias, x)


def uniform_linear(generator: torch.Generator, num_inputs: int, num_outputs: int) -> tuple[Tensor, Tensor]:
    """A weight ``[in, out]`` and bias ``[out]``, uniform in ±1/√in, as PyTorch starts its linear layers."""
    bound = num_inputs**-0.5
    weight = torch.empty(num_inputs, num_outputs).uniform_(-bound, bound, generator=generator)
    return weight, torch.empty(num_outputs).uniform_(-bound, bound, generator=generator)
