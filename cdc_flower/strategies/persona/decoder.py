"""Persona on the device: an edit is added to the prototype that the device holds.

==============  =================================================================================
payload         the device's new layers
==============  =================================================================================
``version``     the prototype that the device holds
+ ``edit``      prototype + edit, of full rank or for each weight a product ``left`` ``[in, r]``
                @ ``right`` ``[r, out]``; a layer without an edit is the prototype's
+ ``prototype`` first the device replaces the prototype that it holds
==============  =================================================================================

Edits are safe against lost messages: ``version`` says which prototype an edit belongs to, and in
which version. A device that holds another keeps the layers that it has, and its next report tells
which it holds.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cdc_flower.devices.decoders.protocol import (
    Decoder,
    Received,
    Shapes,
    arrays_of,
    names_of,
    newest_of,
)
from cdc_flower.devices.decoders.registry import register
from cdc_flower.devices.slots import Slot
from cdc_flower.devices.state import DeviceStates, Settings
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire.batch import MessageBatch

#: Payload records, cloud -> device.
EDIT = "edit"  # numbers that are added to the prototype that the device holds
PROTOTYPE = "prototype"  # adaptive layers that the device keeps, and edits are added to
VERSION = "version"  # which prototype an edit belongs to, and in which version

#: Keys inside the records; ``version`` is one, and ``prototype`` a setting, as well.
INDEX = "index"
HELD = "held"  # in a report: index and version of the prototype that a device holds


@register
class EditDecoder(Decoder):
    """Adds edits to a prototype that the device keeps.

    Its slot has the index ``held`` of the prototype in the pool, and ``version`` ``[n, 2]``: index
    and version of that prototype, as the cloud counts them.
    """

    name: ClassVar[str] = "edit"
    reads: ClassVar[tuple[str, ...]] = (VERSION, EDIT, PROTOTYPE)

    def deployed(self, states: DeviceStates, settings: Settings) -> Slot:
        """Keeps the deployed layers as the prototype of the setting ``prototype``, in version 0.

        Below 0, which is also without that setting, devices hold none.
        """
        prototype = int(settings.get(PROTOTYPE, -1))
        held = np.full(len(states), 0 if prototype >= 0 else -1)
        version = np.tile(np.array([prototype, 0], np.int32), (len(states), 1))
        return Slot({HELD: held}, {VERSION: version})

    def tells(self, states: DeviceStates) -> Arrays:
        """Tells ``held`` ``[n, 2]``, index and version of the prototype; -1 and 0 for none."""
        slot = states.slots[self.name]
        none = np.array([-1, 0], np.int32)
        return {HELD: np.where(slot.index[HELD][:, None] < 0, none, slot.rows[VERSION])}

    def decode(self, batch: MessageBatch, states: DeviceStates, adaptive: Shapes) -> Received:
        """Makes K = P + edit, one addition in the type of the layers.

        A received prototype is held at once.

        Args:
            batch: One message a device, with an edit, a prototype or both, and its version.
            states: Of the ``n`` devices; not changed.
            adaptive: Of the device model.
        """
        version = _version(batch)
        if names_of(batch, PROTOTYPE):
            states = _hold(batch, states, version, adaptive)
        slot, newest = states.slots[self.name], newest_of(states)
        held = slot.index[HELD]
        rows = np.flatnonzero((held >= 0) & (slot.rows[VERSION] == version).all(1))
        edits = _edits(batch, rows, adaptive)
        kept = [name for name in states.pool if name not in adaptive]
        if not edits and not kept:
            newest[rows] = held[rows]
            return Received(states, {}, newest)
        made = {name: states.pool[name][newest[rows]] for name in kept}
        for name in adaptive:
            made[name] = states.pool[name][held[rows]]
            if name in edits:
                made[name] += edits[name].astype(made[name].dtype, copy=False)
        newest[rows] = states.num_sets + np.arange(len(rows))
        return Received(states, made if len(rows) else {}, newest)


def _version(batch: MessageBatch) -> NDArray[np.int32]:
    """Takes ``[n, 2]``, index and version of the prototype that each message is about."""
    if VERSION not in batch.configs:
        raise ValueError(f"{EDIT} and {PROTOTYPE} must come with {VERSION}, got none")
    config = batch.configs[VERSION]
    missing = [key for key in (INDEX, VERSION) if key not in config]
    if missing:
        raise ValueError(f"{VERSION} must have {INDEX} and {VERSION}, got no {missing[0]}")
    columns = [np.broadcast_to(np.asarray(config[key]), len(batch)) for key in (INDEX, VERSION)]
    return np.stack(columns, 1).astype(np.int32)


def _hold(
    batch: MessageBatch, states: DeviceStates, version: NDArray[np.int32], adaptive: Shapes
) -> DeviceStates:
    """Makes every device hold the prototype that came, each distinct one in the pool once."""
    names = names_of(batch, PROTOTYPE)
    if set(names) != set(adaptive):
        raise ValueError(
            f"{PROTOTYPE} must have the layers {', '.join(adaptive)}, got {', '.join(names)}"
        )
    if (version[:, 0] < 0).any():
        raise ValueError(f"{INDEX} must be >= 0 with {PROTOTYPE}, got {version[:, 0].min()}")
    _, first, place = np.unique(version, axis=0, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    for name, value in batch.arrays.get(PROTOTYPE, {}).items():
        if not np.array_equal(value, value[first][place], equal_nan=True):
            raise ValueError(
                f"a prototype must be the same wherever its {VERSION} is, got several {name}"
            )
    sets = {name: value[first] for name, value in arrays_of(batch, PROTOTYPE).items()}
    changed, offset = states.add(sets)
    return changed.with_slots({EditDecoder.name: Slot({HELD: offset + place}, {VERSION: version})})


def _edits(batch: MessageBatch, rows: NDArray[np.int64], adaptive: Shapes) -> Arrays:
    """Makes edits ``[rows, ...]`` by the name of the layer, of full rank."""
    sent = arrays_of(batch, EDIT)
    if len(rows) < len(batch):
        sent = {name: value[rows] for name, value in sent.items()}
    edits: Arrays = {}
    for name, shape in adaptive.items():
        sides = [f"{name.removesuffix('.weight')}.{side}" for side in ("left", "right")]
        if name in sent:
            edits[name] = sent.pop(name)
        elif name.endswith(".weight") and all(side in sent for side in sides):
            left, right = (sent.pop(side) for side in sides)
            if left.ndim != 3 or right.ndim != 3 or left.shape[2] != right.shape[1]:
                raise ValueError(
                    f"{EDIT} of {name} must have left [in, r] and right [r, out], "
                    f"got {left.shape[1:]} and {right.shape[1:]}"
                )
            edits[name] = left @ right
        if name in edits and edits[name].shape[1:] != shape:
            raise ValueError(
                f"{EDIT} of {name} must have shape {shape}, got {edits[name].shape[1:]}"
            )
    if sent:
        raise ValueError(
            f"{EDIT} must be of {', '.join(adaptive)}, or for a weight both left and right, "
            f"got {min(sent)}"
        )
    return edits
