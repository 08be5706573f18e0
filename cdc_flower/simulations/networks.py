"""Kinds of links: constant rates and recordings. A profile such as ``lte`` is a YAML of a kind."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

from cdc_flower.core.options import check_options, option
from cdc_flower.core.registry import NAME, Entry, NoFacts, Registry
from cdc_flower.core.targets import TARGET, having
from cdc_flower.simulations.fleet import Network
from cdc_flower.simulations.network.recordings import ON_ERROR, PARTS, REPEATED, Reading, read_as
from cdc_flower.simulations.network.trace import TracePair

networks: Registry[type, NoFacts] = Registry(
    "kind of network", "networks", NoFacts, shape=having("network")
)


@networks.register("constant")
@dataclass(frozen=True)
class ConstantRates(Network):
    """Links whose rates stay as they are."""

    def network(self) -> Network:
        """Makes the kind of link."""
        return self


@networks.register("recorded")
@dataclass(frozen=True)
class RecordedRates:
    """Links along recordings, each device from a random moment of one of them on."""

    name: str = option(doc="of the profile")
    path: str = option(doc="a folder, a file, or a tar or zip archive")
    format: str = option("pensieve", doc="of the recordings: cdc-flower list trace_formats")
    files: str = option("*", doc="pattern of the names to read")
    part: str = option(
        "all", choices=PARTS, doc="recordings belong to a part by their content; all reads both"
    )
    up_ratio: float = option(
        0.2, above=0, below=float("inf"), doc="rate up over rate down, where one is not recorded"
    )
    min_mean_bps: float = option(
        0.0, least=0, neutral=0, doc="recordings with a lower mean rate are left out"
    )
    on_error: str = option(
        "raise",
        choices=ON_ERROR,
        doc="skip leaves files with mistakes out and counts them",
    )
    rtt_s: float = option(0.0, least=0, below=float("inf"), neutral=0, doc="round-trip time, s")
    repeated: str = option(
        "merge", choices=REPEATED, doc="rows of one time become their mean, which is told, or raise"
    )
    columns: Mapping[str, str | None] = option(
        default_factory=dict,
        doc="of csv and availability: {time: NAME, down: NAME, rate_unit: kbit/s}",
    )
    measured: bool = option(
        False,
        neutral=False,
        doc="round-trip time in place of rtt_s, and loss, are a recording's own where it has them",
    )

    def __post_init__(self) -> None:
        check_options(self, "network")

    def network(self) -> Network:
        """Reads the recordings, once a process for a file that stays as it is.

        Raises:
            UserError: If there is none, or one has a mistake.
        """
        path = Path(self.path)
        named = {key: name for key, name in self.columns.items() if name is not None}
        columns = tuple((str(key), str(name)) for key, name in named.items())
        chosen = {each.name: getattr(self, each.name) for each in fields(Reading)}
        reading = Reading(**{**chosen, "columns": columns})
        if os.path.isfile(path):
            traces = _kept_recordings(path.stat().st_mtime_ns, path, reading)
        else:
            traces = read_as(path, reading)
        return Network(self.name, rtt_s=self.rtt_s, traces=traces)


@lru_cache(maxsize=4)
def _kept_recordings(_: int, path: Path, reading: Reading) -> tuple[TracePair, ...]:
    return read_as(path, reading)


def find_network(node: Mapping[str, object]) -> Entry[type, NoFacts]:
    """Finds the kind of a configured network: by path or name; else recordings have a path.

    Raises:
        UserError: If its path leads nowhere.
    """
    if TARGET in node or node.get(NAME) in networks:
        return networks.of_node(node, "network")
    return networks["recorded" if "path" in node else "constant"]
