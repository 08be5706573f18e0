"""APG on the device: layers are made of cores between the sides that were deployed."""

from typing import ClassVar

import numpy as np

from cdc_flower.devices.decoders.protocol import Decoder, Received, Shapes, arrays_of, placed
from cdc_flower.devices.decoders.registry import register
from cdc_flower.devices.state import DeviceStates
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire.batch import MessageBatch

#: Payload record, cloud -> device: low-rank cores of adaptive layers.
CORE = "core"
#: Of a layer, deployed once.
SIDES = ("left", "left_bias", "right", "right_bias")


@register
class CoreDecoder(Decoder):
    """Puts a core between the deployed sides of each layer; a device keeps nothing beside them."""

    name: ClassVar[str] = "core"
    reads: ClassVar[tuple[str, ...]] = (CORE,)

    def decode(self, batch: MessageBatch, states: DeviceStates, adaptive: Shapes) -> Received:
        """Makes ``left @ core @ right`` of cores ``[k, k]`` and deployed sides.

        Args:
            batch: One message a device, with a core of each layer.
            states: Of the ``n`` devices; not changed.
            adaptive: Of the device model.
        """
        layers = _layers(arrays_of(batch, CORE), states.static)
        return placed(layers, states, is_shared=not batch.arrays.get(CORE))


def _layers(cores: Arrays, static: Arrays) -> Arrays:
    """Makes layers ``[n, ...]`` of cores ``head.l.core`` ``[n, k, k]`` and sides ``apg.l.*``.

    ``x K + k = ((x L + a) C) R + b``, so ``K = L C R`` and ``k = a C R + b``. The bias ``a`` is one
    more row of ``L``.
    """
    layers: Arrays = {}
    for name, core in cores.items():
        layer = name.removesuffix(".core")
        places = {side: f"{layer.replace('head', 'apg', 1)}.{side}" for side in SIDES}
        sides = {side: static[place] for side, place in places.items() if place in static}
        if len(sides) < len(SIDES) or layer == name:
            raise ValueError(
                f"{CORE} must be LAYER.core of a deployed model with {CORE} sides, got {name}"
            )
        rank = len(sides["left_bias"])
        if core.shape[1:] != (rank, rank):
            raise ValueError(f"{name} must have shape {(rank, rank)}, got {core.shape[1:]}")
        rows = np.matmul(np.vstack([sides["left"], sides["left_bias"]]), core) @ sides["right"]
        layers |= {
            f"{layer}.weight": rows[:, :-1],
            f"{layer}.bias": rows[:, -1] + sides["right_bias"],
        }
    return layers
