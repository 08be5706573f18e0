"""Trained parameters are used again where everything agrees, and never where it does not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_cases import KEY, Interrupted, fresh, train_to, training

from cdc_flower.core.errors import UserError
from cdc_flower.training import checkpoints
from cdc_flower.training.checkpoints import Checkpoints, fingerprint


def test_the_second_time_nothing_is_trained_and_the_numbers_are_the_same(tmp_path: Path) -> None:
    calls: list[float] = []
    first, second = fresh(), fresh()
    store = Checkpoints(tmp_path / "new")

    curve = store.trained(KEY, first, train_to(first, 1.5, calls))
    again = store.trained(KEY, second, train_to(second, 9.0, calls))

    assert calls == [1.5] and curve == again == [2.0, 1.5]
    assert (second["a"] == 1.5).all() and second["b"] == 1.5 and second["a"].requires_grad
    assert [path.suffix for path in (tmp_path / "new").iterdir()] == [".safetensors"]


@pytest.mark.parametrize("key", [{**KEY, "seed": 1}, {**KEY, "model": "din"}, {**KEY, "epochs": 1}])
def test_another_key_is_trained_anew(key: dict[str, Any], tmp_path: Path) -> None:
    calls: list[float] = []
    tensors = fresh()

    Checkpoints(tmp_path).trained(KEY, tensors, train_to(tensors, 1.0, calls))
    Checkpoints(tmp_path).trained(key, tensors, train_to(tensors, 2.0, calls))

    assert calls == [1.0, 2.0]


def test_what_other_code_trained_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[float] = []
    tensors = fresh()
    Checkpoints(tmp_path).trained(KEY, tensors, train_to(tensors, 1.0, calls))

    monkeypatch.setattr(checkpoints, "source_hash", lambda: "other")
    Checkpoints(tmp_path).trained(KEY, tensors, train_to(tensors, 2.0, calls))

    assert calls == [1.0, 2.0]


@pytest.mark.parametrize("damage", ["truncated", "of another key"])
def test_a_file_that_is_damaged_or_of_another_key_is_trained_over(
    damage: str, tmp_path: Path
) -> None:
    calls: list[float] = []
    tensors, other = fresh(), {**KEY, "seed": 5}
    Checkpoints(tmp_path).trained(KEY, tensors, train_to(tensors, 1.0, calls))
    path, wanted = (tmp_path / f"{fingerprint(key)}.safetensors" for key in (KEY, other))
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-3])
        Checkpoints(tmp_path).trained(KEY, tensors, train_to(tensors, 2.0, calls))
    else:
        path.rename(wanted)
        Checkpoints(tmp_path).trained(other, tensors, train_to(tensors, 2.0, calls))

    assert calls == [1.0, 2.0]


def test_without_a_folder_one_run_trains_what_its_strategies_share_once(tmp_path: Path) -> None:
    calls: list[float] = []
    first, second, store = fresh(), fresh(), Checkpoints()
    store.trained(KEY, first, train_to(first, 1.5, calls))
    first["b"].fill_(7.0)  # what is kept is what was trained, whatever becomes of it

    assert store.trained(KEY, second, train_to(second, 9.0, calls)) == [2.0, 1.5]
    assert calls == [1.5] and second["b"] == 1.5


def test_without_a_folder_another_run_trains_again() -> None:
    calls: list[float] = []
    tensors = fresh()
    for _ in range(2):
        Checkpoints().trained(KEY, tensors, train_to(tensors, 1.0, calls))
    assert calls == [1.0, 1.0]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tensors = fresh()
    with pytest.raises(UserError, match=r"cache must be a folder that can be written, got .*file"):
        Checkpoints(tmp_path / "file").trained(KEY, tensors, train_to(tensors, 1.0, []))


@pytest.mark.parametrize("fails_in_epoch", [1, 2, 5])
def test_a_training_that_was_interrupted_goes_on_and_ends_as_if_it_had_not_been(
    fails_in_epoch: int, tmp_path: Path
) -> None:
    whole, train = training(6)
    curve = Checkpoints().trained(KEY, whole, train)
    broken, train = training(6, fails_in_epoch)
    with pytest.raises(Interrupted):
        Checkpoints(tmp_path).trained(KEY, broken, train)
    assert [path.suffix for path in tmp_path.iterdir()] == [".epoch"]

    resumed, train = training(6)
    assert Checkpoints(tmp_path).trained(KEY, resumed, train) == curve
    for name, value in whole.items():
        assert torch.equal(value, resumed[name])
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_what_another_key_left_under_way_is_not_taken_up(tmp_path: Path) -> None:
    broken, train = training(6, 3)
    with pytest.raises(Interrupted):
        Checkpoints(tmp_path).trained(KEY, broken, train)
    (left,) = tmp_path.iterdir()
    other = {**KEY, "seed": 9}
    left.rename(tmp_path / f"{fingerprint(other)}.epoch")
    whole, train = training(6)
    curve = Checkpoints().trained(KEY, whole, train)
    again, train = training(6)
    assert Checkpoints(tmp_path).trained(other, again, train) == curve
