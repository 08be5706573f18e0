"""Strategies that a run compares: methods as they are configured, and arms that vary one.

An arm is a name of the user's own with a ``method``. It has the settings of that method, and its
own in their place::

    strategies: [duet, duet_stale]
    strategy: {duet_stale: {method: duet, report_lag: 1}}

A name with a ``_target_`` is a method of a module of the user's own; it may have arms too.
"""

from typing import cast

from cdc_flower.core.errors import UserError, check_name
from cdc_flower.core.held import Held
from cdc_flower.core.targets import TARGET
from cdc_flower.strategies.base import OnDevices
from cdc_flower.strategies.registry import build_strategy, find_method, strategies
from cdc_flower.strategies.stock import on_devices
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
    if TARGET in own:
        _check_own_method(name, own)
        return name, own
    method = own.pop(METHOD, name)
    place = f"strategy.{name}.{METHOD}"
    if method == name and name in strategies:
        return name, own
    if name in strategies:
        raise UserError(
            f"{place} must be left out, since {name} is a method itself, got {method!r}"
        )
    base = dict(configured.get(method) or {})
    if TARGET not in base:
        strategies.find(str(method), "strategies" if method == name else place)
    return method, {**base, **own}


def method_of(configured: Config, name: str) -> type[OnDevices]:
    """Finds the class of a configured method or arm.

    Args:
        configured: Settings by name; those of an arm have a ``method`` among them.
        name: Of a method or of an arm.

    Raises:
        UserError: As :func:`arm`.
    """
    return on_devices(find_method(*arm(configured, name)).value)


def _check_own_method(name: str, own: Tree) -> None:
    """Refuses a class under a name that stands for another one already."""
    place = f"strategy.{name}"
    if METHOD in own:
        raise UserError(f"{place} must have a {METHOD} or a {TARGET}, got both")
    kind = find_method(name, own).value
    if name in strategies and strategies[name].value is not kind:
        raise UserError(
            f"{place}.{TARGET} must stand under a name of its own, since {name} is a method "
            f"already, got {own[TARGET]}"
        )
