"""Births and deaths of Persona's prototypes: who is a misfit, whose place is free, who is born."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from persona_cases import fit, members, mover, stacked

from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.persona.births import Births, idle_after, misfit_level
from cdc_flower.strategies.persona.likelihood import Pairs
from cdc_flower.strategies.persona.prototypes import Bank
from cdc_flower.strategies.persona.refinement import Members


@dataclass
class Told:
    """Moves every entry by one step, and keeps what it was told.

    Attributes:
        base: Of the head.
        step: Of each entry.
        members: Of the last call.
    """

    base: Parameters
    step: float = 0.25
    members: list[Members] = field(default_factory=list)

    def edits(self, heads: Parameters, trained: Parameters, members: Members) -> Parameters:
        """Moves the head, which is the base head and was not moved before."""
        for name, value in self.base.items():
            assert torch.equal(heads[name][0], value) and torch.equal(trained[name][0], value)
        self.members.append(members)
        return {name: torch.full_like(value, self.step) for name, value in heads.items()}


def bank_of(idle: list[int], drift: float = 0.5) -> Bank:
    """Prototypes of two layers, each a number of its own, that moved already."""
    numbers = torch.arange(1.0, len(idle) + 1)
    trained = {"w": numbers[:, None].repeat(1, 3), "b": -numbers[:, None]}
    bank = Bank.of(trained, torch.zeros(len(idle), 1))
    return replace(bank.moved({n: v * 0 + drift for n, v in trained.items()}), idle=np.array(idle))


def born(
    bank: Bank, misfits: list[bool], step: float = 0.25, share: float = 0.1, after: int = 2
) -> tuple[Bank, list[Members]]:
    """The bank after a segment in which some devices are misfits, and what moved the newborn."""
    told = Told({"w": torch.full((3,), 7.0), "b": torch.full((1,), 8.0)}, step)
    count = len(misfits)
    items = np.arange(1, 4 * count + 1, dtype=np.int32).reshape(count, 4)
    edits = {"w": torch.arange(3.0 * count).reshape(count, 3)}
    held_out = torch.arange(count) % 2 == 0
    everyone = Members(Pairs.of(items, 2), torch.ones(count, len(bank)), edits, held_out)
    after_it = Births(1.0, share, after).born(bank, np.array(misfits), told, everyone)  # type: ignore[arg-type]
    return after_it, told.members


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


def test_the_newborn_is_the_base_head_moved_a_step_in_the_place_that_was_idle_longest() -> None:
    bank = bank_of([2, 5, 3])
    after, _ = born(bank, [True] * 4)
    assert after.version.tolist() == [1, 2, 1] and after.idle.tolist() == [2, 0, 3]
    assert after.trained["w"].tolist() == [[1.0] * 3, [7.0] * 3, [3.0] * 3]
    assert after.drift["w"].tolist() == [[0.5] * 3, [0.25] * 3, [0.5] * 3]
    assert after.trained["b"].tolist() == [[-1.0], [8.0], [-3.0]]
    assert after.layers["b"].tolist() == [[-0.5], [8.25], [-2.5]]


def test_a_birth_leaves_the_bank_of_the_segment_before_as_it_was() -> None:
    bank, same = bank_of([2, 5]), bank_of([2, 5])
    assert born(bank, [True] * 4)[0] is not bank
    assert bank.version.tolist() == same.version.tolist() and bank.idle.tolist() == [2, 5]
    for part in ("trained", "drift"):
        for name, value in getattr(bank, part).items():
            assert torch.equal(value, getattr(same, part)[name])


def test_the_newborn_is_moved_by_the_misfits_alone() -> None:
    _, (told,) = born(bank_of([9, 0]), [False, False, True, False, True, True])
    assert told.pairs.target.tolist() == [[10, 11, 12], [18, 19, 20], [22, 23, 24]]
    assert told.weight.tolist() == [[1.0]] * 3
    assert told.is_held_out.tolist() == [True, True, False]
    assert told.edits is not None and told.edits["w"][:, 0].tolist() == [6.0, 12.0, 15.0]


@pytest.mark.parametrize(
    ("idle", "misfits", "share", "step", "is_born"),
    [
        ([2, 0], [True] * 2 + [False] * 2, 0.5, 0.25, True),  # at the level of each
        ([1, 0], [True] * 2 + [False] * 2, 0.5, 0.25, False),
        ([2, 0], [True] + [False] * 3, 0.5, 0.25, False),
        ([2, 0], [False] * 4, 0.0, 0.25, False),
        ([2, 0], [True] * 4, 0.5, 0.0, False),  # the devices held out do not gain
    ],
)
def test_nobody_is_born_without_a_place_enough_misfits_and_a_gain(
    idle: list[int], misfits: list[bool], share: float, step: float, is_born: bool
) -> None:
    bank = bank_of(idle)
    after, _ = born(bank, misfits, step, share)
    assert (after is not bank) is is_born


def test_reports_without_a_pair_neither_set_the_level_nor_are_misfits() -> None:
    evidence = torch.tensor([[1.0, 5.0], [2.0, 5.0], [0.0, 0.0]])
    assert misfit_level(evidence, torch.tensor([1, 1, 0])) == pytest.approx(1.99)
    found = Births(-1.0, 0.5, 2).misfits(evidence, torch.tensor([1, 1, 0]))
    assert found.tolist() == [True, True, False]


def test_a_misfit_fits_badly_a_pair_under_its_best_head() -> None:
    births = Births(level=1.5, share=0.5, after=2)
    evidence = torch.tensor([[4.0, 9.0], [4.0, 9.0], [9.0, 1.0]])
    assert births.misfits(evidence, torch.tensor([2, 4, 1])).tolist() == [True, False, False]
