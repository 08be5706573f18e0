"""Trained parameters are used again where everything agrees, and never where it does not."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cdc_flower import checkpoints
from cdc_flower.checkpoints import Checkpoints, fingerprint
from cdc_flower.errors import UserError

KEY: dict[str, Any] = {"model": "gru4rec", "seed": 0}


def train_to(tensors: dict[str, torch.Tensor], value: float, calls: list[float]) -> Any:
    def train() -> list[float]:
        calls.append(value)
        for tensor in tensors.values():
            tensor.detach().fill_(value)
        return [2.0, value]

    return train


def fresh() -> dict[str, torch.Tensor]:
    return {"a": torch.zeros(2, 3, requires_grad=True), "b": torch.zeros(())}


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


def test_what_other_code_trained_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []
    tensors = fresh()
    Checkpoints(tmp_path).trained(KEY, tensors, train_to(tensors, 1.0, calls))

    monkeypatch.setattr(checkpoints, "source_hash", lambda: "other")
    Checkpoints(tmp_path).trained(KEY, tensors, train_to(tensors, 2.0, calls))

    assert calls == [1.0, 2.0]


@pytest.mark.parametrize("damage", ["truncated", "of another key"])
def test_a_file_that_is_damaged_or_of_another_key_is_trained_over(damage: str, tmp_path: Path) -> None:
    calls: list[float] = []
    tensors, other = fresh(), {**KEY, "seed": 5}
    store = Checkpoints(tmp_path)
    store.trained(KEY, tensors, train_to(tensors, 1.0, calls))
    path, wanted = (tmp_path / f"{fingerprint(key)}.safetensors" for key in (KEY, other))
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-3])
        store.trained(KEY, tensors, train_to(tensors, 2.0, calls))
    else:
        path.rename(wanted)
        store.trained(other, tensors, train_to(tensors, 2.0, calls))

    assert calls == [1.0, 2.0]


def test_without_a_folder_nothing_is_kept() -> None:
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
