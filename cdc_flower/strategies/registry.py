"""Strategies by name, with all that has to be known of one before it is built.

A method registers its class::

    @strategies.register("nudge", paper=PAPER, color="#117733", up="10 items", down="a number")
    @dataclass(eq=False, repr=False)
    class Nudge(GenerationStrategy):
        rate: float = option(0.1, least=0, neutral=0, doc="of the nudge; 0 is static")

Nothing else names it: configuration, command line, catalog, figures, papers and the tests of every
strategy look here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.serverapp.strategy import Strategy

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import checked_values, options_of
from cdc_flower.core.registry import Entry, Registry
from cdc_flower.core.targets import TARGET, Shape
from cdc_flower.strategies.base import OnDevices
from cdc_flower.strategies.papers import Paper


@dataclass(frozen=True)
class Look:
    """The paper and the color of strategies whose names begin alike.

    Attributes:
        paper: Whom to cite; None: nobody.
        color: In figures, as ``#rrggbb``; "": one that is free.
    """

    paper: Paper | None = None
    color: str = ""


@dataclass(frozen=True)
class Method(Look):
    """Facts of a method. What it reads, and its options, its class says.

    Attributes:
        up: Payload of an uplink, in words; "": none. Likewise ``down``.
        labels: Examples whose labels it uses, in words; "": none.
        variants: Looks of arms that are known by a name of their own, such as ``fedprox``.
        tiny: Settings under which it does something in little time, for tests.
    """

    up: str = ""
    down: str = ""
    labels: str = ""
    variants: Mapping[str, Look] = field(default_factory=dict)
    tiny: Mapping[str, object] = field(default_factory=dict)


SHAPE = Shape(
    "a class that derives from CloudStrategy, or from OnDevices beside a strategy of Flower's",
    lambda value: (
        isinstance(value, type) and issubclass(value, OnDevices) and issubclass(value, Strategy)
    ),
)
strategies: "Registry[type[OnDevices], Method]" = Registry(
    "strategy", "strategies", Method, "cdc_flower.strategies", SHAPE
)


def find_method(name: str, settings: Mapping[str, object]) -> Entry[type[OnDevices], Method]:
    """Finds the method of a name, or the class that its settings name by its path.

    Raises:
        UserError: If there is no such strategy.
    """
    if TARGET in settings:
        return strategies.of_target(settings[TARGET], f"strategy.{name}.{TARGET}")
    return strategies[name]


def build_strategy(name: str, settings: Mapping[str, object], place: str = "") -> OnDevices:
    """Builds the strategy of a name.

    Args:
        name: As registered.
        settings: Its options, by name.
        place: The config key that holds them, for errors; "": ``strategy.<name>``.

    Raises:
        UserError: If there is no such strategy, or a setting is unknown or out of its range.
    """
    place = place or f"strategy.{name}"
    kind = find_method(name, settings).value
    own = {key: value for key, value in settings.items() if key != TARGET}
    checked = checked_values(options_of(kind), own, place)
    try:
        return kind(**checked)
    except (TypeError, ValueError) as error:
        raise UserError(f"{place}: {error}") from error


def looks() -> dict[str, Look]:
    """Lists the looks of methods and of their named variants by name."""
    found: dict[str, Look] = {}
    for entry in strategies.entries():
        found |= {entry.name: entry.facts, **entry.facts.variants}
    return found
