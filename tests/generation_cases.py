"""What the tests of strategies that generate layers from a sequence share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from flwr.common.serde import message_from_proto, message_to_proto
from tiny import inline, model, stream

from cdc_flower.core.seeds import torch_generator
from cdc_flower.models import GRU4Rec
from cdc_flower.simulations.deployment import deploy
from cdc_flower.strategies.base import Cloud
from cdc_flower.strategies.past import Examples
from cdc_flower.training.fit import cross_entropy
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


def sequences() -> np.ndarray:
    """What the four devices have seen before the stream."""
    return stream().recent(np.arange(4), 0)


def reports(rows: list[int]) -> MessageBatch:
    """Reports of these devices, whose nodes are numbered from 2."""
    histories = {records.REPORT: {records.HISTORY: sequences()[rows]}}
    return MessageBatch("train.report", np.array(rows) + 2, arrays=histories, is_reply=True)


def layers_on_devices(built: Any) -> Arrays:
    """Adaptive layers ``[4, ...]`` that devices use after their answers, one serialized message
    after the other.
    """
    grid: Any = inline()
    deploy(grid, built)
    built.aggregate_train(1, reports([0, 1, 2, 3]))
    for message in built.configure_evaluate(1, built.initial_arrays(), None, grid):
        list(grid.send_and_receive([message_from_proto(message_to_proto(message))]))
    return {name: grid.states.pool[name][grid.states.in_use] for name in model().adaptive}


def logits_in_a_batch_and_in_a_loop(built: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits ``[4, C]`` as the cloud trains with them, and as each device computes them with what
    it was sent.
    """
    rng = np.random.default_rng(0)
    history = torch.from_numpy(sequences()).long()
    candidates = torch.from_numpy(rng.integers(1, 60, (4, 6)))
    deployed = {name: torch.from_numpy(value) for name, value in built.deployment().items()}
    received = {name: torch.from_numpy(value) for name, value in layers_on_devices(built).items()}
    loop = [
        model().score(
            {**deployed, **{name: value[k] for name, value in received.items()}},
            history[k],
            candidates[k],
        )
        for k in range(4)
    ]
    with torch.no_grad():
        batch = built._logits(built.parameters, Examples(history, candidates, history))
    return batch, torch.stack(loop)


@dataclass
class Rows:
    """A batch of examples."""

    rows: np.ndarray
    history: np.ndarray
    candidates: np.ndarray


@dataclass
class KnownOptimum:
    """The user chooses item 1 if the last item of what the device reported is even, else item 2.

    The history that the device model sees is noise, so one head for all cannot know.
    """

    num_examples: int
    seed: int
    is_shuffled: bool

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.history = rng.integers(3, 30, (self.num_examples, 6)).astype(np.int32)
        self.reported = rng.integers(3, 30, (self.num_examples, 6)).astype(np.int32)
        chosen = 1 + self.reported[:, -1] % 2
        self.candidates = np.stack([chosen, 3 - chosen], 1).astype(np.int32)
        if self.is_shuffled:
            self.reported = self.reported[rng.permutation(self.num_examples)]

    def batch(self, rows: np.ndarray, epoch: int, seed: int, num_negatives: int) -> Any:
        return Rows(rows, self.history[rows], self.candidates[rows])

    def batches(
        self,
        batch_size: int,
        epoch: int,
        seed: int,
        num_negatives: int,
        *,
        first: int = 0,
        stop: int | None = None,
    ) -> Iterable[Any]:
        for k in range(0, self.num_examples, batch_size)[first:stop]:
            yield self.batch(
                np.arange(k, min(k + batch_size, self.num_examples)), epoch, seed, num_negatives
            )

    def lagged(self, rows: np.ndarray, lag: np.ndarray) -> np.ndarray:
        return self.reported[rows]


def num_trained(prepare: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many numbers the optimizer of a strategy's training is given."""
    counts: list[int] = []
    adam = torch.optim.Adam

    def counting(leaves: list[torch.Tensor], **kwargs: Any) -> torch.optim.Adam:
        counts.append(sum(leaf.numel() for leaf in leaves))
        return adam(leaves, **kwargs)

    monkeypatch.setattr(torch.optim, "Adam", counting)
    prepare()
    monkeypatch.undo()
    assert len(counts) == 1
    return counts[0]


def loss_of_known_optimum(built: Any, is_shuffled: bool) -> tuple[float, float]:
    """Held-out loss before and after training a strategy with ``max_lag=1`` where the best head is
    known.
    """
    device_model = GRU4Rec(30, 16, history_length=6)
    parameters = device_model.init(torch_generator(0, "model"))
    train, held_out = KnownOptimum(2000, 1, is_shuffled), KnownOptimum(400, 2, is_shuffled)
    built.prepare(Cloud(device_model, parameters, train, held_out, 0, batch_size=250))
    inputs = (
        torch.from_numpy(part).long()
        for part in (held_out.history, held_out.candidates, held_out.reported)
    )
    with torch.no_grad():
        logits = built._logits(built.parameters, Examples(*inputs))
    return built.validation_curve[0], float(cross_entropy(logits).mean())
