"""The feature of a device: what a sequence of item states tells of it, in one vector.

Devices and the cloud compute it with the same function, so it does not matter where it is computed: a device
may report its last items, or the feature of them. See Persona, module/common.py of the released code.
"""

import torch
from torch import Tensor

from cdc_flower.layers import Parameters, gru_last_state, linear, mlp
from cdc_flower.models.base import init_layers

#: Linear layers after the recurrent one.
DEPTH = 2
#: What :func:`sequence_feature` needs.
FEATURE_NAMES = tuple(
    f"feature.{layer}.{part}" for layer in ("input", "hidden", *range(DEPTH)) for part in ("weight", "bias")
)


def init_feature(generator: torch.Generator, num_inputs: int, width: int) -> Parameters:
    """Fresh parameters of :func:`sequence_feature`, named ``feature.*``.

    Args:
        generator: Of the draws.
        num_inputs: ``d``, width of an item state.
        width: ``w``, width of the feature.
    """
    return init_layers(
        generator,
        {
            "feature.input": (num_inputs, 3 * width),
            "feature.hidden": (width, 3 * width),
            **{f"feature.{layer}": (width, width) for layer in range(DEPTH)},
        },
    )


def sequence_feature(parameters: Parameters, states: Tensor, num_steps: Tensor) -> Tensor:
    """The feature z = W₁ Tanh(W₀ h) of the last state h of a GRU over item states (biases left out here).

    Args:
        parameters: ``feature.input.{weight,bias}`` ``[d, 3 w]`` and ``[3 w]``, ``feature.hidden.{weight,bias}``
            ``[w, 3 w]`` and ``[3 w]``, ``feature.0.{weight,bias}`` and ``feature.1.{weight,bias}`` ``[w, w]`` and
            ``[w]``; other names are left alone.
        states: ``[..., L, d]``, what ``item_states`` of a device model gives.
        num_steps: ``[...]``, states in use; the others do not matter. With 0 of them h is zero.

    Returns:
        ``[..., w]``.
    """
    gates = linear(states, parameters["feature.input.weight"], parameters["feature.input.bias"])
    state = gru_last_state(gates, num_steps, parameters["feature.hidden.weight"], parameters["feature.hidden.bias"])
    return mlp(state, parameters, "feature", DEPTH)


def feature_flops(num_inputs: int, width: int, num_steps: int) -> float:
    """Floating-point operations of one feature, counting a multiply-add as two."""
    recurrent = num_steps * 3 * (num_inputs + width) * width
    return 2.0 * (recurrent + DEPTH * width * width)
