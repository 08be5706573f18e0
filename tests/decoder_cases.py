"""Messages with every form of parameters, for the tests of decoders."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from device_cases import BOTH, EVERYONE, NUM_DEVICES, SEGMENT_S, heads, to_devices
from device_cases import deployed as deployed_with

from cdc_flower.devices.app import DeviceApp
from cdc_flower.devices.state import DeviceStates
from cdc_flower.strategies.persona.decoder import HELD, INDEX, PROTOTYPE, VERSION, EditDecoder
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


def deployed(app: DeviceApp, **settings: Any) -> DeviceStates:
    """States after a deployment with the decoders of edits and of cores."""
    return deployed_with(app, **BOTH, **settings)


def held(states: DeviceStates) -> np.ndarray:
    """Index of each device's prototype in the pool."""
    return states.slots[EditDecoder.name].index[HELD]


def versions(states: DeviceStates) -> np.ndarray:
    """Index and version of each device's prototype."""
    return states.slots[EditDecoder.name].rows[VERSION]


def about(batch: MessageBatch, index: Any, version: Any) -> MessageBatch:
    """The messages, about a version of a prototype."""
    return batch.with_records(configs={VERSION: {INDEX: index, VERSION: version}})


def told(
    segment: int = 1,
    version: tuple[Any, Any] | None = (0, 0),
    clock: Mapping[str, Any] | None = None,
    shared: Mapping[str, Arrays] | None = None,
    rows: Any = EVERYONE,
    **arrays: Arrays,
) -> MessageBatch:
    """An evaluation, with arrays in the records of these names."""
    batch = to_devices(records.EVALUATE, rows, segment, clock=clock, arrays=arrays, shared=shared)
    return batch if version is None else about(batch, *version)


def by_rows(sets: Arrays, rows: Any) -> Arrays:
    return {name: value[rows] for name, value in sets.items()}


def low_rank(app: DeviceApp, rank: int, seed: int = 3) -> Arrays:
    """Sides and bias edits of every layer."""
    rng, edit = np.random.default_rng(seed), {}
    for name, shape in app.model.adaptive.items():
        parts = {name: shape}
        if len(shape) == 2:
            layer = name.removesuffix(".weight")
            parts = {f"{layer}.left": (shape[0], rank), f"{layer}.right": (rank, shape[1])}
        edit |= {
            part: rng.normal(size=(NUM_DEVICES, *size)).astype(np.float32)
            for part, size in parts.items()
        }
    return edit


def with_sides(app: DeviceApp, rank: int, **settings: Any) -> DeviceStates:
    """States after the deployment of a model with the sides of cores beside its layers."""
    rng, states = np.random.default_rng(4), deployed(app, **settings)
    for name, shape in app.model.adaptive.items():
        if len(shape) == 2:
            layer = name.removesuffix(".weight").replace("head", "apg")
            sides = {
                "left": (shape[0], rank),
                "left_bias": (rank,),
                "right": (rank, shape[1]),
                "right_bias": (shape[1],),
            }
            for side, size in sides.items():
                states.static[f"{layer}.{side}"] = rng.normal(size=size).astype(np.float32)
    return states


def cores(app: DeviceApp, rank: int) -> Arrays:
    rng = np.random.default_rng(5)
    layers = [
        name.removesuffix(".weight") for name in app.model.adaptive if name.endswith(".weight")
    ]
    return {
        f"{layer}.core": rng.normal(size=(NUM_DEVICES, rank, rank)).astype(np.float32)
        for layer in layers
    }


def messages(app: DeviceApp) -> dict[str, dict[str, MessageBatch]]:
    """Messages of each registered decoder, by its name and a name of their own.

    Of the devices of edits some hold another prototype than the message is about.
    """
    clock = {records.ARRIVAL_S: SEGMENT_S + 10.0 * EVERYONE}
    mixed = (0, (EVERYONE % 3 == 0).astype(np.int64))
    own, new = heads(app, NUM_DEVICES), by_rows(heads(app, 2, seed=8), EVERYONE % 2)
    part = {"head.0.bias": own["head.0.bias"]}

    def full(**sent: Any) -> MessageBatch:
        return told(clock=clock, version=None, **sent)

    def edit(version: tuple[Any, Any], **sent: Any) -> MessageBatch:
        return told(clock=clock, version=version, **sent)

    return {
        "full": {
            "own": full(parameters=own),
            "a part": full(parameters=part),
            "shared": full(shared={records.PARAMETERS: by_rows(own, 0)}),
        },
        "flower": {
            "own": full(arrays=own),
            "shared": full(shared={records.ARRAYS: by_rows(own, 0)}),
        },
        "edit": {
            "edit": edit(mixed, edit=own),
            "low rank": edit(mixed, edit=low_rank(app, 2)),
            "version": edit(mixed),
            "prototype": edit((EVERYONE % 2, 1), prototype=new),
            "prototype and edit": edit((EVERYONE % 2, 1), prototype=new, edit=own),
            "shared prototype": edit((1, 1), shared={PROTOTYPE: by_rows(new, 1)}, edit=own),
        },
        "core": {"own": full(core=cores(app, 3))},
    }


def in_use(app: DeviceApp, states: DeviceStates) -> Arrays:
    """The adaptive layers that each device uses, ``[n, ...]``."""
    return {name: states.pool[name][states.in_use] for name in app.model.adaptive}


def holding(app: DeviceApp, states: DeviceStates) -> Arrays:
    """The prototype that each device holds, ``[n, ...]``."""
    return {name: states.pool[name][held(states)] for name in app.model.adaptive}


def assert_same(one: Arrays, other: Arrays) -> None:
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def plus(one: Arrays, other: Arrays) -> Arrays:
    return {name: value + other[name] if name in other else value for name, value in one.items()}
