"""What all device models share: sizes, and one result whatever the form of the parameters."""

from importlib.resources import files

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import LENGTH, NAMES, NUM_ITEMS, parameters_of, random_ids, small_model
from omegaconf import OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from cdc_flower.core.errors import UserError
from cdc_flower.core.targets import TARGET
from cdc_flower.models import device_model
from cdc_flower.models.registry import checked_model, model_options, models


def tensors_of(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(array).long() for array in arrays]


@pytest.mark.parametrize(
    ("name", "count", "num_bytes"),
    [("gru4rec", 2112, 8448), ("sasrec", 2112, 8448), ("din", 16641, 66564)],
)
def test_the_adaptive_layers_have_the_papers_sizes(name: str, count: int, num_bytes: int) -> None:
    model = device_model(name, 100)
    parameters = parameters_of(model)
    assert model.num_adaptive == count
    assert (
        sum(parameters[key].nelement() * parameters[key].element_size() for key in model.adaptive)
        == num_bytes
    )


@pytest.mark.parametrize("name", NAMES)
def test_static_and_adaptive_layers_are_told_apart_by_name_and_shape(name: str) -> None:
    model = small_model(name)
    static, everything = model.init_static(torch.Generator()), parameters_of(model)
    assert not static.keys() & model.adaptive.keys()
    assert everything.keys() == static.keys() | model.adaptive.keys()
    assert {key: tuple(everything[key].shape) for key in model.adaptive} == model.adaptive
    assert everything["embedding"].shape == (NUM_ITEMS + 1, 8)
    assert all(value.dtype == torch.float32 for value in everything.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_start_and_another_one_does_not(name: str) -> None:
    model = small_model(name)
    first, again, other = (parameters_of(model, seed) for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.0.weight"], other["head.0.weight"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("least", [0, 1])
def test_a_longer_padding_changes_nothing(name: str, least: int) -> None:
    short, long = small_model(name), small_model(name, LENGTH + 3)
    parameters = parameters_of(short)
    history, candidates = random_ids(9, least=least)
    longer = np.pad(history, ((0, 0), (0, 3)))
    wide = dict(parameters)
    if "position" in wide:
        wide["position"] = torch.cat([wide["position"], torch.randn(3, 8)])
    expected = short.score(parameters, *tensors_of(history, candidates))
    torch.testing.assert_close(long.score(wide, *tensors_of(longer, candidates)), expected)


@pytest.mark.parametrize("name", NAMES)
def test_padding_has_no_part_in_a_score(name: str) -> None:
    model, parameters = small_model(name), parameters_of(small_model(name))
    ids = tensors_of(*random_ids(9))
    before = model.score(parameters, *ids)
    parameters["embedding"][0] += 1.0
    torch.testing.assert_close(model.score(parameters, *ids), before)


@pytest.mark.parametrize("name", NAMES)
def test_tables_of_the_catalog_change_no_score(name: str) -> None:
    model, parameters = small_model(name), parameters_of(small_model(name))
    ids = tensors_of(*random_ids(12, least=0))
    tables = model.tabulate(parameters)
    assert tables.keys() > parameters.keys()
    poor = {
        key: value
        for key, value in tables.items()
        if key.startswith(("table.", "head.", "gru.hidden"))
    }
    if name != "sasrec":  # nothing but the tables is read
        torch.testing.assert_close(model.score(poor, *ids), model.score(parameters, *ids))
    torch.testing.assert_close(model.score(tables, *ids), model.score(parameters, *ids))


@given(st.sampled_from(NAMES), st.integers(1, 4), st.integers(1, 3), st.integers(0, 99), st.data())
def test_stacked_parameters_equal_a_loop_of_single_models(
    name: str, num_devices: int, num_slots: int, seed: int, data: st.DataObject
) -> None:
    model, base = small_model(name), parameters_of(small_model(name))
    own = data.draw(
        st.sampled_from([tuple(model.adaptive), tuple(base), ("head.0.bias",), tuple(base)[1:4]])
    )
    singles = [
        {**base, **{key: parameters_of(model, 1 + k)[key] for key in own}}
        for k in range(num_devices)
    ]
    stacked = {**base, **{key: torch.stack([single[key] for single in singles]) for key in own}}
    history, candidates = random_ids(num_devices * num_slots, seed, least=0)
    shape = num_devices, num_slots, -1
    history_ids, candidate_ids = (ids.view(shape) for ids in tensors_of(history, candidates))
    together = model.score(stacked, history_ids, candidate_ids)
    assert together.shape == (num_devices, num_slots, candidates.shape[1])
    for k, single in enumerate(singles):
        torch.testing.assert_close(
            together[k], model.score(single, history_ids[k], candidate_ids[k]), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("name", NAMES)
def test_the_score_of_a_candidate_does_not_depend_on_the_others(name: str) -> None:
    model, parameters = small_model(name), parameters_of(small_model(name))
    history, candidates = tensors_of(*random_ids(4))
    alone = torch.cat(
        [model.score(parameters, history, candidates[:, k : k + 1]) for k in range(5)], -1
    )
    torch.testing.assert_close(model.score(parameters, history, candidates), alone)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_part_in_the_score(name: str) -> None:
    model = small_model(name)
    parameters = {key: value.requires_grad_() for key, value in parameters_of(model).items()}
    model.score(parameters, *tensors_of(*random_ids(30))).square().sum().backward()
    without = [
        key for key, value in parameters.items() if value.grad is None or not value.grad.any()
    ]
    assert not without


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=5)
@given(st.integers(1, 30))
def test_operations_are_those_that_pytorch_counts(name: str, num_candidates: int) -> None:
    model = device_model(name, NUM_ITEMS)
    history, candidates = tensors_of(*random_ids(1, 0, num_candidates, 10))
    with FlopCounterMode(display=False) as counter:
        model.score(parameters_of(model), history, candidates)
    # SASRec's attention of a single position is written as sums, which PyTorch does not count.
    uncounted = 2 * 10 * 2 * 32 if name == "sasrec" else 0
    assert model.flops(num_candidates) == counter.get_total_flops() + uncounted


@pytest.mark.parametrize("name", NAMES)
def test_operations_of_the_adaptive_layers_are_those_that_pytorch_counts(name: str) -> None:
    model, ids = device_model(name, NUM_ITEMS), tensors_of(*random_ids(1, 0, 7, 10))
    parameters = parameters_of(model)
    x, targets = model.encode(parameters, *ids)
    with FlopCounterMode(display=False) as counter:
        model.match(model.head(parameters, x), targets)
    assert model.head_flops(7) == counter.get_total_flops()


def test_an_unknown_model_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(
        UserError, match=r"^model.name: unknown model 'gru4rek'; did you mean 'gru4rec'\?"
    ):
        device_model("gru4rek", 10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("key", "sizes"),
    [("num_items", (0, 8, 6)), ("width", (5, 0, 6)), ("history_length", (5, 8, 0))],
)
def test_sizes_must_be_positive(name: str, key: str, sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=f"{key} must be >= 1, got 0"):
        device_model(name, *sizes)


WRONG = [
    ({"name": "gru4rec", "width": 0}, "model.width must be a whole number >= 1, got 0"),
    ({"name": "din", "num_heads": 4}, "model: unknown key 'num_heads'"),
    ({"name": "din", "_target_": "m.Mine"}, "model._target_: there is no module m in "),
    ({"name": "sasrec", "width": 30}, "model.width must be a multiple of 4, got 30"),
    ({"name": "video_tiny", "heads": 5}, "model.heads must divide the width 48, got 5"),
    ({"name": "gru4rek"}, "model.name: unknown model 'gru4rek'; did you mean 'gru4rec'?"),
]


@pytest.mark.parametrize(("node", "text"), WRONG)
def test_a_wrong_option_of_a_model_is_told_before_there_are_data(
    node: dict[str, object], text: str
) -> None:
    with pytest.raises(UserError) as caught:
        checked_model(node)
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", models)
def test_the_file_of_a_model_holds_every_option_of_it(name: str) -> None:
    path = files("cdc_flower.configs") / "model" / f"{name}.yaml"
    root = OmegaConf.create({"model": yaml.safe_load(path.read_text("utf-8")), "data": {}})
    node = OmegaConf.to_container(root, resolve=True)["model"]  # data that suggest nothing
    assert set(node) == set(model_options(node)) - {TARGET} and checked_model(node) == node
