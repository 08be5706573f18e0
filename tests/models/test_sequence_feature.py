"""The feature of a device, against PyTorch's own layers."""

import math

import pytest
import torch
from model_cases import parameters_of, random_ids, small_model

from cdc_flower.core.seeds import torch_generator
from cdc_flower.models import sequence_feature as features
from cdc_flower.models.layers import Parameters
from cdc_flower.models.sequence_feature import (
    FEATURE_NAMES,
    feature_flops,
    history_feature,
    init_feature,
    sequence_feature,
    with_table,
)

NUM_INPUTS, WIDTH = 5, 3


def fresh(seed: int = 0) -> Parameters:
    return init_feature(torch_generator(seed, "test"), NUM_INPUTS, WIDTH)


def in_pytorch(parameters: Parameters, states: torch.Tensor, num_steps: int) -> torch.Tensor:
    """Linear-Tanh-Linear after the last step of ``torch.nn.GRU``."""
    gru = torch.nn.GRU(NUM_INPUTS, WIDTH, batch_first=True)
    with torch.no_grad():
        gru.weight_ih_l0.copy_(parameters["feature.input.weight"].T)
        gru.bias_ih_l0.copy_(parameters["feature.input.bias"])
        gru.weight_hh_l0.copy_(parameters["feature.hidden.weight"].T)
        gru.bias_hh_l0.copy_(parameters["feature.hidden.bias"])
        state = gru(states[None, :num_steps])[0][0, -1] if num_steps else torch.zeros(WIDTH)
    hidden = torch.tanh(state @ parameters["feature.0.weight"] + parameters["feature.0.bias"])
    return hidden @ parameters["feature.1.weight"] + parameters["feature.1.bias"]


def test_a_feature_is_two_layers_on_the_last_state_of_a_gru() -> None:
    parameters, states = (
        fresh(),
        torch.randn(4, 6, NUM_INPUTS, generator=torch_generator(1, "test")),
    )
    num_steps = torch.tensor([6, 3, 1, 0])
    features = sequence_feature(parameters, states, num_steps)
    assert features.shape == (4, WIDTH)
    expected = torch.stack(
        [in_pytorch(parameters, states[row], int(num_steps[row])) for row in range(4)]
    )
    torch.testing.assert_close(features, expected)


def test_states_after_the_last_step_do_not_matter() -> None:
    parameters, states = (
        fresh(),
        torch.randn(2, 6, NUM_INPUTS, generator=torch_generator(1, "test")),
    )
    num_steps = torch.tensor([4, 2])
    other = states.clone()
    other[0, 4:], other[1, 2:] = 7.0, -7.0
    before, after = (sequence_feature(parameters, values, num_steps) for values in (states, other))
    assert torch.equal(before, after)
    other[0, 3] = 7.0
    assert not torch.equal(before[0], sequence_feature(parameters, other, num_steps)[0])


def test_every_parameter_has_a_gradient_and_a_name() -> None:
    parameters = {name: value.requires_grad_() for name, value in fresh().items()}
    assert tuple(parameters) == FEATURE_NAMES
    shapes = {
        name: tuple(value.shape) for name, value in parameters.items() if name.endswith("weight")
    }
    assert shapes == {
        "feature.input.weight": (5, 9),
        "feature.hidden.weight": (3, 9),
        "feature.0.weight": (3, 3),
        "feature.1.weight": (3, 3),
    }
    sequence_feature(
        parameters, torch.ones(2, 4, NUM_INPUTS), torch.tensor([4, 2])
    ).sum().backward()
    assert all(
        value.grad is not None and value.grad.abs().sum() > 0 for value in parameters.values()
    )


def test_work_counts_every_product() -> None:
    shapes = {name: value.shape for name, value in fresh().items() if name.endswith("weight")}
    steps = {"feature.input.weight": 6, "feature.hidden.weight": 6}
    products = sum(math.prod(shape) * steps.get(name, 1) for name, shape in shapes.items())
    assert feature_flops(NUM_INPUTS, WIDTH, 6) == pytest.approx(2 * products)


@pytest.mark.parametrize("name", ["gru4rec", "din"])
def test_a_table_of_the_gates_of_every_item_gives_the_same_feature(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(name)
    static, own = parameters_of(model), init_feature(torch_generator(0, "test"), model.width, WIDTH)
    history = torch.from_numpy(random_ids(30, least=0)[0]).long()
    expected = sequence_feature(own, model.item_states(static, history), (history != 0).sum(-1))
    table = with_table(own, model, static)
    assert features.TABLE in table and features.TABLE not in own
    torch.testing.assert_close(history_feature(table, model, static, history), expected)
    torch.testing.assert_close(history_feature(own, model, static, history), expected)
    unknown = {**table, features.TABLE: torch.zeros_like(table[features.TABLE])}
    assert (
        history_feature(unknown, model, static, history) - expected
    ).abs().max() > 1e-3  # the table is what is read
    monkeypatch.setattr(features, "MAX_TABLE_ROWS", len(table[features.TABLE]) - 1)
    assert features.TABLE not in with_table(own, model, static)


def test_where_items_know_their_position_there_is_no_table() -> None:
    model = small_model("sasrec")
    static, own = parameters_of(model), init_feature(torch_generator(0, "test"), model.width, WIDTH)
    assert with_table(own, model, static) is own
    history = torch.tensor([[1, 2, 1, 0, 0, 0], [2, 1, 1, 0, 0, 0]])
    first, second = model.item_states(static, history)
    assert not torch.equal(first[0], second[1])  # the same item elsewhere is another state
    assert small_model("din").states_are_of_items and not model.states_are_of_items
