"""Adapts thousands of device models from the cloud, without back-propagation on the device.

    import cdc_flower as cdc

    run = cdc.compare(["static", "duet"], devices=100, segments=4)
    run.summary

Names are imported when they are first used: the package itself loads nothing slow.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from cdc_flower.core.version import __version__

if TYPE_CHECKING:
    from cdc_flower.api.compare import compare as compare
    from cdc_flower.api.registering import list_of as list_of
    from cdc_flower.api.registering import register as register
    from cdc_flower.api.results import Run as Run
    from cdc_flower.api.results import load as load
    from cdc_flower.core.errors import UserError as UserError
    from cdc_flower.core.options import option as option
    from cdc_flower.core.stream import Stream as Stream
    from cdc_flower.core.stream import TruthReader as TruthReader
    from cdc_flower.devices.decoders.protocol import Decoder as Decoder
    from cdc_flower.devices.decoders.protocol import placed as placed
    from cdc_flower.models.base import DeviceModel as DeviceModel
    from cdc_flower.simulations.fleet import Network as Network
    from cdc_flower.simulations.network.samples import SampledTrace as Trace
    from cdc_flower.simulations.network.trace import TracePair as TracePair
    from cdc_flower.simulations.protocol.codecs import ArrayCodec as Codec
    from cdc_flower.simulations.requests.policies import Policy as Policy
    from cdc_flower.strategies.base import CloudStrategy as CloudStrategy
    from cdc_flower.strategies.base import OnDevices as OnDevices
    from cdc_flower.strategies.generation import GenerationStrategy as GenerationStrategy
    from cdc_flower.strategies.stock import FederatedOnDevices as FederatedOnDevices
    from cdc_flower.tasks.data.interactions import FrameData as FrameData
    from cdc_flower.tasks.protocol import Task as Task
    from cdc_flower.tasks.protocol import facts_of as facts_of
    from cdc_flower.wire.batch import MessageBatch as MessageBatch

#: Public name -> the module and the name there. A test compares with the imports above.
_HOMES = {
    "CloudStrategy": "cdc_flower.strategies.base:CloudStrategy",
    "Codec": "cdc_flower.simulations.protocol.codecs:ArrayCodec",
    "Decoder": "cdc_flower.devices.decoders.protocol:Decoder",
    "DeviceModel": "cdc_flower.models.base:DeviceModel",
    "FederatedOnDevices": "cdc_flower.strategies.stock:FederatedOnDevices",
    "FrameData": "cdc_flower.tasks.data.interactions:FrameData",
    "GenerationStrategy": "cdc_flower.strategies.generation:GenerationStrategy",
    "MessageBatch": "cdc_flower.wire.batch:MessageBatch",
    "Network": "cdc_flower.simulations.fleet:Network",
    "OnDevices": "cdc_flower.strategies.base:OnDevices",
    "Policy": "cdc_flower.simulations.requests.policies:Policy",
    "Run": "cdc_flower.api.results:Run",
    "Stream": "cdc_flower.core.stream:Stream",
    "Task": "cdc_flower.tasks.protocol:Task",
    "Trace": "cdc_flower.simulations.network.samples:SampledTrace",
    "TracePair": "cdc_flower.simulations.network.trace:TracePair",
    "TruthReader": "cdc_flower.core.stream:TruthReader",
    "UserError": "cdc_flower.core.errors:UserError",
    "compare": "cdc_flower.api.compare:compare",
    "facts_of": "cdc_flower.tasks.protocol:facts_of",
    "list_of": "cdc_flower.api.registering:list_of",
    "load": "cdc_flower.api.results:load",
    "option": "cdc_flower.core.options:option",
    "placed": "cdc_flower.devices.decoders.protocol:placed",
    "register": "cdc_flower.api.registering:register",
}
__all__ = [
    "CloudStrategy",
    "Codec",
    "Decoder",
    "DeviceModel",
    "FederatedOnDevices",
    "FrameData",
    "GenerationStrategy",
    "MessageBatch",
    "Network",
    "OnDevices",
    "Policy",
    "Run",
    "Stream",
    "Task",
    "Trace",
    "TracePair",
    "TruthReader",
    "UserError",
    "__version__",
    "compare",
    "facts_of",
    "list_of",
    "load",
    "option",
    "placed",
    "register",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Imports a public name when it is first used."""
        if name not in _HOMES:
            raise AttributeError(f"module 'cdc_flower' has no attribute {name!r}")
        module, _, attribute = _HOMES[name].partition(":")
        value = getattr(import_module(module), attribute)
        globals()[name] = value  # the next look-up finds it
        return value


def __dir__() -> list[str]:
    """Lists public names beside those that are there."""
    return sorted({*globals(), *__all__})
