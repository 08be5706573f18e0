"""Persona's prototypes while the stream goes on: moved by what their members reported."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from persona_cases import fit, members, mover, stacked
from tiny import cloud, strategy, stream, table

from cdc_flower.core.errors import UserError
from cdc_flower.strategies.persona.likelihood import Pairs
from cdc_flower.strategies.persona.mixing import Mixture
from cdc_flower.strategies.persona.refinement import chosen
from cdc_flower.strategies.persona.serving import Serving
from cdc_flower.strategies.registry import build_strategy
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

LIKELIHOOD: dict[str, Any] = {
    "cluster_on": "likelihood",
    "refinement": "none",
    "num_prototypes": 3,
    "report_length": 8,
    "likelihood_pairs": 4,
    "epochs": 4,
}


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
