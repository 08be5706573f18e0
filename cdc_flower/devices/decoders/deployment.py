"""Deploys decoders by import path, and makes the states in which each has its slot.

A deployment names a method's decoders in the setting ``decoders``: import paths ``module:Class``,
separated by commas. So a device in another process (a worker of Ray, a client of Flower) imports
them itself, whether they are of this package or of a module of the user's.
"""

import importlib
from collections.abc import Iterable, Mapping
from functools import cache

from cdc_flower.core.errors import UserError
from cdc_flower.devices.decoders.full import SHARED
from cdc_flower.devices.decoders.protocol import Decoder
from cdc_flower.devices.state import DeviceStates, Settings
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records

_SHARED = tuple(decoder() for decoder in SHARED)


def deploy(
    states: DeviceStates, model: Arrays, adaptive: tuple[str, ...], settings: Settings
) -> DeviceStates:
    """Makes the states after a deployment, with a slot for each decoder that keeps something.

    Args:
        states: Of ``n`` devices; not changed.
        model: Static and adaptive layers, and what decoders need beside them.
        adaptive: Names of the adaptive layers.
        settings: Deployed beside the model; ``decoders`` names decoders by import path.

    Raises:
        UserError: If a decoder that the settings name is not there.
    """
    fresh = states.deployed(model, adaptive, settings)
    slots = {
        decoder.name: slot
        for decoder in decoders_of(settings)
        if (slot := decoder.deployed(fresh, settings)) is not None
    }
    return fresh.with_slots(slots)


def paths_of(decoders: Iterable[type[Decoder]]) -> str:
    """Names decoders for the setting ``decoders``.

    Raises:
        UserError: If a device could not find one by its path, two have one name, or two read one
            record.
    """
    paths = ",".join(f"{decoder.__module__}:{decoder.__qualname__}" for decoder in decoders)
    for decoder, found in zip(decoders, _own(paths), strict=True):
        if type(found) is not decoder:
            raise _not_importable(f"{decoder.__module__}:{decoder.__qualname__}")
    return paths


def decoders_of(settings: Mapping[str, object]) -> tuple[Decoder, ...]:
    """Takes the decoders of a deployment: the shared ones, and those that its settings name.

    Raises:
        UserError: As :func:`paths_of`.
    """
    return (*_SHARED, *_own(str(settings.get(records.DECODERS, ""))))


@cache  # each message asks for the decoders of its devices
def _own(paths: str) -> tuple[Decoder, ...]:
    decoders = tuple(_imported(path.strip()) for path in paths.split(",") if path.strip())
    names: set[str] = set()
    read: set[str] = set()
    for decoder in (*_SHARED, *decoders):
        if decoder.name in names:
            raise UserError(
                f"{records.DECODERS}: each must have a name of its own, got {decoder.name!r} twice"
            )
        if not read.isdisjoint(decoder.reads):
            record = min(read.intersection(decoder.reads))
            raise UserError(
                f"{records.DECODERS}: a record must have one decoder, got two for {record!r}"
            )
        names.add(decoder.name)
        read.update(decoder.reads)
    return decoders


def _imported(path: str) -> Decoder:
    """Imports a decoder.

    Raises:
        UserError: If there is none at that path, or it is not a whole one.
    """
    module, _, name = path.partition(":")
    try:
        found: object = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise _not_importable(path) from error
    if not (isinstance(found, type) and issubclass(found, Decoder)):
        raise UserError(f"{records.DECODERS}: {path} must be a subclass of Decoder, got {found!r}")
    for attribute in ("name", "reads"):
        if not getattr(found, attribute, None):
            raise UserError(f"{records.DECODERS}: {path} must have {attribute}, got none")
    if "/" in found.name:
        raise UserError(f"{records.DECODERS}: a name must have no /, got {found.name!r} of {path}")
    return found()


def _not_importable(path: str) -> UserError:
    return UserError(
        f"{records.DECODERS}: a decoder must be importable as module:Class on every device, "
        f"got {path!r}"
    )
