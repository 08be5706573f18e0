"""Applies layers whose parameters are shared by all devices or stacked, one set a device.

Every function takes its parameters as arguments. A weight ``[in, out]`` is shared: the devices'
rows go through one matrix product. A weight ``[n, in, out]`` is stacked: ``n`` devices go through
one batched product. There is no loop over devices. ``x`` is ``[..., in]``, and ``[n, ..., in]``
with stacked weights. Shared and stacked parameters may be mixed in one model.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

Parameters = dict[str, Tensor]
# Tensors, for a number would be made into one at every call.
_MINUS_ONE = torch.tensor(-1.0)
_TWO = torch.tensor(2.0)


def _beside(values: Tensor, x: Tensor) -> Tensor:
    """Shapes a bias or scale so that it goes with ``x`` ``[n, ..., d]``.

    It is shared ``[d]`` or stacked ``[n, d]``.
    """
    return (
        values
        if values.dim() == 1
        else values.view(len(values), *[1] * (x.dim() - 2), values.shape[-1])
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Computes ``x W + b``, with ``W`` and ``b`` each shared or stacked.

    Args:
        x: ``[..., in]``, or ``[n, ..., in]`` with stacked parameters.
        weight: ``[in, out]`` or ``[n, in, out]``.
        bias: ``[out]`` or ``[n, out]``; None adds nothing.
    """
    if weight.dim() == 2:
        if bias is not None and bias.dim() == 1:
            if x.dim() == 2:
                return torch.addmm(bias, x, weight)
            return torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight).view(
                *x.shape[:-1], weight.shape[-1]
            )
        y = x @ weight
        return y if bias is None else y + _beside(bias, y)
    rows = x.reshape(x.shape[0], -1, x.shape[-1])
    y = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias.unsqueeze(-2), rows, weight)
    return y.view(*x.shape[:-1], weight.shape[-1])


def _on_top(y: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Computes ``y + x W``, with ``W`` shared or stacked; ``y`` is used up.

    ``y`` and ``x`` have the same leading axes.
    """
    if x.dim() == 2 == weight.dim():
        return torch.addmm(y, x, weight) if torch.is_grad_enabled() else y.addmm_(x, weight)
    lead = (-1,) if weight.dim() == 2 else (len(weight), -1)
    product = torch.addmm if weight.dim() == 2 else torch.baddbmm
    return product(y.reshape(*lead, y.shape[-1]), x.reshape(*lead, x.shape[-1]), weight).view(
        y.shape
    )


def tanh_(x: Tensor) -> Tensor:
    """Applies Tanh in place, to a product of our own that is not needed any more.

    Where no gradient is asked for it is ``2 σ(2 x) - 1``: the same within 2e-7, and several times
    faster with the kernels that PyTorch has on a CPU (``python -m benchmarks.adaptation`` prints
    how much).
    """
    if x.requires_grad:
        return torch.tanh_(x)
    return torch.add(_MINUS_ONE, x.mul_(_TWO).sigmoid_(), alpha=2.0, out=x)


def mlp(x: Tensor, parameters: Parameters, name: str, depth: int) -> Tensor:
    """Applies linear layers ``name.0`` ... with Tanh between them and none after the last.

    Args:
        x: ``[..., in]``.
        parameters: ``name.0.weight``, ``name.0.bias`` and so on.
        name: Before the numbers of the layers.
        depth: Number of layers.
    """
    for layer in range(depth):
        if layer:
            x = tanh_(x)
        x = linear(x, parameters[f"{name}.{layer}.weight"], parameters[f"{name}.{layer}.bias"])
    return x


def embed(table: Tensor, ids: Tensor) -> Tensor:
    """Looks up rows of a table, shared ``[v, d]`` or stacked ``[n, v, d]``.

    With a stacked one ids are ``[n, ...]``.
    """
    if table.dim() == 2:
        return torch.nn.functional.embedding(ids, table)
    num_devices, num_rows, width = table.shape
    first = torch.arange(num_devices).view(-1, *[1] * (ids.dim() - 1)) * num_rows
    return torch.nn.functional.embedding(ids + first, table.reshape(num_devices * num_rows, width))


def last_valid(history: Tensor) -> Tensor:
    """Finds the last position in use of item ids ``[..., L]``, padded on the right with 0.

    ``[...]``; 0 if there is none.
    """
    return ((history != 0).sum(-1) - 1).clamp(min=0)


def gru_input(parameters: Parameters, name: str) -> tuple[Tensor, Tensor]:
    """Makes weight ``[d, 3 w]`` and bias ``[3 w]`` of what an input adds to the gates r, z and n.

    They are for :func:`gru_states`: those of ``name.input``, twice for n, and for r and z with what
    is constant of ``name.hidden``. Shared or stacked.
    """
    hidden = parameters[f"{name}.hidden.weight"]
    bias = parameters[f"{name}.hidden.bias"]
    width = hidden.shape[-2]
    twice = torch.cat([hidden.new_ones(2 * width), hidden.new_full((width,), 2.0)])
    constant = torch.nn.functional.pad((bias - hidden.sum(-2))[..., : 2 * width], (0, width))
    weight = parameters[f"{name}.input.weight"] * twice
    return weight, parameters[f"{name}.input.bias"] * twice + constant


def gru_states(gates: Iterable[Tensor], parameters: Parameters, name: str) -> Iterator[Tensor]:
    """Runs a GRU (Cho et al., EMNLP 2014) from zero: its state ``[..., w]`` after each input.

    ``r, z = σ(g_rz + h W_rz + b_rz)``; ``c = tanh(g_n + r (h W_n + b_n))``; ``h ← (1 - z) c + z
    h``, in PyTorch's order of gates. See :func:`_halved_states` for how.

    Args:
        gates: ``[..., 3 w]`` a step, from inputs and :func:`gru_input`. Each is used up.
        parameters: ``name.hidden.weight`` ``[w, 3 w]`` or ``[n, w, 3 w]``, and its bias likewise.
    """
    return (state * 2.0 - 1.0 for state in _halved_states(gates, parameters, name))


def _halved_states(gates: Iterable[Tensor], parameters: Parameters, name: str) -> Iterator[Tensor]:
    """Runs :func:`gru_states` on ``k = (h + 1) / 2``: two sigmoids a step and no tanh.

    With ``tanh(u) = 2 σ(2 u) - 1`` and ``h = 2 k - 1`` it is ``r, z = σ(g_rz + 2 k W_rz)``, ``c =
    σ(g_n + r (4 k W_n + 2 b_n - 2·1 W_n))``, ``k ← (1 - z) c + z k``; what is constant in g is
    there already.
    """
    weight = parameters[f"{name}.hidden.weight"]
    bias = parameters[f"{name}.hidden.bias"]
    sizes = 2 * weight.shape[-2], weight.shape[-2]
    weight_rz, weight_n = (
        part * times for part, times in zip(weight.split(sizes, -1), (2.0, 4.0), strict=True)
    )
    bias_n = 2.0 * (bias - weight.sum(-2))[..., sizes[0] :]
    state: Tensor | None = None
    for gate in gates:
        if state is None:
            state = gate.new_full((*gate.shape[:-1], sizes[1]), 0.5)
        gate_rz, gate_n = gate.split(sizes, -1)
        reset, update = torch.sigmoid_(_on_top(gate_rz, state, weight_rz)).chunk(2, -1)
        candidate = torch.sigmoid_(torch.addcmul(gate_n, reset, linear(state, weight_n, bias_n)))
        state = torch.lerp(candidate, state, update)
        yield state


def gru_last_state(
    gates: Iterable[Tensor], num_steps: Tensor, parameters: Parameters, name: str
) -> Tensor:
    """Finds the state ``[..., w]`` of :func:`gru_states` after some of the gates.

    Steps from ``num_steps`` on leave the state as it is, so padding changes nothing; with 0 steps
    it is zero.

    Args:
        gates: ``[..., 3 w]`` a step, at least one. Each is used up.
        num_steps: ``[...]``, how many of the gates count.
        parameters: As in :func:`gru_states`.
        name: Of the layer, before ``.hidden.weight``.
    """
    always = int(num_steps.min()) if num_steps.numel() else 0
    last: Tensor | None = None
    for step, state in enumerate(_halved_states(gates, parameters, name)):
        if step < always:
            last = state
        else:
            last = torch.full_like(state, 0.5) if last is None else last
            last = torch.where((step < num_steps).unsqueeze(-1), state, last)
    if last is None:
        raise ValueError("gates must be of one step or more, got none")
    return last * 2.0 - 1.0


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Normalizes over the last axis, with shared or stacked scale and shift.

    Args:
        x: ``[..., d]``, or ``[n, ..., d]`` with stacked parameters.
        weight: Scale, ``[d]`` or ``[n, d]``; 1 is neutral.
        bias: Shift, likewise; 0 is neutral.
    """
    x = torch.nn.functional.layer_norm(x, x.shape[-1:])
    return x * _beside(weight, x) + _beside(bias, x)


def uniform_linear(
    generator: torch.Generator, num_inputs: int, num_outputs: int
) -> tuple[Tensor, Tensor]:
    """Draws a weight ``[in, out]`` and bias ``[out]``, uniform in ±1/√in.

    So PyTorch starts its linear layers.

    Args:
        generator: Of the draws.
        num_inputs: ``in``.
        num_outputs: ``out``.
    """
    bound = num_inputs**-0.5
    weight = torch.empty(num_inputs, num_outputs).uniform_(-bound, bound, generator=generator)
    return weight, torch.empty(num_outputs).uniform_(-bound, bound, generator=generator)
