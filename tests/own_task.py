"""A tiny task of one's own: devices see a number and say whether it is even or odd.

Some devices count from one, so that theirs are the other way round. Nothing of the package names
it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.core.options import option
from cdc_flower.core.stream import LabelledBatch, SegmentBatch, Truth, TruthReader
from cdc_flower.devices.task import Columns
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.layers import Parameters, embed
from cdc_flower.models.registry import model_of, models
from cdc_flower.tasks.data import StreamShape, data, data_of
from cdc_flower.tasks.data.registry import DataOptions
from cdc_flower.tasks.protocol import Built, Config, Task, facts_of
from cdc_flower.tasks.registry import tasks

Ints = NDArray[np.int64]
PER_SEGMENT = 3


@dataclass(frozen=True)
class Batch:
    rows: Ints
    history: NDArray[np.int32]
    candidates: NDArray[np.int32]


@dataclass(frozen=True)
class History:
    """Numbers and their parity, the true one first."""

    numbers: Ints
    answers: Ints

    @property
    def num_examples(self) -> int:
        return len(self.numbers)

    def batch(self, rows: Ints, *_: int) -> Batch:
        return Batch(rows, column(self.numbers[rows]), true_first(self.answers[rows]))

    def batches(
        self,
        size: int,
        *_: int,
        first: int = 0,
        stop: int | None = None,
    ) -> Iterator[Batch]:
        for start in range(0, self.num_examples, size)[first:stop]:
            yield self.batch(np.arange(start, min(start + size, self.num_examples)))

    def split(self, fraction: float, seed: int) -> tuple["History", "History"]:
        count = max(1, round(fraction * self.num_examples))
        past, late = slice(None, -count), slice(-count, None)
        return (
            replace(self, numbers=self.numbers[past], answers=self.answers[past]),
            replace(self, numbers=self.numbers[late], answers=self.answers[late]),
        )

    def content_hash(self) -> str:
        return f"{self.numbers.tolist()} {self.answers.tolist()}"


class Numbers:
    """Draws the numbers 1..``num_items`` in turn."""

    history_length = 1

    def __init__(self, num_items: int, shape: StreamShape) -> None:
        self.num_items, self.num_devices = num_items, shape.num_devices or 4
        self.num_segments, self.seed = shape.num_segments, shape.seed
        self.segment_starts_s = 60.0 * np.arange(shape.num_segments + 1)

    def numbers(self, device_ids: Ints, segment: int) -> Ints:
        place = (segment + 100) * PER_SEGMENT + np.arange(PER_SEGMENT)
        return (5 * device_ids[:, None] + 3 * place + self.seed) % self.num_items + 1

    def segment(self, device_ids: Ints, segment: int) -> SegmentBatch:
        numbers, count = self.numbers(device_ids, segment), len(device_ids)
        answers = (numbers + device_ids[:, None] % 2) % 2
        return SegmentBatch(
            device_ids=device_ids,
            num_events=self.num_events(device_ids, segment),
            row=np.repeat(np.arange(count), PER_SEGMENT),
            slot=np.tile(np.arange(PER_SEGMENT), count),
            history=column(numbers),
            candidates=np.tile(np.arange(2, dtype=np.int32), (numbers.size, 1)),
            times_s=np.tile(60.0 * segment + 10.0 + np.arange(PER_SEGMENT), count),
            truth=Truth(answers.reshape(-1), device_ids % 2, np.zeros(count, np.bool_)),
        )

    def num_events(self, device_ids: Ints, segment: int) -> Ints:
        return np.full(len(device_ids), PER_SEGMENT)

    def recent(self, device_ids: Ints, segment: int, lag: int = 0) -> NDArray[np.int32]:
        return column(self.numbers(device_ids, segment - 1)[:, -1])

    def labelled(
        self, reader: TruthReader, device_ids: Ints, segment: int, most: int, _: int
    ) -> LabelledBatch:
        batch = self.segment(device_ids, segment - 1)
        positive, _context, _shift = batch.truth.read(reader)
        kept = batch.slot < most
        return LabelledBatch(
            np.minimum(batch.num_events, most),
            batch.row[kept],
            batch.slot[kept],
            batch.history[kept],
            true_first(positive[kept]),
        )

    def historical(self) -> History:
        everyone = np.arange(self.num_devices)
        parts = [self.numbers(everyone, -k) for k in range(1, 9)]
        numbers = np.concatenate(parts, axis=1)
        return History(numbers.reshape(-1), (numbers + everyone[:, None] % 2).reshape(-1) % 2)


def column(numbers: Ints) -> NDArray[np.int32]:
    return numbers.reshape(-1, 1).astype(np.int32)


def true_first(answers: Ints) -> NDArray[np.int32]:
    return np.stack([answers, 1 - answers], 1).astype(np.int32)


class Parity(DeviceModel):
    """Looks a number up, and maps it to a score of even and one of odd."""

    def __init__(self, num_items: int, width: int = 4) -> None:
        super().__init__(num_items, width, 1)
        self.head_sizes = ((width, 2),)

    def init_static(self, generator: torch.Generator) -> Parameters:
        return {"table": torch.randn(self.num_items + 1, self.width, generator=generator)}

    def tabulate(self, parameters: Parameters) -> Parameters:
        return parameters

    def item_states(self, parameters: Parameters, history: Tensor) -> Tensor:
        return embed(parameters["table"], history)

    def encode(
        self, parameters: Parameters, history: Tensor, candidates: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        return self.item_states(parameters, history), candidates

    def match(self, y: Tensor, targets: Tensor | None) -> Tensor:
        assert targets is not None
        return y.squeeze(-2).gather(-1, targets.long())

    def flops(self, num_candidates: int) -> float:
        return 4.0 * self.width


class EvenOrOdd(Task, TruthReader):
    """Counts right answers. Its devices tell nothing."""

    metrics = ("accuracy",)

    @classmethod
    def build(cls, config: Config) -> Built:
        num_devices = config["fleet"]["num_devices"]
        shape = StreamShape(config["num_segments"], config["seed"], num_devices)
        stream = data_of(config["data"]).stream(shape)
        return Built(stream, model_of(config["model"], num_items=stream.num_items), cls())

    def score(self, logits: NDArray[np.float32], batch: SegmentBatch) -> tuple[Columns, Columns]:
        positive, context_id, is_shift = batch.truth.read(self)
        right = np.bincount(batch.row, logits.argmax(1) == positive, len(batch.device_ids))
        sums = {
            "value-sum": right[:, None],
            "value-count": batch.num_events[:, None].astype(np.float64),
        }
        return {**facts_of(batch, context_id, is_shift), **sums}, {}


@dataclass(frozen=True, kw_only=True)
class NumberOptions(DataOptions):
    num_items: int = option(8, least=2, doc="the largest number")

    def stream(self, shape: StreamShape) -> Any:
        return Numbers(self.num_items, shape)


def register() -> None:
    """Registers the task, its data and its model, as a module of one's own would by decorators."""
    tasks.register("even_or_odd", reads="numbers")(EvenOrOdd)
    data.register("numbers", gives="numbers")(NumberOptions)
    models.register("parity", reads="numbers")(Parity)
