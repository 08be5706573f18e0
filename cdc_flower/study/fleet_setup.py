"""From a configuration to the links and phones of a fleet."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar, cast

from cdc_flower.core.held import Held
from cdc_flower.core.options import checked_values, options_of
from cdc_flower.simulations.fleet import Conditions, Fleet, Network, Speeds
from cdc_flower.simulations.networks import find_network
from cdc_flower.study.trees import Config

Made = TypeVar("Made")


class KindOfNetwork(Protocol):
    """Options of a kind of link."""

    def network(self) -> Network:
        """Makes the kind of link."""


def network_of(config: Config) -> Network:
    """Makes the kind of link of a configured ``network``, with its recordings if it names a path.

    Raises:
        UserError: If a key is none, a value is wrong, or a recording has a mistake.
    """
    if isinstance(config, Held):
        return cast(Network, config.value)
    kind = find_network(config)
    make: Callable[..., KindOfNetwork] = kind.value
    return make(**kind.arguments(kind.checked(config, "network"))).network()


def fleet_of(config: Config, network: Network, num_devices: int) -> Fleet:
    """Makes the fleet of a resolved configuration.

    Args:
        config: The whole of it.
        network: The kind of link.
        num_devices: ``n``.

    Raises:
        UserError: If a key is none or a value is wrong.
    """
    speeds = {key: value for key, value in config["fleet"].items() if key != "num_devices"}
    return Fleet.build(
        num_devices,
        network,
        speeds=_made(Speeds, speeds, "fleet"),
        conditions=_made(Conditions, config["conditions"], "conditions"),
        seed=config["seed"],
    )


def _made(kind: Callable[..., Made], values: Mapping[str, object], place: str) -> Made:
    """Makes an instance of a class of options, of values that are checked."""
    return kind(**checked_values(options_of(cast(type, kind)), values, place))
