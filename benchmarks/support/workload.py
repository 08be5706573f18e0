"""Makes the work that grid benchmarks share: 1,000 devices, each with a head and 8 sequences.

GRU4Rec with 600 items. Down go 4 arrays, 2,112 float32, for each device; each event ranks 100
candidates; the metrics of the main job are summed.
"""

from collections.abc import Iterable

import numpy as np
import torch
from flwr.app import Message
from numpy.typing import NDArray

from cdc_flower.core.seeds import torch_generator
from cdc_flower.core.stream import LabelledBatch, SegmentBatch, Truth, TruthReader
from cdc_flower.devices.app import DeviceApp
from cdc_flower.models import device_model
from cdc_flower.tasks.recommendation.task import RECOMMENDATION
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

NUM_DEVICES = 1000
#: Of a device and segment.
NUM_EVENTS = 8
#: Of an event.
NUM_CANDIDATES = 100
NUM_ITEMS = 600
#: Items of a history.
LENGTH = 10


class FixedStream:
    """The same events on each call: a benchmark of grids should not measure a generator."""

    def __init__(self, num_devices: int, num_events: int = NUM_EVENTS) -> None:
        rng = np.random.default_rng(0)
        self.num_devices = num_devices
        self.num_items = NUM_ITEMS
        self.num_segments = 1
        self.history_length = LENGTH
        self.events = num_events
        self.segment_starts_s = np.array([0.0, 60.0])
        total = num_devices * num_events
        self.history = rng.integers(1, NUM_ITEMS + 1, (total, LENGTH), dtype=np.int32)
        self.candidates = rng.integers(1, NUM_ITEMS + 1, (total, NUM_CANDIDATES), dtype=np.int32)
        self.positive = rng.integers(0, NUM_CANDIDATES, total)

    def num_events(self, device_ids: NDArray[np.int64], segment: int) -> NDArray[np.int64]:
        """Answers as a ``Stream`` does."""
        return np.full(len(device_ids), self.events)

    def segment(self, device_ids: NDArray[np.int64], segment: int) -> SegmentBatch:
        """Answers as a ``Stream`` does."""
        n = len(device_ids)
        index = (device_ids[:, None] * self.events + np.arange(self.events)).ravel()
        truth = Truth(self.positive[index], np.zeros(n, np.int64), np.zeros(n, bool))
        return SegmentBatch(
            device_ids,
            np.full(n, self.events),
            np.repeat(np.arange(n), self.events),
            np.tile(np.arange(self.events), n),
            self.history[index],
            self.candidates[index],
            np.full(len(index), 30.0),
            truth,
        )

    def recent(
        self, device_ids: NDArray[np.int64], segment: int, lag: int = 0
    ) -> NDArray[np.int32]:
        """Answers as a ``Stream`` does."""
        return self.history[device_ids * self.events]

    def labelled(
        self,
        reader: TruthReader,
        device_ids: NDArray[np.int64],
        segment: int,
        max_examples: int,
        num_negatives: int,
    ) -> LabelledBatch:
        """Answers as a ``Stream`` without labels does."""
        empty = np.empty(0, np.int64)
        shape = np.empty((0, LENGTH), np.int32), np.empty((0, 1 + num_negatives), np.int32)
        return LabelledBatch(np.zeros(len(device_ids), np.int64), empty, empty, *shape)


def app_of(num_devices: int) -> DeviceApp:
    """Makes the devices."""
    return app_on(FixedStream(num_devices))


def app_on(stream: FixedStream) -> DeviceApp:
    """Makes the devices of a stream."""
    return DeviceApp(device_model("gru4rec", NUM_ITEMS), stream, RECOMMENDATION)


def base_arrays(app: DeviceApp) -> dict[str, NDArray[np.float32]]:
    """Draws the deployed model."""
    return {
        name: value.numpy()
        for name, value in app.model.init(torch_generator(0, "benchmark")).items()
    }


def heads(app: DeviceApp, num_devices: int) -> dict[str, NDArray[np.float32]]:
    """Draws a head for each device: 4 arrays, 2,112 numbers."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: (torch.randn(num_devices, *shape, generator=generator) * 0.1).numpy()
        for name, shape in app.model.adaptive.items()
    }


def deploy(app: DeviceApp, node_ids: NDArray[np.integer]) -> MessageBatch:
    """Makes the message that installs the model."""
    return MessageBatch(records.DEPLOY, node_ids, shared={records.MODEL: base_arrays(app)})


def evaluate(own: dict[str, NDArray[np.float32]], node_ids: NDArray[np.integer]) -> MessageBatch:
    """Makes the message of a round: each device's head goes down, its scores up."""
    return MessageBatch(
        records.EVALUATE,
        node_ids,
        arrays={records.PARAMETERS: own},
        configs={records.CLOCK: {records.SEGMENT: 0}},
    )


def one_batch(replies: Iterable[Message]) -> MessageBatch:
    """Takes the replies of a grid, which come as one batch where all are alike.

    Raises:
        TypeError: If they are several.
    """
    if not isinstance(replies, MessageBatch):
        raise TypeError(f"replies must be one batch, got {type(replies).__name__}")
    return replies


def threads(count: int) -> None:
    """Sets the threads of PyTorch's products."""
    torch.set_num_threads(count)
