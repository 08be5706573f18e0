"""Takes links as kinds of link and as recorded rates."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from cdc_flower.core.errors import UserError
from cdc_flower.core.held import Held, class_path, held
from cdc_flower.core.options import checked_values, option, options_of
from cdc_flower.core.registry import NAME, snake_case
from cdc_flower.core.targets import TARGET
from cdc_flower.simulations.fleet import Network
from cdc_flower.simulations.network.trace import Trace, TracePair

GROUP = "network"


@dataclass(frozen=True)
class TraceOptions:
    """Options of links along recorded rates that are given in Python."""

    name: str = option("trace", doc="of the profile")
    rtt_s: float = option(0.08, least=0, below=float("inf"), neutral=0, doc="round-trip time, s")


def network_node(value: object, settings: Mapping[str, object]) -> Held:
    """Makes the node of links that are given in Python.

    Args:
        value: A kind of link, or an object or class with a method ``network()``; recorded rates
            for both directions; a pair (up, down) of them; or a list of such pairs, of which each
            device follows one.
        settings: Configured options.

    Raises:
        UserError: If it is something else, or an option is wrong.
    """
    if isinstance(value, Network):
        if settings:
            key = next(iter(settings))
            raise UserError(f"network.{key} must be set in the object that is given")
        return _node(value)
    if callable(getattr(value, "network", None)):
        return _made_node(value, settings)
    checked: dict[str, Any] = checked_values(options_of(TraceOptions), settings, "network")
    options = TraceOptions(**checked)
    return _node(Network(options.name, rtt_s=options.rtt_s, traces=_pairs(value)))


def _made_node(value: object, settings: Mapping[str, object]) -> Held:
    """Asks an object, or one that is made of a class, for its kind of link.

    Raises:
        UserError: If an option is wrong, or what it makes is no kind of link.
    """
    kind = value if isinstance(value, type) else type(value)
    node = held(value, str(getattr(kind, NAME, "") or snake_case(kind.__name__)), GROUP, settings)
    made = cast(Callable[[], object], getattr(node.made(GROUP), GROUP))()
    if not isinstance(made, Network):
        raise UserError(
            f"network: {kind.__name__}.network() must return a cdc_flower.Network, "
            f"got {type(made).__name__}"
        )
    return Held(made, {**_node(made), **node})


def _node(network: Network) -> Held:
    """Says what a kind of link is, its recordings by their content."""
    known = {name: each for name, each in asdict(network).items() if name != "traces"}
    contents = [pair.content_hash()[:20] for pair in network.traces]
    recorded = {"traces": contents} if contents else {}
    return Held(network, {**known, **recorded, TARGET: class_path(network)})


def _pairs(value: object) -> tuple[TracePair, ...]:
    if isinstance(value, Trace | TracePair):
        return (_pair(value),)
    if isinstance(value, tuple) and len(value) == 2:
        return (_pair(value),)
    if isinstance(value, list) and value:
        return tuple(_pair(each) for each in value)
    return (_pair(value),)


def _pair(value: object) -> TracePair:
    if isinstance(value, TracePair):
        return value
    if isinstance(value, Trace):
        return TracePair(value, value)
    if isinstance(value, tuple) and len(value) == 2:
        up, down = value
        if isinstance(up, Trace) and isinstance(down, Trace):
            return TracePair(up, down)
    raise UserError(
        "network must be a name, a cdc_flower.Network, a cdc_flower.Trace, a pair (up, down) of "
        f"them, or a list of these; got {type(value).__name__}"
    )
