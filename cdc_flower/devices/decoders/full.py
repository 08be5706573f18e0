"""Decodes parameters that come whole, as all methods may send them."""

from typing import ClassVar

from cdc_flower.devices.decoders.protocol import Decoder, Received, Shapes, arrays_of, placed
from cdc_flower.devices.decoders.registry import register
from cdc_flower.devices.state import DeviceStates
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


@register
class FullParameters(Decoder):
    """Takes adaptive layers, or any part of the model, as they came."""

    name: ClassVar[str] = "full"
    reads: ClassVar[tuple[str, ...]] = (records.PARAMETERS,)

    def decode(self, batch: MessageBatch, states: DeviceStates, adaptive: Shapes) -> Received:
        """Takes what came; beside it a device keeps its newest.

        Args:
            batch: One message a device.
            states: Of the ``n`` devices.
            adaptive: Of the device model; not needed.
        """
        (record,) = self.reads
        is_shared = not batch.arrays.get(record)
        return placed(arrays_of(batch, record), states, is_shared=is_shared)


@register
class FlowerArrays(FullParameters):
    """Takes the same under Flower's own name for a model."""

    name: ClassVar[str] = "flower"
    reads: ClassVar[tuple[str, ...]] = (records.ARRAYS,)


#: Decoders that every device has.
SHARED = (FullParameters, FlowerArrays)
