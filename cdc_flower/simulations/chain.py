"""The chain: all that stands between a strategy and its devices, for one run of a strategy.

From the strategy to the devices: ``StrategyGrid``, the cloud ends of the chain links in their
order, the links, the device ends in the opposite order, the devices. So the first chain link is
next to the strategy and to the devices, and the last is next to the links::

    play(..., chain=[WithCodecs(codecs), WithRequests(requests)])
    # strategy - StrategyGrid - codecs - links - requests - codecs - devices

An end is a :class:`~cdc_flower.simulations.grids.through.Through`, which changes messages on their
way down and replies on their way up.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from flwr.serverapp import Grid

from cdc_flower.simulations.deployment import Nodes
from cdc_flower.simulations.links.accounting import Usage

#: The grid inside -> the grid around it.
Around = Callable[[Grid], Grid]


def nothing(inner: Grid) -> Grid:
    """Puts nothing around a grid."""
    return inner


def counts_nothing(usage: Usage) -> None:
    """Adds nothing to what was counted."""


@dataclass(frozen=True)
class Ends:
    """The two ends of a chain link; either may be nothing.

    Attributes:
        cloud: Puts a grid around the links.
        device: Puts a grid around the devices, behind the links.
        count: Adds to the columns of a segment that ends what the ends have counted in it.
    """

    cloud: Around = nothing
    device: Around = nothing
    count: Callable[[Usage], None] = counts_nothing


class ChainLink(Protocol):
    """Makes what stands between a strategy and its devices, anew for each run of a strategy."""

    def ends(self, nodes: Nodes) -> Ends:
        """Makes both ends, which may share what they remember."""


@dataclass(frozen=True)
class AtCloud:
    """Puts a grid between the strategy and the links.

    Attributes:
        around: Such as a subclass of ``Through``.
    """

    around: Around

    def ends(self, nodes: Nodes) -> Ends:
        """Makes the cloud end."""
        return Ends(cloud=self.around)


@dataclass(frozen=True)
class AtDevices:
    """Puts a grid between the links and the devices.

    Attributes:
        around: Such as a subclass of ``Through``.
    """

    around: Around

    def ends(self, nodes: Nodes) -> Ends:
        """Makes the device end."""
        return Ends(device=self.around)


@dataclass(frozen=True)
class Chain:
    """The ends of chain links for one run of a strategy.

    Attributes:
        ends: In the order of the chain links.
    """

    ends: tuple[Ends, ...] = ()

    @staticmethod
    def of(chain_links: Iterable[ChainLink], nodes: Nodes) -> "Chain":
        """Makes the ends of all chain links."""
        return Chain(tuple(each.ends(nodes) for each in chain_links))

    def around_devices(self, grid: Grid) -> Grid:
        """Puts the device ends around the devices, the first next to them."""
        for each in self.ends:
            grid = each.device(grid)
        return grid

    def around_links(self, grid: Grid) -> Grid:
        """Puts the cloud ends around the links, the first next to the strategy."""
        for each in reversed(self.ends):
            grid = each.cloud(grid)
        return grid

    def count(self, usage: Usage) -> None:
        """Adds what all ends have counted to the columns of a segment that ends."""
        for each in self.ends:
            each.count(usage)
