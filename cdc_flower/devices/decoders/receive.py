"""Hands payloads to the decoder that reads them."""

from itertools import chain

from cdc_flower.core.errors import UserError
from cdc_flower.devices.decoders.deployment import decoders_of
from cdc_flower.devices.decoders.protocol import Decoder, Received, Shapes, names_of, newest_of
from cdc_flower.devices.state import DeviceStates
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


def receive(batch: MessageBatch, states: DeviceStates, adaptive: Shapes) -> Received:
    """Hands messages to the decoder that reads their payload.

    Parameters of which nothing came stay as they are in each device's newest set.

    Args:
        batch: One message a device.
        states: Not changed.
        adaptive: Of the device model.

    Raises:
        UserError: If no decoder reads a record.
        ValueError: If parameters came in several forms, or what came does not fit the model.
    """
    decoders = decoders_of(states.settings)
    _check_read(batch, decoders)
    found = {decoder: _found(batch, decoder) for decoder in decoders}
    readers = [decoder for decoder in decoders if found[decoder]]
    if len(readers) > 1:
        names = list(chain.from_iterable(found[decoder] for decoder in readers))
        raise ValueError(f"parameters must come in one form, got {' and '.join(names)}")
    if not readers:  # a message of instruments alone
        return Received(states, {}, newest_of(states))
    return readers[0].decode(batch, states, adaptive)


def _found(batch: MessageBatch, decoder: Decoder) -> list[str]:
    """Lists the records of a decoder that came."""
    return [name for name in decoder.reads if name in batch.configs or names_of(batch, name)]


def _check_read(batch: MessageBatch, decoders: tuple[Decoder, ...]) -> None:
    known = set(chain.from_iterable(decoder.reads for decoder in decoders))
    for name in (*batch.arrays, *batch.shared):
        if name not in known | records.INSTRUMENTS and names_of(batch, name):
            raise UserError(
                f"{batch.message_type}: a payload record must be one that a decoder on the device "
                f"reads ({', '.join(sorted(known))}), got {name!r}; a strategy names decoders of "
                "its own in decoders()"
            )
