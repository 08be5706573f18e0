"""Opens Flower's door to a device: ``flwr run .`` and a SuperNode load this file."""

import json
from functools import lru_cache

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from cdc_flower.devices.app import DeviceApp
from cdc_flower.study.flower import config_of, device_of
from cdc_flower.study.setup import prepare


@lru_cache(maxsize=2)
def _device_app(run_config: str, num_devices: int) -> DeviceApp:
    setup = prepare(config_of(json.loads(run_config), num_devices))
    return DeviceApp(setup.model, setup.stream, setup.task)


class ConfiguredDeviceApp(ClientApp):
    """A :class:`DeviceApp` made from the run's configuration, once in each process."""

    def __call__(self, message: Message, context: Context) -> Message:
        """Answers one message to the node whose ``partition-id`` is the device."""
        _, num_devices = device_of(context.node_config)
        return _device_app(json.dumps(dict(context.run_config), sort_keys=True), num_devices)(
            message, context
        )


app = ConfiguredDeviceApp()
