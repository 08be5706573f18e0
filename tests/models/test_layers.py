"""Layers with shared and with stacked parameters, against plain products and a loop."""

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cdc_flower.models.layers import (
    Parameters,
    embed,
    gru_input,
    gru_last_state,
    last_valid,
    layer_norm,
    linear,
    mlp,
    tanh_,
    uniform_linear,
)


def gates_of(x: torch.Tensor, parameters: Parameters) -> Iterator[torch.Tensor]:
    """The gates of the GRU ``g`` for inputs ``[..., L, d]``, a step at a time."""
    return iter(linear(x, *gru_input(parameters, "g")).clone().unbind(-2))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_shared_weight_is_a_matrix_product() -> None:
    # [1, 2] [[1, 0], [0, 10]] + [5, 6] = [1 + 5, 20 + 6]
    y = linear(
        torch.tensor([[1.0, 2.0]]),
        torch.tensor([[1.0, 0.0], [0.0, 10.0]]),
        torch.tensor([5.0, 6.0]),
    )
    assert y.tolist() == [[6.0, 26.0]]


@pytest.mark.parametrize("shape", [(3, 4), (3, 5, 4), (3, 5, 2, 4), (3, 0, 4)])
@pytest.mark.parametrize("is_weight_stacked", [True, False])
@pytest.mark.parametrize("is_bias_stacked", [True, False, None])
def test_stacked_parameters_equal_a_loop_over_devices(
    shape: tuple[int, ...], is_weight_stacked: bool, is_bias_stacked: bool | None
) -> None:
    x = normal(*shape)
    weight = normal(3, 4, 6, seed=1) if is_weight_stacked else normal(4, 6, seed=1)
    bias = (
        None
        if is_bias_stacked is None
        else normal(3, 6, seed=2)
        if is_bias_stacked
        else normal(6, seed=2)
    )
    weights = weight if is_weight_stacked else weight.expand(3, 4, 6)
    biases = torch.zeros(3, 6) if bias is None else bias.expand(3, 6)
    expected = torch.stack([x[k] @ weights[k] + biases[k] for k in range(3)])
    torch.testing.assert_close(linear(x, weight, bias), expected)


def test_an_mlp_has_tanh_between_its_layers_and_none_after_the_last() -> None:
    one = torch.ones(1, 1)
    parameters = {
        f"m.{k}.{part}": value
        for k in (0, 1)
        for part, value in (("weight", 3 * one), ("bias", one[0]))
    }
    y = mlp(torch.tensor([[1.0]]), parameters, "m", 2)
    assert y.item() == pytest.approx(3 * float(torch.tanh(torch.tensor(4.0))) + 1)


def test_a_stacked_table_gives_each_device_its_own_rows() -> None:
    table = torch.arange(2 * 3 * 1).reshape(2, 3, 1).float()  # device 0: 0 1 2, device 1: 3 4 5
    assert embed(table, torch.tensor([[0, 2], [0, 2]])).squeeze(-1).tolist() == [[0, 2], [3, 5]]
    assert embed(table[0], torch.tensor([[1, 1]])).squeeze(-1).tolist() == [[1, 1]]


def test_the_last_valid_position_is_before_the_padding_and_0_without_items() -> None:
    assert last_valid(torch.tensor([[4, 4, 0], [4, 0, 0], [1, 2, 3], [0, 0, 0]])).tolist() == [
        1,
        0,
        2,
        0,
    ]


def test_the_gru_equals_torch_at_the_last_valid_step() -> None:
    gru = torch.nn.GRU(5, 4, batch_first=True)
    x, num_steps = normal(6, 7, 5), torch.tensor([1, 2, 3, 5, 6, 7])
    parameters = {
        "g.input.weight": gru.weight_ih_l0.T,
        "g.input.bias": gru.bias_ih_l0,
        "g.hidden.weight": gru.weight_hh_l0.T,
        "g.hidden.bias": gru.bias_hh_l0,
    }
    expected = gru(x)[0][torch.arange(6), num_steps - 1]
    state = gru_last_state(gates_of(x, parameters), num_steps, parameters, "g")
    torch.testing.assert_close(state, expected)
    names = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
    leaves = [getattr(gru, name) for name in names]
    for ours, theirs in zip(
        *(torch.autograd.grad(y.square().sum(), leaves) for y in (state, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        state = gru_last_state(gates_of(x, parameters), num_steps, parameters, "g")
    torch.testing.assert_close(state, expected)


def gru_of(*lead: int) -> Parameters:
    """A GRU of 5 inputs and width 4, shared or one a device."""
    shapes = {
        "input.weight": (5, 12),
        "input.bias": (12,),
        "hidden.weight": (4, 12),
        "hidden.bias": (12,),
    }
    return {
        f"g.{name}": normal(*lead, *shape, seed=k) for k, (name, shape) in enumerate(shapes.items())
    }


def test_a_gru_without_steps_keeps_the_zero_state() -> None:
    parameters = gru_of()
    state = gru_last_state(
        gates_of(normal(2, 3, 5), parameters), torch.tensor([0, 3]), parameters, "g"
    )
    assert not state[0].any() and state[1].all()


@pytest.mark.parametrize("stacked", [("input", "hidden"), ("hidden",), ("input",)])
def test_a_stacked_gru_equals_a_loop_over_devices(stacked: tuple[str, ...]) -> None:
    x, num_steps = normal(3, 2, 6, 5), torch.tensor([[1, 6], [0, 3], [4, 2]])
    one, many = gru_of(), gru_of(3)
    parameters = {name: (many if name.split(".")[1] in stacked else one)[name] for name in one}
    expected = []
    for k in range(3):
        own = {
            name: value[k] if value.dim() > one[name].dim() else value
            for name, value in parameters.items()
        }
        expected.append(gru_last_state(gates_of(x[k], own), num_steps[k], own, "g"))
    state = gru_last_state(gates_of(x, parameters), num_steps, parameters, "g")
    torch.testing.assert_close(state, torch.stack(expected))


@given(st.floats(-100, 100, width=32))
def test_tanh_is_tanh_with_a_gradient_and_without(x: float) -> None:
    assert float(tanh_(torch.tensor([x]))) == pytest.approx(math.tanh(x), abs=2e-7)
    leaf = torch.tensor([x], requires_grad=True)
    y = tanh_(leaf * 1.0)
    assert y.detach().item() == pytest.approx(math.tanh(x), abs=2e-7)
    y.backward()
    assert float(leaf.grad) == pytest.approx(1 - math.tanh(x) ** 2, abs=2e-6)


def test_tanh_of_zero_is_zero_and_of_infinity_one() -> None:
    assert tanh_(torch.tensor([0.0, math.inf, -math.inf])).tolist() == [0.0, 1.0, -1.0]


def test_layer_norm_equals_torch_with_shared_and_with_stacked_scales() -> None:
    x, weight, bias = normal(3, 2, 5), normal(3, 5, seed=1), normal(3, 5, seed=2)
    for k in range(3):
        expected = torch.nn.functional.layer_norm(x[k], (5,), weight[k], bias[k])
        torch.testing.assert_close(layer_norm(x[k], weight[k], bias[k]), expected)
        torch.testing.assert_close(layer_norm(x, weight, bias)[k], expected)


def test_fresh_layers_are_uniform_within_one_over_the_root_of_the_inputs() -> None:
    weight, bias = uniform_linear(torch.Generator().manual_seed(0), 25, 4000)
    assert weight.shape == (25, 4000) and bias.shape == (4000,)
    for values in (weight, bias):
        assert 0.19 < values.max() <= 0.2 and -0.2 <= values.min() < -0.19
        assert abs(values.mean()) < 0.01
