"""Lets devices play controls: the same devices with layers of their own, in the same states.

A control's layers lie in the pool of the method's, and which of them each device uses in a slot. So
they are saved, shared out and sent to workers with the states of the devices.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from cdc_flower.devices.slots import Slot
from cdc_flower.devices.state import DeviceStates
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

#: Before the names of slots of controls; no decoder is called so.
MARK = "@"
IN_USE, PENDING = "in_use", "pending"


def control_of(batch: MessageBatch) -> str:
    """Names the control that messages are for; "" for the method itself."""
    return str(batch.configs.get(records.CONTROL, {}).get(records.NAME, ""))


def tells_layers(batch: MessageBatch) -> bool:
    """Tells whether devices are asked for the layers that they made of what came."""
    return bool(batch.configs.get(records.CONTROL, {}).get(records.TELLS, False))


def exchanged(states: DeviceStates, name: str) -> DeviceStates:
    """Exchanges the sets that devices use for those of a control; twice gives the states again."""
    slot = states.slots[MARK + name]
    aside = Slot({IN_USE: states.in_use, PENDING: states.pending})
    changed = replace(states, in_use=slot.index[IN_USE], pending=slot.index[PENDING])
    return changed.with_slots({MARK + name: aside})


def begun(states: DeviceStates, name: str, adaptive: Iterable[str]) -> DeviceStates:
    """Gives devices that have not played a control yet a place in it, with the deployed layers.

    Args:
        states: Of ``n`` devices; not changed.
        name: Of the control.
        adaptive: Names of the adaptive layers.
    """
    nobody = np.full(len(states), -1)
    slot = states.slots.get(MARK + name, Slot({IN_USE: nobody, PENDING: nobody}))
    in_use = slot.index[IN_USE]
    if (in_use < 0).any():
        states, deployed = states.add({each: states.static[each][None] for each in adaptive})
        in_use = np.where(in_use < 0, deployed, in_use)
    return states.with_slots({MARK + name: Slot({**slot.index, IN_USE: in_use})})
