"""The feature of a device: what a sequence of item states tells of it, in one vector.

Devices and the cloud compute it with the same function, so it does not matter where it is computed:
a device may report its last items, or the feature of them. See Persona, module/common.py of the
released code.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from cdc_flower.models.base import DeviceModel, init_layers
from cdc_flower.models.layers import Parameters, embed, gru_input, gru_last_state, linear, mlp

#: Linear layers after the recurrent one.
DEPTH = 2
#: The gates of every item; see :func:`with_table`. At most so many rows: 100 MB at a width of 32.
TABLE = "table.feature"
MAX_TABLE_ROWS = 2**18
#: What :func:`sequence_feature` needs.
FEATURE_NAMES = tuple(
    f"feature.{layer}.{part}"
    for layer in ("input", "hidden", *range(DEPTH))
    for part in ("weight", "bias")
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
        parameters: ``feature.input.{weight,bias}`` ``[d, 3 w]`` and ``[3 w]``,
            ``feature.hidden.{weight,bias}`` ``[w, 3 w]`` and ``[3 w]``, ``feature.0.{weight,bias}``
            and ``feature.1.{weight,bias}`` ``[w, w]`` and ``[w]``; other names are left alone.
        states: ``[..., L, d]``, what ``item_states`` of a device model gives.
        num_steps: ``[...]``, states in use; the others do not matter. With 0 of them h is zero.

    Returns:
        ``[..., w]``.
    """
    weight, bias = gru_input(parameters, "feature")
    return _of_gates(
        parameters, (linear(state, weight, bias) for state in states.unbind(-2)), num_steps
    )


def _of_gates(parameters: Parameters, gates: Iterable[Tensor], num_steps: Tensor) -> Tensor:
    return mlp(
        gru_last_state(gates, num_steps, parameters, "feature"), parameters, "feature", DEPTH
    )


def with_table(parameters: Parameters, model: DeviceModel, static: Parameters) -> Parameters:
    """The parameters with ``table.feature`` ``[num_items + 1, 3 w]`` beside them: the gates of every item.

    As they are where there would be more than ``MAX_TABLE_ROWS`` rows, or the model's item states
    depend on where the item stands: a table of all positions would be too large for the cache.
    """
    if model.states_know_position or model.num_items >= MAX_TABLE_ROWS:
        return parameters
    states = model.item_states(static, torch.arange(model.num_items + 1).unsqueeze(-1)).squeeze(-2)
    return {**parameters, TABLE: linear(states, *gru_input(parameters, "feature"))}


def item_feature(
    parameters: Parameters, model: DeviceModel, static: Parameters, history: Tensor
) -> Tensor:
    """:func:`sequence_feature` of the item states of sequences ``[..., L]``; from a table where there is one."""
    num_steps = (history != 0).sum(-1)
    if TABLE not in parameters:
        return sequence_feature(parameters, model.item_states(static, history), num_steps)
    return _of_gates(
        parameters, (embed(parameters[TABLE], items) for items in history.unbind(-1)), num_steps
    )


def feature_flops(num_inputs: int, width: int, num_steps: int) -> float:
    """Floating-point operations of one feature, counting a multiply-add as two."""
    recurrent = num_steps * 3 * (num_inputs + width) * width
    return 2.0 * (recurrent + DEPTH * width * width)
