"""Plain modules as device models: many devices at once are as single modules in a loop."""

import logging
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import NUM_ITEMS, arrays_of, random_ids
from module_cases import MODULES, Attending, InPlace, OnItems, Outside, PlainGRU4Rec, Pool
from torch import Tensor, nn
from torch.func import functional_call

from cdc_flower.core.errors import UserError
from cdc_flower.models import device_model
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.from_module import from_module
from cdc_flower.models.layers import Parameters
from cdc_flower.models.module import runs
from cdc_flower.models.module.calls import replaced
from cdc_flower.models.module.model import ModuleModel
from cdc_flower.models.module.recurrent import recurrent_call
from cdc_flower.training.fit import LocalTraining
from cdc_flower.training.scoring import score_events

LENGTH = 6
WAYS = {"Outside": "whole", "Tied": "whole", "Looking": "loop"}


def made(kind: type[nn.Module], **options: object) -> ModuleModel:
    return from_module(kind, NUM_ITEMS, history_length=LENGTH, **options)


def parameters_of(model: DeviceModel, seed: int = 0) -> Parameters:
    return model.init(torch.Generator().manual_seed(seed))


def alone(kind: type[nn.Module], parameters: Parameters, *ids: Tensor) -> Tensor:
    """The module itself, without anything of ours."""
    return functional_call(kind(NUM_ITEMS).eval(), parameters, ids)


def ids_of(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    history, candidates = random_ids(*args, history_length=LENGTH, **kwargs)
    return torch.from_numpy(history).long(), torch.from_numpy(candidates).long()


def test_logits_are_those_worked_out_by_hand() -> None:
    model = from_module(Pool, 3, history_length=2, width=2)
    shared = {"items.weight": torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1]])}
    own = {  # device 0 swaps two numbers, device 1 doubles them and adds 1 to the first
        "head.weight": torch.tensor([[[0.0, 1], [1, 0]], [[2, 0], [0, 2]]]),
        "head.bias": torch.tensor([[0.0, 0], [1, 0]]),
    }
    history = torch.tensor([[[1, 1]], [[1, 3]]])  # sums (2, 0) and (2, 1)
    candidates = torch.tensor([[[1, 3]], [[1, 3]]])
    # States are (0, 2) and (5, 2); logits are their products with (1, 0) and (1, 1).
    logits = model.score({**shared, **own}, history, candidates)
    assert logits.tolist() == [[[0, 2]], [[5, 7]]]
    assert model.adaptive == {"head.weight": (2, 2), "head.bias": (2,)}
    assert model.num_adaptive == 6


@pytest.mark.parametrize("kind", MODULES)
@settings(max_examples=4)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 6), st.integers(0, 99), st.data())
def test_devices_together_are_single_modules_in_a_loop(
    kind: type[nn.Module],
    num_devices: int,
    num_slots: int,
    num_candidates: int,
    seed: int,
    data: st.DataObject,
) -> None:
    model = MADE[kind]
    base = parameters_of(model)
    own = data.draw(st.sampled_from([tuple(model.adaptive), tuple(base), tuple(base)[:1]]))
    singles = [
        {**base, **{key: parameters_of(model, 1 + k)[key] for key in own}}
        for k in range(num_devices)
    ]
    stacked = {**base, **{key: torch.stack([each[key] for each in singles]) for key in own}}
    ids = ids_of(num_devices * num_slots, seed, num_candidates)
    history, candidates = (each.view(num_devices, num_slots, -1) for each in ids)
    together = model.score(stacked, history, candidates)
    assert together.shape == candidates.shape
    for k, single in enumerate(singles):
        expected = alone(kind, single, history[k], candidates[k])
        torch.testing.assert_close(together[k], expected, rtol=1e-4, atol=1e-4)


MADE = {kind: made(kind) for kind in MODULES}


@pytest.mark.parametrize("kind", MODULES)
def test_a_module_runs_in_the_fastest_way_that_is_right(kind: type[nn.Module]) -> None:
    assert MADE[kind].ways["head"] == WAYS.get(kind.__name__, "calls")


@pytest.mark.parametrize("kind", MODULES)
def test_tables_of_items_change_no_logit(kind: type[nn.Module]) -> None:
    model, ids = MADE[kind], ids_of(9, 1)
    parameters = parameters_of(model)
    tables = model.tabulate(parameters)
    torch.testing.assert_close(model.score(tables, *ids), alone(kind, parameters, *ids))


@pytest.mark.parametrize(
    ("kind", "maps"), [(PlainGRU4Rec, ["sequence", "target.2"]), (Attending, ["norm"])]
)
def test_maps_of_single_items_are_looked_up(kind: type[nn.Module], maps: list[str]) -> None:
    model = MADE[kind]
    tables = model.tabulate(parameters_of(model))
    poor = {name: torch.nan * value for name, value in tables.items()}
    kept = {name: value for name, value in tables.items() if name.startswith("rows of")}
    assert [any(f"{each}.weight" in name for name in kept) for each in maps] == [True] * len(maps)
    used = {name: tables[name] for name in model.shapes if not name.startswith(("items", "emb"))}
    mapped = {name for name in used if name.startswith(("sequence", "target"))}
    used = {name: value for name, value in used.items() if name not in mapped}
    ids = ids_of(9, 2)
    torch.testing.assert_close(  # of embeddings and maps nothing but the tables is read
        model.score({**poor, **used, **kept}, *ids), model.score(tables, *ids)
    )


@pytest.mark.parametrize("kind", [Pool, PlainGRU4Rec, Attending, Outside, InPlace, OnItems])
@pytest.mark.parametrize("layers", ["head", "all"])
@pytest.mark.parametrize("num_sets", [2, 7])
def test_the_scorer_scores_ragged_devices(
    kind: type[nn.Module], layers: str, num_sets: int
) -> None:
    model, base = MADE[kind], parameters_of(MADE[kind])
    names = tuple(model.adaptive) if layers == "head" else tuple(base)
    singles = [{**base, **{k: parameters_of(model, 1 + s)[k] for k in names}} for s in range(7)]
    pool = {key: np.stack([each[key].numpy() for each in singles]) for key in names}
    rng = np.random.default_rng(0)
    set_of_event = rng.integers(0, num_sets, 40)
    history, candidates = random_ids(40, 3, history_length=LENGTH)
    scores = score_events(model, arrays_of(base), pool, set_of_event, history, candidates)
    for event, chosen in enumerate(set_of_event):
        ids = (torch.from_numpy(each[event : event + 1]).long() for each in (history, candidates))
        expected = alone(kind, singles[chosen], *ids)[0]
        np.testing.assert_allclose(scores[event], expected.numpy(), rtol=1e-4, atol=1e-4)


def as_built_in(parameters: Parameters) -> Parameters:
    """Parameters of the plain module under the built-in model's names and in its layout."""
    names = {"gru.input": "gru.{}_ih_l0", "gru.hidden": "gru.{}_hh_l0", "sequence": "sequence.{}"}
    for part in ("target", "head"):
        names |= {f"{part}.{k}": f"{part}.{2 * k}.{{}}" for k in (0, 1)}
    made = {"embedding": parameters["embedding.weight"]}
    for ours, theirs in names.items():
        made[f"{ours}.weight"] = parameters[theirs.format("weight")].T.contiguous()
        made[f"{ours}.bias"] = parameters[theirs.format("bias")]
    return made


def test_gru4rec_as_a_plain_module_scores_as_the_built_in_one() -> None:
    plain, built_in = made(PlainGRU4Rec), device_model("gru4rec", NUM_ITEMS, 32, LENGTH)
    parameters = parameters_of(plain)
    history, candidates = ids_of(50, 4)
    torch.testing.assert_close(
        plain.score(parameters, history, candidates),
        built_in.score(as_built_in(parameters), history, candidates),
        rtol=1e-5,
        atol=1e-5,
    )
    assert plain.num_adaptive == built_in.num_adaptive
    for count in (1, 5, 100):
        assert plain.flops(count) == built_in.flops(count)
        assert plain.head_flops(count) == built_in.head_flops(count)
    how, counts = LocalTraining(steps=3), np.array([0, 4])
    np.testing.assert_array_equal(how.flops(plain, counts), how.flops(built_in, counts))


def test_operations_are_those_counted_by_hand() -> None:
    # A matrix of 4 x 4, and 4 numbers for each of 3 candidates; two for a multiply-add.
    assert MADE[Pool].flops(3) == MADE[Pool].head_flops(3) == 2 * (16 + 3 * 4)
    # Attention: maps of 3 queries and 6 keys and values, two products of 3 x 6 x 8, a map of 3.
    attention = 8 * 8 * (3 + 6 + 6) + 2 * 3 * 6 * 8 + 3 * 8 * 8
    tower = 3 * (16 * 8 + 8)
    assert MADE[Attending].flops(3) == 2 * (attention + tower)
    assert MADE[Attending].head_flops(3) == 2 * tower


def test_new_values_are_drawn_under_the_seed_and_those_of_an_instance_are_kept() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    model = made(Pool)
    one, same, other = (parameters_of(model, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])
    assert not one["items.weight"][0].any()  # as nn.Embedding itself starts its padding
    instance = Pool(NUM_ITEMS)
    given = parameters_of(DeviceModel.from_module(instance, NUM_ITEMS, ["head"]), 3)
    assert all(torch.equal(given[name], value) for name, value in instance.named_parameters())
    with torch.no_grad():
        instance.head.weight.zero_()  # the model has a copy of its own
    assert given["head.weight"].any()
    assert instance.training


def test_a_padding_row_stays_untrained_through_a_table() -> None:
    model, parameters = MADE[Pool], parameters_of(MADE[Pool])
    leaves = {name: value.requires_grad_() for name, value in parameters.items()}
    model.score(model.tabulate(leaves), *ids_of(9, 1)).square().sum().backward()
    gradient = leaves["items.weight"].grad
    assert gradient is not None and gradient[1:].any() and not gradient[0].any()


def test_frozen_parameters_and_buffers_stay_as_they_are() -> None:
    module = Pool(NUM_ITEMS)
    module.items.weight.requires_grad_(False)
    model = from_module(module, NUM_ITEMS, history_length=LENGTH)
    assert list(model.init(torch.Generator())) == ["head.weight", "head.bias"]
    ids = ids_of(3)
    torch.testing.assert_close(model.score(parameters_of(model), *ids), module(*ids))


def test_a_model_goes_through_pickle() -> None:
    model, ids = MADE[PlainGRU4Rec], ids_of(4)
    parameters = parameters_of(model)
    stacked = {
        name: value.expand(2, *value.shape) if name in model.adaptive else value
        for name, value in parameters.items()
    }
    again = pickle.loads(pickle.dumps(model))
    together = (each.view(2, 2, -1) for each in ids)
    assert again.ways == model.ways
    torch.testing.assert_close(
        again.score(stacked, *together).view(4, -1), model.score(parameters, *ids)
    )


def test_what_training_depends_on_is_told_apart() -> None:
    one, other = Pool(NUM_ITEMS), Pool(NUM_ITEMS)
    facts = from_module(one, NUM_ITEMS).training_facts()
    assert facts == from_module(one, NUM_ITEMS).training_facts()
    assert facts != from_module(other, NUM_ITEMS).training_facts()  # other values
    assert made(Pool).training_facts() == made(Pool).training_facts()  # drawn under the seed
    assert made(Pool).training_facts() != made(Restarted).training_facts()
    assert not device_model("gru4rec", NUM_ITEMS).training_facts()


class Restarted(Pool):
    """The same network in another file."""


class Mixing(Pool):
    """Takes the mean over events."""

    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        logits = super().forward(history, candidates)
        return logits - logits.mean(0)


class Transposed(Pool):
    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        return super().forward(history, candidates).T


class Idle(Pool):
    adaptive = ("idle",)

    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        self.idle = nn.Linear(2, 2)


class TooFewRows(Pool):
    def __init__(self, num_items: int) -> None:
        super().__init__(num_items - 1)


class Undecided(Pool):
    adaptive = ()


class Restless(Pool):
    """Draws noise, in evaluation too."""

    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        logits = super().forward(history, candidates)
        return logits + torch.rand(logits.shape)


class NotDifferentiable(Pool):
    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        return super().forward(history, candidates).detach()


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        (NotDifferentiable, {}, "NotDifferentiable must have gradients of head.weight, head.bias"),
        (
            Mixing,
            {},
            "model: Mixing.forward must give an event the same logits beside other events",
        ),
        (Restless, {}, "model: Restless.forward must give an event the same logits"),
        (
            Transposed,
            {},
            "must give logits [7, 5] of history [7, 6] and candidates [7, 5], got [5, ",
        ),
        (
            TooFewRows,
            {},
            "model: TooFewRows.forward must take history [7, 6] and candidates [7, 5]",
        ),
        (Idle, {}, "on which the logits of Idle depend, got idle.weight, idle.bias"),
        (Undecided, {}, "model: Undecided must say which submodules differ between devices"),
        (Pool, {"adaptive": ["haed"]}, "got 'haed'; did you mean head? (it has head, items)"),
        (Pool, {"adaptive": "head"}, "model.adaptive must be a list of names"),
        (Pool, {"width": -1}, "model: Pool must be made of its options, got RuntimeError"),
        (Pool, {"depth": 2}, "model: Pool must be made of its options, got TypeError"),
    ],
)
def test_a_module_that_cannot_be_played_is_refused_in_one_sentence(
    kind: type[nn.Module], options: dict[str, object], text: str
) -> None:
    with pytest.raises(UserError) as refused:
        from_module(kind, NUM_ITEMS, history_length=LENGTH, **options)  # type: ignore[arg-type]
    assert text in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("has_start", [True, False])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (nn.GRU, {}),
        (nn.LSTM, {}),
        (nn.RNN, {"nonlinearity": "relu", "bias": False}),
        (nn.GRU, {"bidirectional": True, "num_layers": 2}),
        (nn.LSTM, {"bidirectional": True, "num_layers": 2}),
    ],
)
def test_a_recurrent_layer_step_by_step_is_pytorchs_own(
    kind: type[nn.RNNBase], options: dict[str, Any], batch_first: bool, has_start: bool
) -> None:
    layer = kind(4, 5, batch_first=batch_first, **options)
    x = torch.randn(3, 6, 4)
    start: Any = torch.randn(
        layer.num_layers * (1 + layer.bidirectional), 3 if batch_first else 6, 5
    )
    start = (start, -start) if kind is nn.LSTM else start
    args = (x, start) if has_start else (x,)
    expected = layer(*args)
    with replaced({layer: recurrent_call(layer)}):
        torch.testing.assert_close(layer(*args), expected)


def test_a_recurrent_network_is_mapped_over_devices_that_differ_in_all_layers() -> None:
    assert MADE[PlainGRU4Rec].ways == {"head": "calls", "all": "whole"}


def test_an_embedding_with_a_padding_row_is_mapped_over_devices_too() -> None:
    assert MADE[Pool].ways == {"head": "calls", "all": "whole"}


def test_a_way_that_gives_other_gradients_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def own(_: nn.Embedding) -> Any:  # PyTorch's gradient of a padding row, mapped
        return lambda forward, args, kwargs: forward(*args, **kwargs)

    monkeypatch.setattr(runs, "padded_call", own)
    assert made(Pool).ways == {"head": "calls", "all": "loop"}


def test_a_part_named_beside_what_it_lies_in_is_called_once() -> None:
    model = from_module(Attending, NUM_ITEMS, ["tower", "tower.0"], history_length=LENGTH)
    assert len(model.adaptive) == 4 and model.ways["head"] == "calls"


def test_devices_in_a_loop_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "cdc_flower"):
        made(next(kind for kind in MODULES if kind.__name__ == "Looking"))
    assert "Looking runs one device after the other where adaptive layers differ" in caplog.text
