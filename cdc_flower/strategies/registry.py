"""Strategies by name, with all that has to be known of one before it is built.

A method registers its class::

    @strategies.register("nudge", paper=PAPER, color="#117733", up="10 items", down="a number")
    @dataclass(eq=False, repr=False)
    class Nudge(GenerationStrategy):
        rate: float = option(0.1, least=0, neutral=0, doc="of the nudge; 0 is static")

Nothing else names it: configuration, command line, catalog, figures, papers and the tests of every
strategy look here.
"""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.serverapp.strategy import Strategy

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import checked_values, options_of
from cdc_flower.core.registry import Entry, Registry
from cdc_flower.core.targets import TARGET, Shape
from cdc_flower.strategies.base import OnDevices
from cdc_flower.strategies.papers import Paper
from cdc_flower.strategies.stock import on_devices
from cdc_flower.strategies.stock_checks import is_configurable, is_strategy


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


SHAPE = Shape("a class that derives from a strategy of Flower's or of cdc_flower", is_strategy)
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
    own = {key: value for key, value in settings.items() if key != TARGET}
    return build_class(find_method(name, settings).value, own, place)


def build_class(kind: type, settings: Mapping[str, object], place: str) -> OnDevices:
    """Builds a strategy of a class: one of ours, or any of Flower's, which is then mixed in.

    Args:
        kind: The class.
        settings: Its options, by name; a strategy that it is wrapped around has a ``_target_``.
        place: The config key that holds them, for errors.

    Raises:
        UserError: If devices cannot play it, or a setting is unknown or out of its range.
    """
    try:
        played = on_devices(kind)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
    options = options_of(played)
    checked = checked_values(options, settings, place)
    for key, value in checked.items():
        if is_strategy(options[key].kind):
            checked[key] = _inside(value, f"{place}.{key}")
    try:
        return played(**checked)
    except (TypeError, ValueError, UserError) as error:
        raise UserError(f"{place}: {error}") from error


def _inside(value: object, place: str) -> Strategy:
    """Builds the strategy that another is wrapped around.

    Raises:
        UserError: If it is none, or a setting is unknown or out of its range.
    """
    if isinstance(value, Strategy):
        return value
    settings = dict(value) if isinstance(value, Mapping) else {}
    path = str(settings.pop(TARGET, ""))
    try:
        kind: object = pkgutil.resolve_name(path) if path else None
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{place}.{TARGET} must be importable, got {path}: {error}") from error
    if not (isinstance(kind, type) and is_strategy(kind)):
        raise UserError(f"{place}.{TARGET} must name a strategy of Flower's, got {path or value!r}")
    options = {name: each for name, each in options_of(kind).items() if is_configurable(each)}
    made: Strategy = kind(**checked_values(options, settings, place))
    return made


def looks() -> dict[str, Look]:
    """Lists the looks of methods and of their named variants by name."""
    found: dict[str, Look] = {}
    for entry in strategies.entries():
        found |= {entry.name: entry.facts, **entry.facts.variants}
    return found
