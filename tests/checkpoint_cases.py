"""Small trainings for the tests of checkpoints."""

from types import SimpleNamespace
from typing import Any

import torch

from cdc_flower.training.checkpoints import Resume
from cdc_flower.training.fit import Watch, fit

KEY: dict[str, Any] = {"model": "gru4rec", "seed": 0}


def train_to(tensors: dict[str, torch.Tensor], value: float, calls: list[float]) -> Any:
    def train(_: Resume) -> list[float]:
        calls.append(value)
        for tensor in tensors.values():
            tensor.detach().fill_(value)
        return [2.0, value]

    return train


def fresh() -> dict[str, torch.Tensor]:
    return {"a": torch.zeros(2, 3, requires_grad=True), "b": torch.zeros(())}


class Interrupted(Exception):
    """Ctrl-C, say."""


def training(epochs: int, fails_in_epoch: int | None = None) -> tuple[dict[str, torch.Tensor], Any]:
    """Two weights on their way to 3, with validation that gets worse in epoch 2 and then better."""
    weights = {"a": torch.zeros(2, requires_grad=True), "b": torch.zeros((), requires_grad=True)}
    seen = [0]

    def batches(epoch: int) -> Any:
        if epoch == fails_in_epoch:
            raise Interrupted
        return [SimpleNamespace(history=[0], goal=3.0 + 0.1 * epoch) for _ in range(3)]

    def validation() -> Any:
        seen[0] += 1
        return [SimpleNamespace(history=[0], goal=3.0)]

    def loss(batch: Any) -> torch.Tensor:
        return torch.stack([((value - batch.goal) ** 2).sum() for value in weights.values()]).sum()

    def train(resume: Resume) -> list[float]:
        watch = Watch(resume=resume)
        return fit(
            loss, weights.values(), batches, validation, epochs=epochs, rate=0.5, watch=watch
        )

    return weights, train
