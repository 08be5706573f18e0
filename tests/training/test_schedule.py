"""Plateaus are waited out, in steps, and a second stage goes on from the best."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cdc_flower.training.checkpoints import Resume
from cdc_flower.training.fit import Watch, fit
from cdc_flower.training.schedule import CONSTANT, LEAST_VALIDATIONS, Position, Schedule


class Script:
    """A training whose validation losses are given, and whose weight counts its steps.

    Each step moves the weight by the rate, as Adam does along a constant gradient.
    """

    def __init__(self, losses: Sequence[float], steps_per_epoch: int = 1) -> None:
        self.losses = list(losses)
        self.steps_per_epoch = steps_per_epoch
        self.weight = torch.zeros((), dtype=torch.float64, requires_grad=True)
        self.weights: list[float] = []
        self.epochs: list[int] = []
        self.fails_in: int | None = None

    def batches(self, epoch: int) -> Iterable[Any]:
        if epoch == self.fails_in:
            raise KeyboardInterrupt
        self.epochs.append(epoch)
        for _ in range(self.steps_per_epoch):
            yield SimpleNamespace(history=[0], loss=None)
            self.weights.append(self.weight.item())

    def validation(self) -> Iterable[Any]:
        place = len(self.epochs)
        return [SimpleNamespace(history=[0], loss=self.losses[min(place, len(self.losses) - 1)])]

    def loss(self, batch: Any) -> torch.Tensor:
        return -self.weight if batch.loss is None else torch.tensor(batch.loss)

    def fit(self, schedule: Schedule, epochs: int, resume: Resume | None = None) -> list[float]:
        watch = Watch(schedule, resume=resume)
        return fit(
            self.loss,
            [self.weight],
            self.batches,
            self.validation,
            epochs=epochs,
            rate=1.0,
            watch=watch,
        )


def schedule(**knobs: Any) -> Schedule:
    return replace(CONSTANT, **knobs)


#: Falls, stays for six epochs, and falls again.
PLATEAU = [9.0, 5.0, *[5.0001] * 6, 4.0, 3.0, 2.0]


def test_a_plateau_that_is_shorter_than_the_patience_is_waited_out() -> None:
    short, long = Script(PLATEAU, 10), Script(PLATEAU, 10)
    assert min(short.fit(schedule(patience_steps=40), 10)) == 5.0
    assert min(long.fit(schedule(patience_steps=70), 10)) == 2.0


@pytest.mark.parametrize("steps_per_epoch", [1, 4, 20])
def test_patience_counts_steps_whatever_an_epoch_is(steps_per_epoch: int) -> None:
    script = Script([9.0, 5.0, 6.0], steps_per_epoch)
    script.fit(schedule(patience_steps=40), 1000)
    gained = steps_per_epoch
    assert len(script.epochs) * steps_per_epoch == gained + 40


def test_one_validation_without_a_gain_is_never_the_end() -> None:
    script = Script([9.0, 5.0, 6.0, 3.0, 4.0, 4.0], 1000)
    curve = script.fit(schedule(patience_steps=10), 100)
    assert curve == [9.0, 5.0, 6.0, 3.0, 4.0, 4.0] and LEAST_VALIDATIONS == 2


def test_noise_below_the_smallest_gain_does_not_reset_patience() -> None:
    noise = [1.0 - 1e-6 * place for place in range(60)]
    every, some = Script(noise), Script(noise)
    assert len(every.fit(schedule(patience_steps=5), 50)) == 51
    curve = some.fit(schedule(patience_steps=5, min_gain=1e-4), 50)
    assert len(curve) == 6 and min(curve) == curve[-1]


def test_a_slow_fall_that_adds_up_is_a_gain() -> None:
    falls = [1.0 - 4e-5 * place for place in range(60)]
    script = Script(falls)
    assert len(script.fit(schedule(patience_steps=5, min_gain=1e-4), 50)) == 51


def test_the_second_stage_goes_on_from_the_best_at_a_share_of_the_rate() -> None:
    # The best is after two steps of 1; three without a gain follow, and then steps of a quarter.
    losses = [9.0, 5.0, 4.0, 6.0, 6.0, 6.0, 3.0, 6.0, 6.0, 6.0]
    script = Script(losses)
    curve = script.fit(schedule(patience_steps=3, second_stage=0.25), 100)
    assert curve == losses
    steps = [1.0, 2.0, 3.0, 4.0, 5.0, 2.25, 2.5, 2.75, 3.0]
    assert script.weights == pytest.approx(steps, abs=1e-6)
    assert script.weight.item() == pytest.approx(2.25, abs=1e-6)


def test_without_a_second_stage_training_ends_with_the_first() -> None:
    script = Script([9.0, 5.0, 6.0])
    assert len(script.fit(schedule(patience_steps=3), 100)) == 1 + 1 + 3


def test_the_rate_rises_in_as_many_steps_in_each_stage() -> None:
    made = schedule(warmup_steps=4, second_stage=0.5)
    assert [made.factor(step, 0) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert [made.factor(step, 1) for step in range(5)] == [0.125, 0.25, 0.375, 0.5, 0.5]


def test_small_epochs_share_a_validation_and_the_last_one_has_its_own() -> None:
    script = Script([5.0, 4.0], steps_per_epoch=4)
    curve = script.fit(schedule(validate_every=10), 8)
    assert len(script.epochs) == 8 and len(curve) == 1 + 2 + 1  # after 12, 24 and 32 steps


def reference_fit(script: Script, epochs: int) -> list[float]:
    """Trains as plainly as can be: a constant rate, each epoch validated, the best one kept."""
    optimizer = torch.optim.Adam([script.weight], lr=1.0)
    curve = [float(next(iter(script.validation())).loss)]
    best = script.weight.item()
    for epoch in range(epochs):
        for batch in script.batches(epoch):
            optimizer.zero_grad()
            script.loss(batch).backward()
            optimizer.step()
        curve.append(float(next(iter(script.validation())).loss))
        best = script.weight.item() if curve[-1] == min(curve) else best
    script.weight.detach().fill_(best)
    return curve


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(1, 3))
def test_at_neutral_values_the_rate_is_constant_and_the_last_epoch_the_end(
    losses: list[int], steps_per_epoch: int
) -> None:
    scripts = [Script([9.0, *map(float, losses)], steps_per_epoch) for _ in range(2)]
    epochs = len(losses) + 1
    assert scripts[0].fit(CONSTANT, epochs) == reference_fit(scripts[1], epochs)
    assert scripts[0].weight.item() == scripts[1].weight.item()
    assert scripts[0].weights == scripts[1].weights


def test_without_held_out_data_patience_never_ends_a_training() -> None:
    script = Script([0.0])
    script.fit(Schedule(patience_steps=2, validate_every=0), 20)
    assert len(script.epochs) == 20


@pytest.mark.parametrize("fails_in", range(1, 9))
def test_a_training_that_was_interrupted_ends_with_the_same_bits(
    fails_in: int, tmp_path: Path
) -> None:
    """Also within the second stage, which begins with epoch 5."""
    losses = [9.0, 5.0, 4.0, 6.0, 6.0, 6.0, 3.0, 6.0, 6.0, 6.0]
    made = schedule(patience_steps=6, second_stage=0.25, warmup_steps=3, validate_every=1)
    whole, first, second = (Script(losses, 2) for _ in range(3))
    curve = whole.fit(made, 100)
    path = tmp_path / "state"
    first.fails_in = fails_in
    with pytest.raises(KeyboardInterrupt):
        first.fit(made, 100, Resume(path, "key"))

    second.epochs = first.epochs[:]
    assert second.fit(made, 100, Resume(path, "key")) == curve
    assert second.weight.item() == whole.weight.item()
    assert second.epochs == whole.epochs and second.weights == whole.weights[2 * fails_in :]


@given(st.lists(st.integers(0, 2**31), min_size=6, max_size=6))
def test_a_position_survives_the_way_through_a_tensor(counts: list[int]) -> None:
    position = Position(*counts)
    assert Position.of(position.to_tensor()) == position


@pytest.mark.parametrize(
    ("knob", "message"),
    [
        ({"patience_steps": 0}, "patience_steps must be a whole number >= 1 or null, got 0"),
        ({"second_stage": 1.0}, r"second_stage must be a number in \(0, 1\) or null, got 1.0"),
        ({"min_gain": -0.1}, r"min_gain must be a number in \[0, 1\), got -0.1"),
        ({"warmup_steps": -1}, "warmup_steps must be a whole number >= 0, got -1"),
    ],
)
def test_values_out_of_range_are_refused(knob: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**knob)
