"""A word on trainings that never beat their start, or were cut off."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import cloud

from cdc_flower.strategies.base import Cloud, Stage
from cdc_flower.training.checkpoints import Checkpoints
from cdc_flower.training.diary import Diary
from cdc_flower.training.schedule import Schedule


def notes_of(*curves: list[float], **knobs: Any) -> str:
    diary = Diary()
    for number, curve in enumerate(curves, 1):
        diary.enter(f"stage {number}", curve, Schedule(**knobs))
    return " | ".join(diary.notes())


def test_a_training_that_fell_and_stayed_needs_no_word() -> None:
    assert notes_of([0.68, 0.47, 0.46, 0.46]) == ""


def test_without_epochs_or_held_out_data_nothing_is_said() -> None:
    assert notes_of([0.68]) == notes_of([0.0, 0.0, 0.0]) == ""


def test_one_that_never_beat_its_start_is_told_with_its_first_and_best_losses() -> None:
    found = notes_of([0.4753, 0.4761, 0.4755, 0.476])
    assert found == (
        "training never beat its start (stage 1: validation loss 0.4753, 0.4755 at best after it), "
        "so what is played is the start, as with epochs=0"
    )


def test_some_of_several_that_never_did_are_counted() -> None:
    found = notes_of([0.5, 0.4, 0.41], [0.3, 0.31], [0.3, 0.32])
    assert found == (
        "2 of 3 trainings never beat their start (stage 2: validation loss 0.3000, 0.3100 at best "
        "after it)"
    )


def test_one_that_was_cut_off_while_it_fell_is_told_with_its_last_losses() -> None:
    found = notes_of([0.68, 0.5, 0.4])
    assert found == (
        "training was cut off by epochs while the validation loss still fell (stage 1: 0.6800 at "
        "first, then 0.5000 and 0.4000 at the end)"
    )
    assert notes_of([0.68, 0.4, 0.399999]) == ""  # no gain that counts


def test_several_that_were_cut_off_are_counted() -> None:
    found = notes_of([0.68, 0.5, 0.4], [0.6, 0.5, 0.5], [0.5, 0.45])
    assert found.startswith("2 of 3 trainings were cut off by epochs while")


def trained(given: Cloud[Any]) -> None:
    weight = torch.zeros(3, requires_grad=True)
    stage = Stage("stage", {}, {"weight": weight}, [weight], 2, 0.1)
    given.fit(stage, lambda batch: (weight - 1).square().mean())


@pytest.mark.parametrize("name", ["batch_size", "examples_per_epoch", "num_negatives", "schedule"])
def test_a_checkpoint_is_of_one_value_of_each_knob_of_training(name: str, tmp_path: Path) -> None:
    """A knob that is forgotten in the key gives a model that was trained otherwise."""
    kept = Checkpoints(tmp_path)
    given = replace(cloud(), identity="base", checkpoints=kept)
    trained(given)
    trained(given)
    assert len([*tmp_path.iterdir()]) == 1
    other: object = 7 if name != "schedule" else Schedule()
    trained(replace(given, **{name: other}))
    assert len([*tmp_path.iterdir()]) == 2


def test_a_training_from_a_checkpoint_has_the_same_words(tmp_path: Path) -> None:
    given = replace(cloud(), identity="base", checkpoints=Checkpoints(tmp_path))
    words = []
    for _ in range(2):
        own = replace(given, diary=Diary())
        trained(own)
        words.append(own.diary.notes())
    assert words[0] == words[1] and "cut off by epochs" in words[0][0]
