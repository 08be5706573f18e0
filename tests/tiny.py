"""Small devices, a small cloud and small links for the tests of grids and strategies."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from cdc_flower.core.seeds import torch_generator
from cdc_flower.devices.app import DeviceApp
from cdc_flower.models import GRU4Rec
from cdc_flower.simulations.fleet import Fleet, Network, Speeds
from cdc_flower.simulations.grids.base import BlockingGrid
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.strategies.base import Cloud
from cdc_flower.strategies.registry import build_strategy, strategies
from cdc_flower.study.play import play
from cdc_flower.study.plays import strategies_that_play
from cdc_flower.tasks.data.shifting_interests import InterestsOptions
from cdc_flower.tasks.recommendation.interests import interests_stream
from cdc_flower.tasks.recommendation.stream import EventStream, Ranking
from cdc_flower.tasks.recommendation.task import RECOMMENDATION
from cdc_flower.training.fit import cross_entropy, fit
from cdc_flower.wire.batch import MessageBatch

NUM_DEVICES, NUM_SEGMENTS, WIDTH = 4, 6, 8
#: Settings under which a strategy does something in little time.
SETTINGS: dict[str, Mapping[str, Any]] = {
    name: strategies[name].facts.tiny for name in strategies_that_play("recommendation")
}
LABELS = {"run_id": "r", "experiment": "e", "seed": 0, "task": "t"}


@lru_cache(maxsize=4)
def stream(num_devices: int = NUM_DEVICES, num_segments: int = NUM_SEGMENTS) -> EventStream:
    options = InterestsOptions(
        num_items=60, events_per_segment=4, events_jitter=1, history_events=30
    )
    ranking = Ranking(num_negatives=9, exclude_seen=False)
    return interests_stream(num_devices, num_segments, options, seed=0, ranking=ranking)


def model() -> GRU4Rec:
    return GRU4Rec(60, WIDTH)


@lru_cache(maxsize=2)
def _base(num_devices: int) -> Cloud:
    """A base model after two epochs."""
    device_model = model()
    train, validation = stream(num_devices).historical().split(0.25, 0)
    parameters = device_model.init(torch_generator(0, "model"))
    leaves = [value.requires_grad_() for value in parameters.values()]

    def loss(batch: Any) -> torch.Tensor:
        history, candidates = (
            torch.from_numpy(ids).long() for ids in (batch.history, batch.candidates)
        )
        return cross_entropy(
            device_model.score(device_model.tabulate(parameters), history, candidates)
        ).mean()

    batches = lambda epoch: train.batches(32, epoch, 0, 4)  # noqa: E731
    fit(loss, leaves, batches, lambda: validation.batches(32, 0, 0, 4), epochs=2, rate=0.01)
    for value in leaves:
        value.requires_grad_(False)
    return Cloud(device_model, parameters, train, validation, 0, batch_size=32)


def cloud(num_devices: int = NUM_DEVICES) -> Cloud:
    base = _base(num_devices)
    parameters = {name: value.clone() for name, value in base.parameters.items()}
    return Cloud(base.model, parameters, base.train, base.validation, 0, batch_size=32)


def app(num_devices: int = NUM_DEVICES) -> DeviceApp:
    return DeviceApp(model(), stream(num_devices), RECOMMENDATION)


def inline(num_devices: int = NUM_DEVICES) -> InlineGrid:
    return InlineGrid(app(num_devices), np.arange(num_devices))


def newly_trained(name: str, num_devices: int = NUM_DEVICES, **settings: Any) -> Any:
    """A strategy that was trained just now."""
    built = build_strategy(name, {**SETTINGS[name], **settings})
    built.prepare(cloud(num_devices))
    return built


_kept = lru_cache(maxsize=None, typed=True)(newly_trained)


def strategy(name: str, num_devices: int = NUM_DEVICES, **settings: Any) -> Any:
    """A strategy of its own after its training, which is done once for all tests with the same
    settings.
    """
    return copy.deepcopy(_kept(name, num_devices, **settings))


def fleet(
    num_devices: int = NUM_DEVICES,
    up_bps: float = math.inf,
    down_bps: float = math.inf,
    rtt_s: float = 0.0,
    device_flops_per_s: float = math.inf,
    cloud_flops_per_s: float = math.inf,
) -> Fleet:
    network = Network("test", up_bps, down_bps, rtt_s)
    speeds = Speeds(device_flops_per_s, cloud_flops_per_s)
    return Fleet.build(num_devices, network, speeds=speeds, seed=0)


def table(
    name: str,
    grid: Grid | None = None,
    links: Fleet | None = None,
    built: Any = None,
    controls: bool = False,
) -> pd.DataFrame:
    """Play a strategy by name, or one that is built, and return its results."""
    frames: list[pd.DataFrame] = []
    grid = inline() if grid is None else grid
    num_devices = len(list(grid.get_node_ids()))
    links = fleet(num_devices) if links is None else links
    starts_s = stream(num_devices).segment_starts_s
    built = strategy(name, num_devices) if built is None else built
    labels, collect = {**LABELS, "strategy": name}, frames.append
    play(built, grid, links, starts_s, labels=labels, collect=collect, controls=controls)
    return pd.concat(frames, ignore_index=True)


def same(one: pd.DataFrame, other: pd.DataFrame, rtol: float = 0.0) -> None:
    """Exactly equal, for the same products done once more; with ``rtol``, up to the rounding of
    other products.

    Products of other sizes, or of rows in another order, may add up in another order, which differs
    between CPUs.
    """
    pd.testing.assert_frame_equal(
        one,
        other,
        check_exact=not rtol,
        rtol=rtol or 1e-5,
        atol=rtol and 1e-6,
        check_categorical=False,
    )


class Around(BlockingGrid):
    """A grid around another that keeps what went through it and may change the replies."""

    def __init__(
        self, inner: Grid, change: Callable[[MessageBatch, Any], Iterable[Message]] | None = None
    ) -> None:
        super().__init__()
        self._inner, self.change = inner, change or (lambda _, replies: replies)
        self.sent: list[MessageBatch] = []
        self.replies: list[Any] = []

    @property
    def run(self) -> Any:
        return self._inner.run

    def set_run(self, run: Any) -> None:
        pass

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        return self._inner.create_message(*args, **kwargs)

    def get_node_ids(self) -> Iterable[int]:
        return self._inner.get_node_ids()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        batches = [batch for batch, _ in MessageBatch.group(messages)]
        self.sent += batches
        replies = self._inner.send_and_receive(messages, timeout=timeout)
        self.replies.append(replies)
        return self.change(batches[0], replies) if batches else replies


def counting_app() -> ClientApp:
    """An ordinary Flower app: it adds its node to the arrays, counts its calls, and fails at ``w >=
    100``.
    """
    flower_app = ClientApp()

    def count(context: Context) -> int:
        calls = int(context.state["calls"]["n"]) + 1 if "calls" in context.state else 1  # type: ignore[call-overload]
        context.state["calls"] = MetricRecord({"n": calls})
        return calls

    @flower_app.train()
    def train(message: Message, context: Context) -> Message:
        calls = count(context)
        arrays = message.content["arrays"].to_numpy_ndarrays()  # type: ignore[union-attr]
        if arrays[0].max() >= 100:
            raise RuntimeError("too large")
        device = int(context.node_config["partition-id"])
        record = message.content["arrays"]
        new = type(record)([array + np.float32(device) for array in arrays])
        metrics = MetricRecord({"num-examples": device + 1, "calls": calls})
        return Message(RecordDict({"arrays": new, "metrics": metrics}), reply_to=message)

    @flower_app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        calls = count(context)
        metrics = MetricRecord(
            {
                "num-examples": 1,
                "calls": calls,
                "w": float(message.content["arrays"]["0"].numpy()[0]),
            }
        )
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    @flower_app.query()
    def query(message: Message, context: Context) -> Message:
        device = int(context.node_config["partition-id"])
        numbers = MetricRecord({"list": [1.0] * (device + 1)})  # of another length on each device
        return Message(
            RecordDict({"numbers": numbers, "state": ConfigRecord({"calls": count(context)})}),
            reply_to=message,
        )

    return flower_app
