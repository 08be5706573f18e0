"""How new adaptive layers come to a device: whole, or in a form that is smaller and from which it makes them.

==============  ==========================================================================================
payload         the device's new layers
==============  ==========================================================================================
``parameters``  what came
``arrays``      Flower's name for the same; any part of the model
``version``     the prototype that the device holds
+ ``edit``      prototype + edit, of full rank or for each weight a product ``left`` ``[in, r]`` @ ``right``
                ``[r, out]``; a layer without an edit is the prototype's
+ ``prototype`` first the device replaces the prototype that it holds
``core``        ``left @ core @ right`` of cores ``[k, k]`` and deployed sides (APG)
==============  ==========================================================================================

Edits are safe against lost messages: ``version`` says which prototype an edit belongs to, and in
which version. A device that holds another keeps the layers that it has, and its next report tells
what it does hold.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdc_flower.devices.state import DeviceStates
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

#: Name -> shape of each adaptive array.
Shapes = Mapping[str, tuple[int, ...]]
#: The states, received sets ``[Q, ...]``, and each device's newest set ``[n]``; see
#: :func:`receive`.
Received = tuple[DeviceStates, Arrays, NDArray[np.int64]]


def names_of(batch: MessageBatch, record: str) -> list[str]:
    """Names of the arrays of a record, whether each device has its own or all share them."""
    return [*batch.arrays.get(record, {}), *batch.shared.get(record, {})]


def receive(batch: MessageBatch, states: DeviceStates, adaptive: Shapes) -> Received:
    """The states, the received parameters ``[Q, ...]``, and each device's newest set ``[n]``.

    The received sets are counted after those of the pool, and hold the same names. A device that
    received nothing, or an edit of a prototype that it does not hold, has as newest what it made
    itself, or else what it uses. Parameters of which nothing was received stay as they are in that
    set. A received prototype is held at once.

    Args:
        batch: One message a device.
        states: Not changed.
        adaptive: Of the device model.

    Raises:
        ValueError: If parameters came in several forms, or a form is not whole or does not fit the
            model.
    """
    newest = np.where(states.pending >= 0, states.pending, states.in_use)
    forms = [
        name for name in (records.PARAMETERS, records.ARRAYS, records.CORE) if names_of(batch, name)
    ]
    if records.VERSION in batch.configs:
        forms.append(records.VERSION)
    elif names_of(batch, records.EDIT) or names_of(batch, records.PROTOTYPE):
        raise ValueError(
            f"{records.EDIT} and {records.PROTOTYPE} must come with {records.VERSION}, got none"
        )
    if len(forms) > 1:
        raise ValueError(f"parameters must come in one form, got {' and '.join(forms)}")
    if not forms:
        return states, {}, newest
    form = forms[0]
    if form == records.VERSION:
        return _edited(batch, states, newest, adaptive)
    sent = _layers_of_cores(batch, states.static) if form == records.CORE else _arrays(batch, form)
    return _placed(sent, states, newest, is_shared=not batch.arrays.get(form))


def _arrays(batch: MessageBatch, record: str) -> Arrays:
    return {name: batch.array(record, name) for name in names_of(batch, record)}


def _placed(
    sent: Arrays, states: DeviceStates, newest: NDArray[np.int64], *, is_shared: bool
) -> Received:
    """Parameters ``[n, ...]`` that came whole, and beside them those that did not come."""
    kept = [name for name in states.pool if name not in sent]
    if not is_shared:
        base, index = newest, np.arange(len(states))
    elif kept:
        base, index = np.unique(newest, return_inverse=True)
    else:  # all devices get the same
        base, index = newest[:1], np.zeros(len(states), np.int64)
    received = {name: value[: len(base)] for name, value in sent.items()}
    states, fitted = states.fitted({**{name: states.pool[name][base] for name in kept}, **received})
    return states, fitted, states.num_sets + index


def _edited(
    batch: MessageBatch, states: DeviceStates, newest: NDArray[np.int64], adaptive: Shapes
) -> Received:
    """Prototypes and edits: K = W + G, one addition in the type of the layers (Persona)."""
    version = _version(batch)
    if names_of(batch, records.PROTOTYPE):
        states = _hold(batch, states, version, adaptive)
    rows = np.flatnonzero((states.held >= 0) & (states.version == version).all(1))
    edits = _edits(batch, rows, adaptive)
    kept = [name for name in states.pool if name not in adaptive]
    if not edits and not kept:
        newest[rows] = states.held[rows]
        return states, {}, newest
    made = {name: states.pool[name][newest[rows]] for name in kept}
    for name in adaptive:
        made[name] = states.pool[name][states.held[rows]]
        if name in edits:
            made[name] += edits[name].astype(made[name].dtype, copy=False)
    newest[rows] = states.num_sets + np.arange(len(rows))
    return states, made if len(rows) else {}, newest


def _version(batch: MessageBatch) -> NDArray[np.int32]:
    """``[n, 2]``, index and version of the prototype that each message is about."""
    config = batch.configs[records.VERSION]
    missing = [key for key in (records.INDEX, records.VERSION) if key not in config]
    if missing:
        raise ValueError(
            f"{records.VERSION} must have {records.INDEX} and {records.VERSION}, got no {missing[0]}"
        )
    columns = [
        np.broadcast_to(np.asarray(config[key]), len(batch))
        for key in (records.INDEX, records.VERSION)
    ]
    return np.stack(columns, 1).astype(np.int32)


def _hold(
    batch: MessageBatch, states: DeviceStates, version: NDArray[np.int32], adaptive: Shapes
) -> DeviceStates:
    """The states in which every device holds the prototype that came, each distinct one in the pool once."""
    names = names_of(batch, records.PROTOTYPE)
    if set(names) != set(adaptive):
        raise ValueError(
            f"{records.PROTOTYPE} must have the layers {', '.join(adaptive)}, got {', '.join(names)}"
        )
    if (version[:, 0] < 0).any():
        raise ValueError(
            f"{records.INDEX} must be >= 0 with {records.PROTOTYPE}, got {version[:, 0].min()}"
        )
    _, first, place = np.unique(version, axis=0, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    for name, value in batch.arrays.get(records.PROTOTYPE, {}).items():
        if not np.array_equal(value, value[first][place], equal_nan=True):
            raise ValueError(
                f"a prototype must be the same wherever its {records.VERSION} is, got several {name}"
            )
    changed, offset = states.add(
        {name: value[first] for name, value in _arrays(batch, records.PROTOTYPE).items()}
    )
    return replace(changed, held=offset + place, version=version)


def _edits(batch: MessageBatch, rows: NDArray[np.int64], adaptive: Shapes) -> Arrays:
    """Edits ``[rows, ...]`` by the name of the layer, of full rank."""
    sent = _arrays(batch, records.EDIT)
    if len(rows) < len(batch):
        sent = {name: value[rows] for name, value in sent.items()}
    edits: Arrays = {}
    for name, shape in adaptive.items():
        sides = [f"{name.removesuffix('.weight')}.{side}" for side in ("left", "right")]
        if name in sent:
            edits[name] = sent.pop(name)
        elif name.endswith(".weight") and all(side in sent for side in sides):
            edits[name] = np.matmul(*(sent.pop(side) for side in sides))
        if name in edits and edits[name].shape[1:] != shape:
            raise ValueError(
                f"{records.EDIT} of {name} must have shape {shape}, got {edits[name].shape[1:]}"
            )
    if sent:
        raise ValueError(
            f"{records.EDIT} must be of {', '.join(adaptive)}, or for a weight both left and right, got {min(sent)}"
        )
    return edits


def _layers_of_cores(batch: MessageBatch, static: Arrays) -> Arrays:
    """Layers ``[n, ...]`` of cores ``head.l.core`` ``[n, k, k]`` and deployed sides ``apg.l.*`` (APG).

    ``x K + k = ((x L + a) C) R + b``, so ``K = L C R`` and ``k = a C R + b``. The bias ``a`` is one
    more row of ``L``.
    """
    layers: Arrays = {}
    for name, core in _arrays(batch, records.CORE).items():
        layer = name.removesuffix(".core")
        sides: dict[str, Any] = {
            side: static.get(f"{layer.replace('head', 'apg', 1)}.{side}")
            for side in ("left", "left_bias", "right", "right_bias")
        }
        missing = [side for side, value in sides.items() if value is None]
        if missing or layer == name:
            raise ValueError(
                f"{records.CORE} must be LAYER.core of a deployed model with {records.CORE} sides, got {name}"
            )
        rows = np.matmul(np.vstack([sides["left"], sides["left_bias"]]), core) @ sides["right"]
        layers |= {
            f"{layer}.weight": rows[:, :-1],
            f"{layer}.bias": rows[:, -1] + sides["right_bias"],
        }
    return layers
