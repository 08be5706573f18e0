"""Reports of the tiny world's devices to Persona, and the layers that it answers with."""

from typing import Any

import numpy as np
import torch
from tiny import stream

from cdc_flower.core.seeds import torch_generator
from cdc_flower.models import GRU4Rec
from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.persona.decoder import HELD
from cdc_flower.strategies.persona.likelihood import Likelihood, Pairs
from cdc_flower.strategies.persona.refinement import Members, Mover
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

NUM_ITEMS = 12
EVERYONE = np.arange(4)


def report(persona: Any, histories: np.ndarray, held: Any = None) -> MessageBatch:
    """What devices with these last items tell."""
    devices = np.arange(len(histories))
    arrays = {records.HISTORY: histories}
    if persona.downlink != "full":
        arrays[HELD] = np.asarray(
            held if held is not None else [[-1, 0]] * len(histories), np.int32
        )
    return MessageBatch(
        records.TRAIN_REPORT, devices + 2, arrays={records.REPORT: arrays}, is_reply=True
    )


def sequences(segment: int = 0) -> np.ndarray:
    """The last items of each device before a segment."""
    return stream().recent(EVERYONE, segment)


def full(persona: Any, histories: np.ndarray) -> dict[str, np.ndarray]:
    """The layers that go down whole."""
    (down,) = persona.answer(report(persona, histories))
    return dict(down.arrays[records.PARAMETERS])


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
