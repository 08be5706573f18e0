"""From a configuration to the links and phones of a fleet."""

from collections.abc import Mapping
from typing import Any

from cdc_flower.core.options import checked_values, options_of
from cdc_flower.simulations.fleet import Conditions, Fleet, Network, Speeds
from cdc_flower.simulations.networks import kind_of_network, networks


def network_of(config: Mapping[str, Any]) -> Network:
    """Makes the kind of link of a configured ``network``, with its recordings if it names a path.

    Raises:
        UserError: If a key is none, a value is wrong, or a recording has a mistake.
    """
    kind: Any = networks[kind_of_network(config)].value
    made: Network = kind(**checked_values(options_of(kind), config, "network")).network()
    return made


def fleet_of(config: Mapping[str, Any], network: Network, num_devices: int) -> Fleet:
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
        speeds=Speeds(**checked_values(options_of(Speeds), speeds, "fleet")),  # type: ignore[arg-type]
        conditions=Conditions(
            **checked_values(options_of(Conditions), config["conditions"], "conditions")  # type: ignore[arg-type]
        ),
        seed=config["seed"],
    )
