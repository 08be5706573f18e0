"""Persona's prototypes while the stream goes on: moved by reports, born, dead, and edits shrunk."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import cloud, strategy, stream, table

from cdc_flower.core.errors import UserError
from cdc_flower.core.seeds import torch_generator
from cdc_flower.models import GRU4Rec
from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.persona.births import Births, idle_after, misfit_level
from cdc_flower.strategies.persona.likelihood import Likelihood, Pairs
from cdc_flower.strategies.persona.mixing import Mixture
from cdc_flower.strategies.persona.prototypes import Bank
from cdc_flower.strategies.persona.refinement import Members, Mover, chosen
from cdc_flower.strategies.persona.serving import Serving
from cdc_flower.strategies.persona.shrinkage import halves, noise, shrunk, weight
from cdc_flower.strategies.registry import build_strategy
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

NUM_ITEMS = 12
LIKELIHOOD: dict[str, Any] = {
    "cluster_on": "likelihood",
    "refinement": "none",
    "num_prototypes": 3,
    "report_length": 8,
    "likelihood_pairs": 4,
    "epochs": 4,
}


def mover(steps: int = 8, clip: float = 1.0, rate: float = 0.05, hedge: float = 0.0) -> Mover:
    model = GRU4Rec(NUM_ITEMS, 16, 2)
    parameters = model.init(torch_generator(0, "persona-test"))
    base = {name: parameters[name] for name in model.adaptive}
    return Mover(Likelihood.of(model, parameters, 0), base, hedge, clip, steps, rate)


def stacked(head: Parameters, num_heads: int) -> Parameters:
    return {name: value[None].repeat(num_heads, *[1] * value.dim()) for name, value in head.items()}


def members(
    of_group: np.ndarray, num_heads: int = 2, step: int = 1, seed: int = 0, held: float = 0.5
) -> Members:
    """Devices that go through the items in circles, each with one prototype."""
    draws = np.random.default_rng(seed)
    first = draws.integers(0, NUM_ITEMS, len(of_group))
    items = (first[:, None] + step * np.arange(12)) % NUM_ITEMS + 1
    own = torch.nn.functional.one_hot(torch.from_numpy(of_group), num_heads).float()
    is_held_out = torch.from_numpy(np.arange(len(of_group)) < held * len(of_group))
    return Members(Pairs.of(items.astype(np.int32), 2), own, None, is_held_out)


def fit(moving: Mover, heads: Parameters, told: Members) -> float:
    layers = {name: torch.einsum("nj,j...->n...", told.weight, v) for name, v in heads.items()}
    losses = moving.likelihood.losses(told.pairs.history, told.pairs.target)
    return float(losses(layers).mean())


# Moving.


def test_a_prototype_moves_to_what_its_members_reported_and_one_without_members_stays() -> None:
    moving, told = mover(), members(np.zeros(16, np.int64))
    heads = stacked(moving.base, 2)
    steps = moving.edits(heads, heads, told)
    assert any(value[0].any() for value in steps.values())
    assert not any(value[1].any() for value in steps.values())
    moved = {name: value + steps[name] for name, value in heads.items()}
    others = members(np.zeros(16, np.int64), seed=1)
    assert fit(moving, moved, others) < fit(moving, heads, others) - 0.1


def test_a_prototype_stays_where_the_devices_held_out_do_not_gain() -> None:
    moving, told = mover(), members(np.zeros(16, np.int64))
    other = members(np.zeros(16, np.int64), step=5)
    held = told.is_held_out[:, None]
    mixed_up = Pairs(
        torch.where(held[..., None], other.pairs.history, told.pairs.history),
        torch.where(held, other.pairs.target, told.pairs.target),
    )
    heads = stacked(moving.base, 2)
    steps = moving.edits(heads, heads, replace(told, pairs=mixed_up))
    assert not any(value.any() for value in steps.values())
    nobody = replace(told, is_held_out=torch.zeros(16, dtype=torch.bool))
    assert not any(value.any() for value in moving.edits(heads, heads, nobody).values())


def test_at_the_fixed_point_of_its_members_a_prototype_stays() -> None:
    moving, told = mover(steps=150, clip=float("inf")), members(np.zeros(32, np.int64))
    heads = stacked(moving.base, 2)
    first = moving.edits(heads, heads, told)
    once = {name: value + first[name] for name, value in heads.items()}
    again = mover(steps=5, clip=float("inf"), rate=1e-3).edits(once, heads, told)
    size = sum(float(value.square().sum()) for value in again.values())
    assert size < 1e-2 * sum(float(value.square().sum()) for value in first.values())


def test_no_entry_moves_further_than_the_clip_from_what_was_trained() -> None:
    moving, told = mover(steps=30, clip=0.1), members(np.zeros(16, np.int64))
    trained = stacked(moving.base, 2)
    heads = {name: value + 0.05 for name, value in trained.items()}
    steps = moving.edits(heads, trained, told)
    furthest = [float((heads[n] + e - trained[n])[0].abs().max()) for n, e in steps.items()]
    assert max(furthest) == pytest.approx(0.1, abs=1e-6)
    assert not any(v.any() for v in mover(steps=0).edits(heads, trained, told).values())


def test_the_step_of_each_prototype_is_where_its_members_gain_more_than_their_error() -> None:
    told = members(np.array([0, 0, 0, 1, 1, 1, 1, 1]), held=1.0)
    fitted = torch.tensor(
        [
            [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0],
            [1.5, 1.4, 1.6, 1.0, 3.1, 1.0, 3.0, 1.8],  # the second's members disagree
            [1.0, 1.1, 0.9, 3.0, 3.0, 3.0, 3.0, 3.0],
            [1.6, 1.6, 1.6, 3.0, 3.0, 3.0, 3.0, 3.0],
        ]
    )
    assert chosen(fitted, told) == [2, 0]


def test_steps_are_chosen_on_the_newest_pairs_under_the_weights_of_the_pairs_before() -> None:
    moving = mover()
    mixture = Mixture(moving.likelihood, moving.base, 2, float("inf"), 0.0)
    serving = Serving(mixture, 1.0, moving, None, 0)
    pairs = Pairs.of(np.array([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]], np.int32), 2)
    first, second = [0.0, 1.0], [1.0, 0.0]  # -log p of a pair under both heads
    losses = torch.tensor([[first, first, second, second]] * 2)
    made = serving.members(pairs, losses, {}, torch.tensor([False, True]))
    assert made.weight.tolist() == [[0, 1], [1, 0]]
    assert made.pairs.target.tolist() == [[2, 3, 4, 5], [0, 0, 4, 5]]


# Births and deaths.


def test_prototypes_without_members_are_counted_as_idle() -> None:
    idle = idle_after(np.array([0, 2, 1]), np.array([0, 0, 2]))
    assert idle.tolist() == [0, 3, 0]


def test_one_in_a_hundred_historical_reports_is_a_misfit() -> None:
    evidence = torch.arange(1.0, 1001.0)[:, None] * torch.tensor([[2.0, 3.0]])
    assert misfit_level(evidence, torch.full((1000,), 2)) == pytest.approx(990, abs=1)
    assert misfit_level(evidence[:0], torch.zeros(0)) == float("inf")
    births = Births(level=1.0, share=0.5, after=2)
    found = births.misfits(torch.tensor([[4.0, 9], [1, 9], [9, 9]]), torch.tensor([2, 2, 0]))
    assert found.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("idle", "share", "is_born"), [([0, 2], 0.5, True), ([0, 1], 0.5, False), ([0, 2], 0.9, False)]
)
def test_a_prototype_is_born_in_a_dead_ones_place_where_many_reports_fit_badly(
    idle: list[int], share: float, is_born: bool
) -> None:
    moving, told = mover(steps=20), members(np.zeros(16, np.int64))
    heads = {name: value + 0.5 for name, value in stacked(moving.base, 2).items()}
    bank = replace(Bank.of(heads, torch.zeros(2, 1)), idle=np.array(idle))
    misfits = np.arange(16) % 8 < 6  # three in four
    after = Births(1.0, share, 2).born(bank, misfits, moving, told)
    assert (after.version.tolist() == [0, 1]) is is_born
    if not is_born:
        assert after is bank
        return
    assert after.idle.tolist() == [0, 0]
    for name, value in after.trained.items():
        assert torch.equal(value[1], moving.base[name])
        assert torch.equal(after.layers[name][0], heads[name][0])
    other = members(np.ones(16, np.int64), seed=2)
    assert fit(moving, after.layers, other) < fit(moving, stacked(moving.base, 2), other)


# Shrinkage.


def test_the_halves_of_a_report_are_its_older_and_its_newer_items() -> None:
    older, newer = halves(np.array([[1, 2, 3, 4, 5], [1, 2, 3, 4, 0], [7, 0, 0, 0, 0]], np.int32))
    assert older.tolist() == [[1, 2, 3], [1, 2, 0], [7, 0, 0]]
    assert newer.tolist() == [[3, 4, 5], [3, 4, 0], [7, 0, 0]]


def test_the_james_stein_weight_is_that_of_efron_and_morris() -> None:
    # Five scalars of noise 2 with a spread of 10: B = (5 - 3) 2 / 10.
    assert weight(10.0, 2.0, 5, 1) == pytest.approx(0.4)
    # Three members with four entries, noise .5 an entry: B = ((3 - 1) 4 - 2) .5 / 6.
    assert weight(6.0, 4 * 0.5, 3, 4) == pytest.approx(0.5)
    assert weight(10.0, 0.0, 5, 1) == 0.0
    assert weight(10.0, 1e9, 5, 1) == 1.0
    assert weight(0.0, 1.0, 5, 1) == weight(10.0, 1.0, 1, 1) == 0.0


def test_edits_shrink_toward_the_mean_of_their_group_and_keep_it() -> None:
    edits = {"head.0.weight": torch.tensor([[1.0, 0], [3, 0], [5, 6], [9, 9]])}
    noises, groups = torch.tensor([0.0, 0.0, 1.0, 1e9]), np.array([0, 0, 1, 1])
    made, shares = shrunk(edits, noises, groups)
    assert shares.tolist() == [0, 0, 0, 0]  # of two members with two entries no degree is left
    six = {"head.0.weight": torch.tensor([[1.0, 0], [3, 0], [2, 6], [0, 2]])}
    made, shares = shrunk(six, torch.full((4,), 2.0), np.zeros(4, np.int64))
    spread = float((six["head.0.weight"] - six["head.0.weight"].mean(0)).square().sum())
    assert float(shares[0]) == pytest.approx((3 * 2 - 2) * 1.0 / spread)
    torch.testing.assert_close(made["head.0.weight"].mean(0), six["head.0.weight"].mean(0))
    alike, _ = shrunk(six, torch.full((4,), 1e9), np.zeros(4, np.int64))
    torch.testing.assert_close(alike["head.0.weight"], six["head.0.weight"].mean(0).expand(4, -1))
    assert noise(torch.tensor([[2.0, 4.0]])).tolist() == [5.0]


# In a run.


def report(histories: np.ndarray) -> MessageBatch:
    nodes = np.arange(len(histories)) + 2
    told = {records.REPORT: {records.HISTORY: histories}}
    return MessageBatch(records.TRAIN_REPORT, nodes, arrays=told, is_reply=True)


def full(persona: Any, segment: int = 0) -> dict[str, np.ndarray]:
    told = stream().recent(np.arange(4), segment, length=8)
    (down,) = persona.answer(report(told))
    return dict(down.arrays[records.PARAMETERS])


@pytest.mark.parametrize("refinement", ["none", "reports", "shrink"])
def test_every_refinement_plays_on_mixtures_and_is_the_same_again(refinement: str) -> None:
    settings = {**LIKELIHOOD, "refinement": refinement}
    rows = [table("persona", built=strategy("persona", **settings)) for _ in range(2)]
    assert rows[0].equals(rows[1])


def test_without_rounds_edits_and_steps_mixtures_are_the_base_models_head() -> None:
    base = cloud().parameters
    for settings in ({"epochs": 0}, {"hedge": 1.0, "clip": 0.0}):
        persona = strategy(
            "persona", **{**LIKELIHOOD, "refinement": "reports", **settings, "reports_steps": 0}
        )
        for name, value in full(persona).items():
            expected = np.repeat(base[name].numpy()[None], 4, 0)
            np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-7)


def test_without_edits_devices_get_the_mixture_alone_for_less_work() -> None:
    alone = strategy("persona", **LIKELIHOOD, edits=False)
    edited = strategy("persona", **LIKELIHOOD)
    none = strategy("persona", **{**LIKELIHOOD, "clip": 0.0})
    assert alone._flops() < edited._flops()
    for name, value in full(alone).items():
        np.testing.assert_array_equal(value, full(none)[name])
        assert not np.array_equal(value, full(edited)[name])


def test_reports_without_a_step_are_no_refinement() -> None:
    still = strategy("persona", **{**LIKELIHOOD, "refinement": "reports", "reports_steps": 0})
    none = strategy("persona", **LIKELIHOOD)
    for name, value in full(still).items():
        np.testing.assert_array_equal(value, full(none)[name])


def test_prototypes_that_moved_go_on_where_they_were_saved() -> None:
    settings = {**LIKELIHOOD, "refinement": "reports", "reports_rate": 0.1}
    persona, other = (strategy("persona", **settings) for _ in range(2))
    for segment in range(4):
        full(persona, segment)
    persona.bank = persona.bank.moved({n: v + 0.01 for n, v in persona.bank.drift.items()})
    other.set_state(persona.state())
    after, again = full(persona, 5), full(other, 5)
    for name, value in after.items():
        np.testing.assert_array_equal(value, again[name])
    assert persona.bank.version.min() >= 1
    for name, value in persona.state().items():
        np.testing.assert_array_equal(value, other.state()[name])


def test_edits_of_a_mixture_lead_to_the_layers_that_travel_whole() -> None:
    whole = table("persona", built=strategy("persona", **LIKELIHOOD))
    for downlink in ("edit", "index"):
        edited = table("persona", built=strategy("persona", **LIKELIHOOD, downlink=downlink))
        np.testing.assert_allclose(edited.value_sum, whole.value_sum, rtol=1e-5, atol=1e-6)
        assert edited.bytes_down.sum() != whole.bytes_down.sum()


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"refinement": "reports"}, "refinement=reports must go with cluster_on=likelihood"),
        (
            {"refinement": "shrink", "report": "feature"},
            "refinement=shrink must go with report=events",
        ),
        (
            {"cluster_on": "likelihood", "joint": True},
            "cluster_on=likelihood must go with joint=false",
        ),
        (
            {"cluster_on": "likelihood", "report": "feature"},
            "cluster_on=likelihood must go with report=events",
        ),
        (
            {"cluster_on": "likelihood", "report_stride": 2},
            "cluster_on=likelihood must go with report_stride=1",
        ),
        (
            {"cluster_on": "likelihood", "refinement": "bytes"},
            "refinement=bytes must go with cluster_on=edits",
        ),
        (
            {"cluster_on": "likelihood", "low_rank": 2, "downlink": "edit"},
            "cluster_on=likelihood must go with low_rank=null",
        ),
    ],
)
def test_what_cannot_go_together_is_refused_in_one_sentence(
    settings: dict[str, Any], rule: str
) -> None:
    with pytest.raises(UserError, match=f"strategy.persona: {rule}"):
        build_strategy("persona", settings)


def test_the_key_that_went_is_refused_with_the_new_one() -> None:
    with pytest.raises(UserError, match="'refinement_rate'; it is now bytes_rate, with"):
        build_strategy("persona", {"refinement_rate": 0.1})
