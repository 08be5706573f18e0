"""A small world for tests of the device side: a stream, a model, and messages to its devices."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from cdc_flower.core.seeds import torch_generator
from cdc_flower.core.stream import SegmentBatch
from cdc_flower.devices.app import DeviceApp
from cdc_flower.devices.decoders.deployment import paths_of
from cdc_flower.devices.state import DeviceStates
from cdc_flower.models import device_model
from cdc_flower.strategies.apg.decoder import CoreDecoder
from cdc_flower.strategies.persona.decoder import EditDecoder
from cdc_flower.tasks.data.shifting_interests import InterestsOptions
from cdc_flower.tasks.recommendation.interests import interests_stream
from cdc_flower.tasks.recommendation.metrics import RankingMetrics
from cdc_flower.tasks.recommendation.stream import Ranking
from cdc_flower.tasks.recommendation.task import RECOMMENDATION
from cdc_flower.training.scoring import Arrays, tensors
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.identity import ensure_identity

NUM_DEVICES, SEGMENT_S = 7, 60.0
EVERYONE = np.arange(NUM_DEVICES)
STREAM = interests_stream(
    NUM_DEVICES,
    4,
    InterestsOptions(num_items=40, num_topics=4, history_events=20),
    seed=0,
    ranking=Ranking(num_negatives=9, exclude_seen=False),
)

#: Settings that deploy the decoders of methods, each beside the shared ones.
EDITS = {records.DECODERS: paths_of([EditDecoder])}
CORES = {records.DECODERS: paths_of([CoreDecoder])}
BOTH = {records.DECODERS: paths_of([EditDecoder, CoreDecoder])}


def app_of(name: str = "gru4rec", stream: Any = STREAM) -> DeviceApp:
    """The app with a small model."""
    return DeviceApp(device_model(name, stream.num_items, 8), stream, RECOMMENDATION)


def model_arrays(app: DeviceApp, seed: int = 0) -> Arrays:
    """A whole model."""
    return {
        name: value.numpy() for name, value in app.model.init(torch_generator(seed, "test")).items()
    }


def heads(app: DeviceApp, num_devices: int, seed: int = 1) -> Arrays:
    """Adaptive layers ``[n, ...]``, large enough that they matter."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=(num_devices, *shape)).astype(np.float32)
        for name, shape in app.model.adaptive.items()
    }


def to_devices(
    message_type: str,
    device_ids: Any,
    segment: int = 0,
    *,
    clock: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    arrays: Mapping[str, Arrays] | None = None,
    shared: Mapping[str, Arrays] | None = None,
) -> MessageBatch:
    """Messages about a segment."""
    ensure_identity()
    configs: dict[str, Any] = {records.CLOCK: {records.SEGMENT: segment, **(clock or {})}}
    if config:
        configs[records.CONFIG] = dict(config)
    node_ids = np.asarray(device_ids) + 2
    return MessageBatch(
        message_type, node_ids, dict(arrays or {}), dict(shared or {}), configs=configs
    )


def deployed(
    app: DeviceApp, num_devices: int = NUM_DEVICES, seed: int = 0, **settings: Any
) -> DeviceStates:
    """States after a deployment."""
    states = DeviceStates(np.arange(num_devices))
    batch = to_devices(
        records.DEPLOY,
        states.device_ids,
        shared={records.MODEL: model_arrays(app, seed)},
        config=settings,
    )
    return app.handle(batch, states)[1]


def used(states: DeviceStates, name: str, row: int, pending: bool = False) -> np.ndarray:
    """What a device uses, or has pending, under a name."""
    index = (states.pending if pending else states.in_use)[row]
    return states.pool[name][index] if name in states.pool else states.static[name]


def instruction(app: DeviceApp, kind: str) -> MessageBatch:
    """A message of each kind to every device, in the middle of things."""
    clock = {
        records.ARRIVAL_S: SEGMENT_S + 10.0 * EVERYONE,
        records.FLOPS_PER_S: np.full(NUM_DEVICES, 1e4),
    }
    own, whole = (
        {records.PARAMETERS: heads(app, NUM_DEVICES)},
        {records.ARRAYS: model_arrays(app, 5)},
    )
    sgd = {"optimizer": "sgd", "rate": 0.1}
    if kind == "deploy":
        return to_devices(
            records.DEPLOY,
            EVERYONE,
            shared={records.MODEL: model_arrays(app, 3)},
            config={"steps": 2},
        )
    if kind == "report":
        return to_devices(records.TRAIN_REPORT, EVERYONE, 1)
    if kind.startswith("train in place"):
        return to_devices(
            records.TRAIN_LOCAL, EVERYONE, 1, config={**sgd, "layers": kind.split()[-1]}
        )
    if kind == "train a head":
        return to_devices(
            records.TRAIN, EVERYONE, 1, config=sgd, arrays={records.ARRAYS: heads(app, NUM_DEVICES)}
        )
    if kind == "train a model":
        return to_devices(records.TRAIN, EVERYONE, 1, config={**sgd, "layers": "all"}, shared=whole)
    if kind == "evaluate own parameters":
        return to_devices(records.EVALUATE, EVERYONE, 1, clock=clock, arrays=own)
    if kind == "evaluate a shared model":
        return to_devices(records.EVALUATE, EVERYONE, 1, clock=clock, shared=whole)
    return to_devices(records.EVALUATE, EVERYONE, 1, clock={records.ARRIVAL_S: -np.inf})


def by_hand(
    app: DeviceApp,
    states: DeviceStates,
    new: dict[str, np.ndarray],
    arrival_s: np.ndarray,
    segment: int,
) -> tuple[SegmentBatch, Any]:
    """The metrics of a segment, one event at a time."""
    data = app.stream.segment(EVERYONE, segment)
    logits = np.empty(data.candidates.shape, np.float32)
    for event, row in enumerate(data.row):
        parameters = {name: used(states, name, row) for name in states.static}
        if data.times_s[event] >= arrival_s[row]:
            parameters |= {name: value[row] for name, value in new.items()}
        ids = (torch.from_numpy(values[event]).long() for values in (data.history, data.candidates))
        logits[event] = app.model.score(tensors(parameters), *ids).numpy()
    return data, RankingMetrics().score(logits, data)
