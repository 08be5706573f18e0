"""Registers a user's own strategies, models and all else that has a name, and lists names."""

import importlib
from collections.abc import Callable
from dataclasses import fields
from typing import TypeVar

from cdc_flower.core.errors import UserError, nearest_name, unknown_name
from cdc_flower.core.registry import Registry
from cdc_flower.study.catalog import entries_of, kinds

Value = TypeVar("Value")

#: Singular and plural word of a kind -> its registry.
REGISTRIES: dict[tuple[str, str], str] = {
    ("strategy", "strategies"): "cdc_flower.strategies.registry:strategies",
    ("model", "models"): "cdc_flower.models.registry:models",
    ("task", "tasks"): "cdc_flower.tasks.registry:tasks",
    ("data", "data"): "cdc_flower.tasks.data.registry:data",
    ("network", "networks"): "cdc_flower.simulations.networks:networks",
    ("policy", "policies"): "cdc_flower.simulations.requests.policies:policies",
    ("codec", "codecs"): "cdc_flower.simulations.protocol.codecs:codecs",
    ("reader", "readers"): "cdc_flower.tasks.recommendation.readers:readers",
    ("grid", "grids"): "cdc_flower.simulations.grids.kinds:grids",
}


def register(kind: str, name: str, **facts: object) -> Callable[[Value], Value]:
    """Makes a decorator that gives a class or function a name, which configurations then know.

    ``@register("strategy", "nudge", color="#117733")`` stands above the class.

    Args:
        kind: Such as ``strategy``, ``model``, ``task``, ``data``, ``policy`` or ``codec``.
        name: As configurations will have it.
        facts: Of that kind, such as ``paper``, ``color``, ``up`` and ``down`` of a strategy.

    Raises:
        UserError: If there is no such kind or fact, or something else has that name.
    """
    known = {word for words in REGISTRIES for word in words}  # strategy and strategies alike
    if kind not in known:
        raise unknown_name("kind", kind, known, "register")
    registry = _registry(kind)

    def add(value: Value) -> Value:
        try:
            return registry.register(name, **facts)(value)
        except TypeError as error:
            allowed = [each.name for each in fields(registry.facts)]
            wrong = next((fact for fact in facts if fact not in allowed), "")
            near = nearest_name(wrong, allowed)
            hint = f"; did you mean {near!r}?" if near else ""
            raise UserError(
                f"register: facts of a {registry.kind} are {', '.join(allowed) or 'none'}{hint} "
                f"({error})"
            ) from error
        except ValueError as error:
            raise UserError(f"register: {error}") from error

    return add


def list_of(kind: str) -> list[str]:
    """Lists the names of a kind, those of the user's own too.

    Args:
        kind: As in ``cdc-flower list``: ``strategies``, ``models``, ``tasks``, ``data``,
            ``networks``, ``policies``, ``codecs``, ``experiments``, ...

    Raises:
        UserError: If there is no such kind.
    """
    registered = {plural for _, plural in REGISTRIES}
    if kind not in {*kinds(), *registered}:
        raise unknown_name("kind", kind, {*kinds(), *registered}, "list_of")
    filed = list(entries_of(kind)) if kind in kinds() else []
    is_file_of_kind = kind in ("networks", "data")  # a file sets options of a registered kind
    own = list(_registry(kind)) if kind in registered and not is_file_of_kind else []
    return list(dict.fromkeys([*filed, *own]))


def _registry(kind: str) -> Registry:
    path = next(path for words, path in REGISTRIES.items() if kind in words)
    module, _, name = path.partition(":")
    found: Registry = getattr(importlib.import_module(module), name)
    return found
