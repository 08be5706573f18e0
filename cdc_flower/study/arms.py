"""Strategies that a run compares: methods as they are configured, and arms that vary one.

An arm is a name of the user's own with a ``method``. It has the settings of that method, and its
own in their place::

    strategies: [duet, duet_stale]
    strategy: {duet_stale: {method: duet, report_lag: 1}}
"""

from typing import cast

from cdc_flower.core.errors import UserError, check_name
from cdc_flower.core.held import Held
from cdc_flower.strategies.base import OnDevices
from cdc_flower.strategies.registry import build_strategy, strategies
from cdc_flower.study.trees import Config, Tree

METHOD = "method"


def strategies_of(config: Config) -> dict[str, OnDevices]:
    """Builds the strategies that the configuration names, in its order.

    Raises:
        UserError: If one is unknown, named twice, no good name of a file, or has a wrong setting,
            or the method of an arm is unknown.
    """
    names = config["strategies"]
    if not isinstance(names, list | tuple) or not names:
        raise UserError(
            f"strategies must be a list of at least one name, such as [static,duet], got {names}"
        )
    built: dict[str, OnDevices] = {}
    for name in names:
        check_name(name, "strategies")  # what a strategy learned is kept in a file of its name
        if name in built:
            raise UserError(f"strategies must name each strategy once, got {name!r} twice")
        own = config["strategy"].get(name)
        if isinstance(own, Held):
            built[name] = cast(OnDevices, own.made(f"strategy.{name}"))
            continue
        method, settings = arm(config["strategy"], name)
        built[name] = build_strategy(method, settings, place=f"strategy.{name}")
    return built


def arm(configured: Config, name: str) -> tuple[str, Tree]:
    """Finds the method of a configured name, and the settings to build it with.

    Args:
        configured: Settings by name; those of an arm have a ``method`` among them.
        name: Of a method or of an arm.

    Raises:
        UserError: If the name is neither, or the method is unknown.
    """
    own = dict(configured.get(name) or {})
    method = own.pop(METHOD, name)
    place = f"strategy.{name}.{METHOD}"
    if method == name and name in strategies:
        return name, own
    if name in strategies:
        raise UserError(
            f"{place} must be left out, since {name} is a method itself, got {method!r}"
        )
    strategies.find(str(method), "strategies" if method == name else place)
    return method, {**dict(configured.get(method) or {}), **own}


def method_of(configured: Config, name: str) -> type[OnDevices]:
    """Finds the class of a configured method or arm.

    Args:
        configured: Settings by name; those of an arm have a ``method`` among them.
        name: Of a method or of an arm.

    Raises:
        UserError: As :func:`arm`.
    """
    return strategies[arm(configured, name)[0]].value
