"""Runs PyTorch's recurrent layers step by step, where that can do more than their own kernels.

``torch.func.vmap`` has no rule for ``nn.GRU``, ``nn.LSTM`` and ``nn.RNN``. Written as the equations
that their documentation gives they are ordinary products, which can be mapped over devices. And
what items add to the gates of a GRU can be looked up, which its kernel computes for every event.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cdc_flower.models.layers import gru_input, gru_states, linear
from cdc_flower.models.module.calls import Args, Call, Forward, Named
from cdc_flower.models.module.rows import ItemRows

#: State of a layer: ``h``, and of an LSTM also ``c``.
State = tuple[Tensor, ...]


def has_plain_gates(layer: nn.Module) -> bool:
    """Tells whether a layer is a GRU that :func:`gru_call` runs."""
    return (
        type(layer) is nn.GRU and layer.num_layers == 1 and layer.bias and not layer.bidirectional
    )


def gru_call(layer: nn.GRU) -> Call:
    """Makes the call that runs a GRU of one layer, and looks gates up where its inputs are items.

    With a first state, or a packed sequence, the layer's own forward runs.
    """

    def call(forward: Forward, args: Args, kwargs: Named) -> object:
        x = args[0] if args else None
        if not isinstance(x, Tensor) or x.dim() != 3 or len(args) > 1 or kwargs:
            return forward(*args, **kwargs)
        own = {
            f"gru.{part}.{kind}": getattr(layer, f"{kind}_{end}_l0").mT
            if kind == "weight"
            else getattr(layer, f"{kind}_{end}_l0")
            for part, end, kind in _GRU_NAMES
        }
        weight, bias = gru_input(own, "gru")
        axis = 1 if layer.batch_first else 0
        if isinstance(x, ItemRows) and x.made is None:
            names = x.chain.catalog.names
            words = [names.get(id(value), "") for value in layer.parameters()]
            if not all(words):
                return forward(*args)
            gates = x.chain.then(
                f"gates({', '.join(words)})", len(bias), lambda rows: linear(rows, weight, bias)
            )
            steps = (gates.rows(ids) for ids in x.ids.unbind(axis))
        else:
            steps = (linear(step, weight, bias) for step in x.unbind(axis))
        states = list(gru_states(steps, own, "gru"))
        return torch.stack(states, axis), states[-1].unsqueeze(0)

    return call


#: Part of our GRU, of PyTorch's, and kind of parameter.
_GRU_NAMES = (
    ("input", "ih", "weight"),
    ("input", "ih", "bias"),
    ("hidden", "hh", "weight"),
    ("hidden", "hh", "bias"),
)


def recurrent_call(layer: nn.RNNBase) -> Call:
    """Makes the call that runs a recurrent layer step by step on a batch of sequences.

    Packed sequences, single sequences and projections go to the layer's own forward.
    """

    def call(forward: Forward, args: Args, kwargs: Named) -> object:
        x, start = (*args, *kwargs.values(), None)[:2]
        if not isinstance(x, Tensor) or x.dim() != 3 or layer.proj_size:
            return forward(*args, **kwargs)
        steps = x.transpose(0, 1) if layer.batch_first else x
        y, last = _layers(layer, steps, cast(Tensor | tuple[Tensor, Tensor] | None, start))
        return (y.transpose(0, 1) if layer.batch_first else y), last

    return call


def _layers(
    layer: nn.RNNBase, x: Tensor, start: Tensor | tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor | tuple[Tensor, ...]]:
    """Runs all layers, in both directions where there are two.

    Args:
        layer: Whose parameters count.
        x: ``[L, B, d]``.
        start: As the layer takes it; None for zeros.

    Returns:
        States of the last layer ``[L, B, w]``, and the last state of every layer.
    """
    ends = ("", "_reverse") if layer.bidirectional else ("",)
    number_of_states = 2 if layer.mode == "LSTM" else 1
    zero = x.new_zeros(layer.num_layers * len(ends), x.shape[1], layer.hidden_size)
    starts: State = (
        (zero,) * number_of_states
        if start is None
        else ((start,) if isinstance(start, Tensor) else start)
    )
    lasts: list[State] = []
    for depth in range(layer.num_layers):
        outputs = []
        for end in ends:
            state = tuple(each[len(lasts)] for each in starts)
            y, last = _one_way(layer, f"l{depth}{end}", x.flip(0) if end else x, state)
            outputs.append(y.flip(0) if end else y)
            lasts.append(last)
        x = torch.cat(outputs, -1)
    stacked = tuple(torch.stack(each) for each in zip(*lasts, strict=True))
    return x, stacked if number_of_states == 2 else stacked[0]


def _one_way(layer: nn.RNNBase, name: str, x: Tensor, state: State) -> tuple[Tensor, State]:
    """Runs one layer in one direction.

    Args:
        layer: Whose parameters count.
        name: After those of the parameters, such as ``l0``.
        x: ``[L, B, d]``.
        state: To begin with, ``[B, w]`` each.
    """
    has_bias = layer.bias
    bias = getattr(layer, f"bias_hh_{name}") if has_bias else None
    weight = getattr(layer, f"weight_hh_{name}")
    inputs = F.linear(
        x,
        getattr(layer, f"weight_ih_{name}"),
        getattr(layer, f"bias_ih_{name}") if has_bias else None,
    )
    states = []
    for gate in inputs.unbind(0):
        state = _step(layer.mode, gate, F.linear(state[0], weight, bias), state)
        states.append(state[0])
    return torch.stack(states), state


def _step(mode: str, from_input: Tensor, from_state: Tensor, state: State) -> State:
    """Makes the next state.

    Args:
        mode: PyTorch's word for the kind of layer.
        from_input: What the input adds to the gates.
        from_state: What the state adds.
        state: Before it.
    """
    if mode == "GRU":
        reset_in, update_in, new_in = from_input.chunk(3, -1)
        reset_state, update_state, new_state = from_state.chunk(3, -1)
        update = torch.sigmoid(update_in + update_state)
        new = torch.tanh(new_in + torch.sigmoid(reset_in + reset_state) * new_state)
        return (new + update * (state[0] - new),)
    total = from_input + from_state
    if mode == "LSTM":
        enter, forget, cell, leave = total.chunk(4, -1)
        kept = torch.sigmoid(forget) * state[1] + torch.sigmoid(enter) * torch.tanh(cell)
        return torch.sigmoid(leave) * torch.tanh(kept), kept
    return (torch.tanh(total) if mode == "RNN_TANH" else torch.relu(total),)
