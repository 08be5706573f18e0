"""Registers the decoders of this process by name."""

from typing import TypeVar

from cdc_flower.devices.decoders.protocol import Decoder

#: Registered decoders by name.
DECODERS: dict[str, type[Decoder]] = {}

_Kind = TypeVar("_Kind", bound=type[Decoder])


def register(decoder: _Kind) -> _Kind:
    """Registers a decoder by its name, for lists and tests. A deployment names it by import path.

    Raises:
        ValueError: If another decoder has that name.
    """
    known = DECODERS.get(decoder.name, decoder)
    if (known.__module__, known.__qualname__) != (decoder.__module__, decoder.__qualname__):
        raise ValueError(
            f"a decoder must have a name of its own, got {decoder.name!r}, which "
            f"{known.__qualname__} of {known.__module__} has"
        )
    DECODERS[decoder.name] = decoder
    return decoder
