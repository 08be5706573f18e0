"""Decodes payload records of a method into parameters on the device.

A decoder is a class without state of its own. What it keeps on a device between messages lies in
a slot of the device's states, under the decoder's name. It is deployed by its import path
(see :mod:`cdc_flower.devices.decoders.deployment`), so that a device in another process finds it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cdc_flower.devices.slots import Slot
from cdc_flower.devices.state import DeviceStates, Settings
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire.batch import MessageBatch

#: Name -> shape of each adaptive array.
Shapes = Mapping[str, tuple[int, ...]]


class Received(NamedTuple):
    """Holds what devices have after a message.

    Attributes:
        states: After the message; its slots are in force at once.
        sets: Name -> ``[Q, ...]``, received sets of parameters, counted after those of the pool,
            with the same names. Empty for none.
        newest: ``[n]``, index of each device's newest set, which it uses from the arrival on. A
            device that received none has as newest the set that it made itself, or else uses.
    """

    states: DeviceStates
    sets: Arrays
    newest: NDArray[np.int64]


class Decoder(ABC):
    """Makes parameters of a method's own payload records.

    Attributes:
        name: Of its slot in the states; unlike those of the decoders beside it.
        reads: Payload records that it reads, arrays or configs. A message has those of one decoder.
    """

    name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]

    @abstractmethod
    def decode(self, batch: MessageBatch, states: DeviceStates, adaptive: Shapes) -> Received:
        """Makes parameters of what came.

        Args:
            batch: One message a device, with at least one of the records that it reads.
            states: Of the ``n`` devices; not changed.
            adaptive: Of the device model.

        Raises:
            ValueError: If what came is not whole or does not fit the model.
        """

    def deployed(self, states: DeviceStates, settings: Settings) -> Slot | None:
        """Makes its slot after a deployment; None, the default, keeps nothing on devices.

        Args:
            states: Of the ``n`` devices, whose pool is the adaptive layers that were deployed.
            settings: Deployed beside the model.
        """
        return None

    def tells(self, states: DeviceStates) -> dict[str, NDArray]:
        """Makes arrays ``[n, ...]`` that join each device's report; none by default."""
        return {}


def names_of(batch: MessageBatch, record: str) -> list[str]:
    """Names the arrays of a record, whether each device has its own or all share them."""
    return [*batch.arrays.get(record, {}), *batch.shared.get(record, {})]


def arrays_of(batch: MessageBatch, record: str) -> Arrays:
    """Takes the arrays ``[n, ...]`` of a record by name."""
    return {name: batch.array(record, name) for name in names_of(batch, record)}


def newest_of(states: DeviceStates) -> NDArray[np.int64]:
    """Takes ``[n]``, the set that each device made itself, or else uses."""
    return np.where(states.pending >= 0, states.pending, states.in_use)


def placed(sent: Arrays, states: DeviceStates, *, is_shared: bool = False) -> Received:
    """Takes parameters that came whole, and beside them each device's newest of those that did not.

    Args:
        sent: Name -> ``[n, ...]``.
        states: Of the ``n`` devices.
        is_shared: Whether all devices got the same, which is then held once.

    Raises:
        ValueError: If the deployed model has no such name, or its shape is another.
    """
    newest = newest_of(states)
    kept = [name for name in states.pool if name not in sent]
    if not is_shared:
        base = newest
        index = np.arange(len(states))
    elif kept:
        # A set for each of what devices keep beside it.
        base, index = np.unique(newest, return_inverse=True)
    else:
        # All is from the message: one set serves everyone.
        base = newest[:1]
        index = np.zeros(len(states), np.int64)
    received = {name: value[: len(base)] for name, value in sent.items()}
    states, fitted = states.fitted({**{name: states.pool[name][base] for name in kept}, **received})
    return Received(states, fitted, states.num_sets + index)
