"""Cross-layer knowledge transfer: from one feature to an embedding for each adaptive layer.

``u(l) = A_l z + a_l`` is a linear map of its own for each layer (Fig. 2a of the paper). A sequence
model then runs over the layers, so that what one layer needs is known to the next.
"""

import torch
from torch import Tensor

from cdc_flower.models.base import init_layers
from cdc_flower.models.layers import (
    Parameters,
    gru_input,
    gru_states,
    layer_norm,
    linear,
    mlp,
    tanh_,
)

#: ``cloned`` is what the released code does: L copies of z through a GRU of L layers, of which
#: layer l gives e(l).
KINDS = ("gru", "transformer", "none", "cloned")
NUM_HEADS = 4


def init_transfer(generator: torch.Generator, kind: str, num_layers: int, width: int) -> Parameters:
    """Draws parameters, named ``transfer.*``.

    Args:
        generator: Of the draws.
        kind: One of ``KINDS``.
        num_layers: L, adaptive layers.
        width: w, of the feature and of the embeddings.
    """
    w = width
    sizes: dict[str, tuple[int, int]] = {}
    if kind != "cloned":
        sizes |= {f"transfer.{layer}.input": (w, w) for layer in range(num_layers)}
    if kind == "gru":
        sizes |= {"transfer.gru.input": (w, 3 * w), "transfer.gru.hidden": (w, 3 * w)}
    if kind == "cloned":
        for layer in range(num_layers):
            sizes |= {
                f"transfer.gru.{layer}.input": (w, 3 * w),
                f"transfer.gru.{layer}.hidden": (w, 3 * w),
            }
    if kind == "transformer":
        sizes |= {"transfer.attention": (w, 3 * w), "transfer.attention.output": (w, w)}
        sizes |= {"transfer.feed_forward.0": (w, 4 * w), "transfer.feed_forward.1": (4 * w, w)}
    if kind != "none":
        sizes |= {"transfer.output.0": (w, w), "transfer.output.1": (w, w)}
    parameters = init_layers(generator, sizes)
    if kind == "transformer":
        for norm in (0, 1):
            parameters[f"transfer.norm.{norm}.weight"] = torch.ones(w)
            parameters[f"transfer.norm.{norm}.bias"] = torch.zeros(w)
    return parameters


def layer_embeddings(
    parameters: Parameters, kind: str, feature: Tensor, num_layers: int
) -> list[Tensor]:
    """e(1), ..., e(L): the embedding of each adaptive layer.

    ``gru`` and ``transformer``: ``e(l) = Tanh(MLP(h_l))`` with h over u(1), ..., u(L); ``none``:
    ``e(l) = u(l)``.

    Args:
        parameters: From :func:`init_transfer`.
        kind: One of ``KINDS``.
        feature: z, ``[B, w]``.
        num_layers: L.

    Returns:
        L times ``[B, w]``.
    """
    if kind == "cloned":
        states = _stacked_gru(parameters, feature, num_layers)
    else:
        inputs = [
            _named(parameters, f"transfer.{layer}.input", feature) for layer in range(num_layers)
        ]
        if kind == "none":
            return inputs
        over_layers = torch.stack(inputs, 1)
        run = _gru_over_layers if kind == "gru" else _attention_over_layers
        states = run(parameters, over_layers)
    return list(tanh_(mlp(torch.stack(states), parameters, "transfer.output", 2)).unbind(0))


def _named(parameters: Parameters, name: str, x: Tensor) -> Tensor:
    return linear(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"])


def _gru_over_layers(parameters: Parameters, inputs: Tensor) -> list[Tensor]:
    """h_l: the state of one GRU after the inputs ``[B, L, w]`` of layers 1 to l."""
    return _gru_states(parameters, "transfer.gru", inputs)


def _gru_states(parameters: Parameters, name: str, inputs: Tensor) -> list[Tensor]:
    """The states of a GRU after each of the inputs ``[B, L, w]``."""
    gates = linear(inputs, *gru_input(parameters, name))
    return list(gru_states(gates.unbind(1), parameters, name))


def _stacked_gru(parameters: Parameters, feature: Tensor, num_layers: int) -> list[Tensor]:
    """h_l: the last state of layer l of a stacked GRU that reads the same feature L times."""
    inputs, states = feature.unsqueeze(1).expand(-1, num_layers, -1), []
    for layer in range(num_layers):
        outputs = _gru_states(parameters, f"transfer.gru.{layer}", inputs)
        inputs = torch.stack(outputs, 1)
        states.append(outputs[-1])
    return states


def _attention_over_layers(parameters: Parameters, inputs: Tensor) -> list[Tensor]:
    """h_l: position l of one post-norm Transformer encoder layer over the inputs ``[B, L, w]``."""
    num_rows, num_layers, width = inputs.shape
    shape = num_rows, num_layers, 3, NUM_HEADS, width // NUM_HEADS
    query, key, value = (
        _named(parameters, "transfer.attention", inputs).view(shape).permute(2, 0, 3, 1, 4)
    )
    attended = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    attended = attended.transpose(1, 2).reshape(inputs.shape)
    x = _normed(parameters, 0, inputs + _named(parameters, "transfer.attention.output", attended))
    hidden = _named(parameters, "transfer.feed_forward.0", x).relu()
    x = _normed(parameters, 1, x + _named(parameters, "transfer.feed_forward.1", hidden))
    return list(x.unbind(1))


def _normed(parameters: Parameters, number: int, x: Tensor) -> Tensor:
    name = f"transfer.norm.{number}"
    return layer_norm(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"])


def transfer_flops(kind: str, num_layers: int, width: int) -> float:
    """Counts floating-point operations for one device, a multiply-add as two.

    Args:
        kind: One of ``KINDS``.
        num_layers: L, adaptive layers.
        width: w, of the feature and of the embeddings.
    """
    square = float(width * width)
    over_layers = {
        "none": 0.0,
        "gru": 6 * num_layers + 2 * num_layers,
        "cloned": 6 * num_layers**2 + 2 * num_layers,
        "transformer": 12 * num_layers + 2 * num_layers,
    }[kind]
    own = 0 if kind == "cloned" else num_layers
    return 2.0 * square * (own + over_layers)
