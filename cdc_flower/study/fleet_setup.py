"""From a configuration to the links and phones of a fleet."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.fleet import Conditions, Fleet, Network
from cdc_flower.simulations.network.recordings import read_recordings
from cdc_flower.simulations.network.trace import TracePair

#: Keys of a network that concern reading its recordings.
RECORDING_KEYS = ("format", "files", "part", "up_ratio", "min_mean_bps", "on_error")
RATES = ("rate_up_bps", "rate_down_bps", "rtt_s", "spread", "up_ratio", "min_mean_bps")
SPEEDS = ("device_flops_per_s", "cloud_flops_per_s", "cloud_s_per_device")


def network_of(config: Mapping[str, Any]) -> Network:
    """The kind of link of a configured ``network``, with its recordings if it names a path.

    Raises:
        UserError: If a value is wrong, or a recording has a mistake.
    """
    check_numbers("network", config, RATES)
    if "path" not in config:
        return Network(**config)
    path = Path(config["path"])
    changed = path.stat().st_mtime_ns if path.is_file() else None
    traces = _recordings(
        path, changed, tuple((key, config[key]) for key in RECORDING_KEYS if key in config)
    )
    return Network(config["name"], rtt_s=config["rtt_s"], traces=traces)


def _recordings(
    path: Path, changed: int | None, options: tuple[tuple[str, Any], ...]
) -> tuple[TracePair, ...]:
    """Those of a file are read once for all runs of a process, as long as the file stays as it is."""
    return (
        read_recordings(path, **dict(options))
        if changed is None
        else _kept_recordings(path, changed, options)
    )


@lru_cache(maxsize=4)
def _kept_recordings(
    path: Path, _: int, options: tuple[tuple[str, Any], ...]
) -> tuple[TracePair, ...]:
    return read_recordings(path, **dict(options))


def fleet_of(config: Mapping[str, Any], network: Network, num_devices: int) -> Fleet:
    """The fleet of a resolved configuration.

    Raises:
        UserError: If a value is wrong.
    """
    fleet = config["fleet"]
    check_numbers("fleet", fleet, SPEEDS)
    keys = (*SPEEDS, "speed_quantiles", "num_cloud_workers")
    return Fleet.build(
        num_devices,
        network,
        **{key: fleet[key] for key in keys if key in fleet},
        conditions=Conditions(**config["conditions"]),
        seed=config["seed"],
    )


def check_numbers(group: str, config: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    """Check that those of the keys that are there hold numbers.

    Raises:
        UserError: If one does not.
    """
    for key in keys:
        value = config.get(key, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{group}.{key} must be a number, got {value!r}")
