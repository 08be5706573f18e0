"""Computes the feature of a device: one vector that tells of a sequence of its states.

The states are those that the device model makes of a device's recent data: of its last items, or of
the frames of a clip. Devices and the cloud compute the feature with the same function, so it does
not matter where it is computed: a device may report its recent data, or the feature of them. See
Persona, module/common.py of the released code.
"""

from collections.abc import Iterable, Mapping
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.models.base import DeviceModel, init_layers
from cdc_flower.models.layers import Parameters, embed, gru_input, gru_last_state, linear, mlp
from cdc_flower.wire import records

#: Linear layers after the recurrent one.
DEPTH = 2
#: The gates of every item; see :func:`with_table`. At most so many rows: 100 MB at a width of 32.
TABLE = "table.feature"
TABLE_BEFORE = "table.feature.before"  # where it reads pairs: what the item before adds
MAX_TABLE_ROWS = 2**18
#: Names of the parameters of :func:`sequence_feature`.
FEATURE_NAMES = tuple(
    f"feature.{layer}.{part}"
    for layer, part in product(("input", "hidden", *range(DEPTH)), ("weight", "bias"))
)


def init_feature(generator: torch.Generator, num_inputs: int, width: int) -> Parameters:
    """Draws fresh parameters of :func:`sequence_feature`, named ``feature.*``.

    Args:
        generator: Of the draws.
        num_inputs: ``d``, width of a state.
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
    """Computes z = W₁ Tanh(W₀ h) of a GRU's last state h over a sequence (biases left out here).

    Args:
        parameters: ``feature.input.{weight,bias}`` ``[d, 3 w]`` and ``[3 w]``,
            ``feature.hidden.{weight,bias}`` ``[w, 3 w]`` and ``[3 w]``, ``feature.0.{weight,bias}``
            and ``feature.1.{weight,bias}`` ``[w, w]`` and ``[w]``; other names are left alone.
        states: ``[..., L, d]``, what ``sequence`` of a device model gives. Where the layer's input
            is ``2 d`` wide it reads them in pairs; see :func:`pairs_of`.
        num_steps: ``[...]``, states in use; the others do not matter. With 0 of them h is zero.

    Returns:
        ``[..., w]``.
    """
    weight, bias = gru_input(parameters, "feature")
    if reads_pairs(weight, states.shape[-1]):
        states = pairs_of(states)
    return _of_gates(
        parameters, (linear(state, weight, bias) for state in states.unbind(-2)), num_steps
    )


def reads_pairs(weight: Tensor, width: int) -> bool:
    """Tells whether a layer's weight ``[inputs, out]`` takes two states of this width at once."""
    return weight.shape[-2] == 2 * width


def pairs_of(states: Tensor) -> Tensor:
    """Puts beside each state the one before it, ``[..., L, d] -> [..., L, 2 d]``.

    A pair is (state, what followed). Before the first state there are zeros, so that one item alone
    still tells something.
    """
    before = torch.nn.functional.pad(states, (0, 0, 1, 0))[..., :-1, :]
    return torch.cat([before, states], -1)


def _of_gates(parameters: Parameters, gates: Iterable[Tensor], num_steps: Tensor) -> Tensor:
    return mlp(
        gru_last_state(gates, num_steps, parameters, "feature"), parameters, "feature", DEPTH
    )


def with_table(parameters: Parameters, model: DeviceModel, static: Parameters) -> Parameters:
    """Adds the gates of every item, ``table.feature`` ``[num_items + 1, 3 w]``.

    The parameters stay as they are where there would be more than ``MAX_TABLE_ROWS`` rows, or the
    model's states are not of single items alone: a table of all positions would be too large for
    the cache.

    Args:
        parameters: Of the feature.
        model: The device model.
        static: Its static layers.
    """
    if not model.states_are_of_items or model.num_items >= MAX_TABLE_ROWS:
        return parameters
    states = model.item_states(static, torch.arange(model.num_items + 1).unsqueeze(-1)).squeeze(-2)
    weight, bias = gru_input(parameters, "feature")
    if not reads_pairs(weight, states.shape[-1]):
        return {**parameters, TABLE: linear(states, weight, bias)}
    before, newest = weight.chunk(2)
    return {**parameters, TABLE: linear(states, newest, bias), TABLE_BEFORE: states @ before}


def history_feature(
    parameters: Parameters, model: DeviceModel, static: Parameters, history: Tensor
) -> Tensor:
    """Makes :func:`sequence_feature` ``[B, w]`` of histories, from a table where there is one.

    Args:
        parameters: Of the feature, perhaps from :func:`with_table`.
        model: The device model, which makes a sequence of states of each history.
        static: Its static layers.
        history: ``[B, L]``.
    """
    if TABLE not in parameters:
        return sequence_feature(parameters, *model.sequence(static, history))
    return _of_gates(parameters, _tabulated(parameters, history), (history != 0).sum(-1))


def _tabulated(parameters: Parameters, history: Tensor) -> Iterable[Tensor]:
    """Looks the gates ``[B, 3 w]`` of every step up."""
    before: Tensor | None = None
    for items in history.unbind(-1):
        gates = embed(parameters[TABLE], items)
        if before is not None and TABLE_BEFORE in parameters:
            gates = gates + embed(parameters[TABLE_BEFORE], before)
        yield gates
        before = items


def reported_feature(
    parameters: Parameters,
    model: DeviceModel,
    static: Parameters,
    report: Mapping[str, NDArray],
) -> Tensor:
    """Makes :func:`sequence_feature` ``[n, w]`` of reports, from a table where there is one.

    Args:
        parameters: Of the feature, perhaps from :func:`with_table`.
        model: The device model, which makes a sequence of states of each report.
        static: Its static layers.
        report: ``[n, ...]`` by name.
    """
    if TABLE not in parameters:
        return sequence_feature(parameters, *model.reported(static, report))
    history = torch.from_numpy(np.asarray(report[records.HISTORY]).astype(np.int64))
    return history_feature(parameters, model, static, history)


def feature_flops(num_inputs: int, width: int, num_steps: int) -> float:
    """Counts the floating-point operations of one feature, two for a multiply-add.

    Args:
        num_inputs: ``d``, width of a state.
        width: ``w``, width of the feature.
        num_steps: Length of the sequence.
    """
    recurrent = num_steps * 3 * (num_inputs + width) * width
    return 2.0 * (recurrent + DEPTH * width * width)
