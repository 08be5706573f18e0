"""Which layers of a head are adaptive, and how wide they are, is the model's choice."""

from typing import Any

import numpy as np
import pytest
import torch
from model_cases import NAMES, NUM_ITEMS, arrays_of, parameters_of, random_ids, small_model

from cdc_flower.core.errors import UserError
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.chain import Chain
from cdc_flower.models.registry import model_of
from cdc_flower.training.scoring import score_events

every_model = pytest.mark.parametrize("name", NAMES)


def made(name: str, **options: Any) -> DeviceModel:
    node = {"name": name, "width": 8, "history_length": 6, **options}
    return model_of(node, num_items=NUM_ITEMS)


def test_a_chain_by_hand() -> None:
    assert Chain.of(4, (5, 6), 1) == Chain((), ((4, 5), (5, 6), (6, 1)))
    assert Chain.of(4, (5, 6), 1, ["head.2"]) == Chain(((4, 5), (5, 6)), ((6, 1),))
    assert Chain.of(4, (5, 6), 1, ["head.1", "head.2"]) == Chain(((4, 5),), ((5, 6), (6, 1)))
    assert Chain.of(4, (), 3, ["head.0"]) == Chain((), ((4, 3),))


@pytest.mark.parametrize("adaptive", [["head.0"], ["head.0", "head.2"], ["gru", "head"], [], ["x"]])
def test_other_layers_than_the_last_are_refused(adaptive: list[str]) -> None:
    rule = (
        r"^model.adaptive must be \[head\], or of its last layers \[head.1, head.2\], \[head.2\]: "
        r"a device differs in the end of its model's head alone, got \["
    )
    with pytest.raises(UserError, match=rule):
        made("din", adaptive=adaptive)


def test_a_width_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"^model.head_sizes must be widths >= 1, got \[16, 0\]$"):
        made("gru4rec", head_sizes=[16, 0])


@every_model
def test_the_default_is_the_head_as_it_always_was(name: str) -> None:
    whole, plain = made(name, head_sizes=None, adaptive=["head"]), small_model(name)
    assert (whole.head_sizes, whole.body_sizes) == (plain.head_sizes, ())
    assert whole.flops(5) == plain.flops(5)
    one, other = parameters_of(whole), parameters_of(plain)
    assert list(one) == list(other)
    assert all(torch.equal(one[key], other[key]) for key in one)


@every_model
def test_a_model_is_the_same_function_whichever_of_its_layers_are_adaptive(name: str) -> None:
    whole = made(name)
    last = made(name, adaptive=[f"head.{len(whole.head_sizes) - 1}"])
    assert last.num_adaptive < whole.num_adaptive and len(last.head_sizes) == 1
    assert last.flops(5) == whole.flops(5)
    assert last.head_flops(5) < whole.head_flops(5)
    one, other = parameters_of(whole), parameters_of(last)
    for mine, its in zip(one.values(), other.values(), strict=True):  # the same draws
        assert torch.equal(mine, its)
    history, candidates = (torch.from_numpy(ids).long() for ids in random_ids(7))
    torch.testing.assert_close(
        last.score(other, history, candidates), whole.score(one, history, candidates)
    )


@every_model
def test_devices_that_differ_in_the_last_layer_are_scored_as_each_of_them_alone(name: str) -> None:
    whole = made(name, head_sizes=[16, 12])
    model = made(name, head_sizes=[16, 12], adaptive=["head.2"])
    assert whole.head_sizes[1] == (16, 12) and model.head_sizes == whole.head_sizes[2:]
    static = arrays_of(parameters_of(model))
    history, candidates = random_ids(40)
    sets = np.arange(40) % 8
    pool = {
        key: np.random.default_rng(1).normal(size=(8, *shape)).astype(np.float32)
        for key, shape in model.adaptive.items()
    }
    scores = score_events(model, static, pool, sets, history, candidates)
    for event in range(40):
        own = {**static, **{key: value[sets[event]] for key, value in pool.items()}}
        one = {key: torch.from_numpy(value) for key, value in own.items()}
        ids = (torch.from_numpy(each[event : event + 1]).long() for each in (history, candidates))
        alone = model.score(one, *ids)[0]
        np.testing.assert_allclose(scores[event], alone.numpy(), rtol=2e-4, atol=1e-5)
