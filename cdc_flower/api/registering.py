"""Registers a user's own strategies, models and all else that has a name, and lists names."""

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import StrEnum
from functools import partial
from typing import TypeVar, cast

from cdc_flower.core.errors import UserError, nearest_name, unknown_name
from cdc_flower.core.registry import Registry
from cdc_flower.study.catalog import entries_of, kinds
from cdc_flower.tables.column import Column, Pool, Subject, Type
from cdc_flower.tables.columns import COLUMNS
from cdc_flower.tables.made_columns import try_column

Value = TypeVar("Value")
#: The kind of columns, which are no registry.
COLUMN = "column"
#: Facts of columns that are members of an enumeration.
MEMBERS: dict[str, type[StrEnum]] = {
    "type": Type,
    "pooled": Pool,
    "subject": Subject,
}

#: Singular and plural word of a kind -> its registry.
REGISTRIES: dict[tuple[str, str], str] = {
    ("strategy", "strategies"): "cdc_flower.strategies.registry:strategies",
    ("model", "models"): "cdc_flower.models.registry:models",
    ("task", "tasks"): "cdc_flower.tasks.registry:tasks",
    ("data", "data"): "cdc_flower.tasks.data.registry:data",
    ("network", "networks"): "cdc_flower.simulations.networks:networks",
    ("policy", "policies"): "cdc_flower.simulations.requests.policies:policies",
    ("attack", "attacks"): "cdc_flower.simulations.attacks:attacks",
    ("rule", "rules"): "cdc_flower.strategies.fedavg.rules:rules",
    ("codec", "codecs"): "cdc_flower.simulations.protocol.codecs:codecs",
    ("reader", "readers"): "cdc_flower.tasks.recommendation.readers:readers",
    ("trace_format", "trace_formats"): "cdc_flower.simulations.network.formats:trace_formats",
    ("grid", "grids"): "cdc_flower.simulations.grids.kinds:grids",
}


def register(kind: str, name: str, **facts: object) -> Callable[[Value], Value]:
    """Makes a decorator that gives a class or function a name, which configurations then know.

    ``@register("strategy", "nudge", color="#117733")`` stands above the class.

    Args:
        kind: Such as ``strategy``, ``model``, ``task``, ``data``, ``policy``, ``codec``,
            ``reader``, ``trace_format`` or ``column``, whose function makes it of the others.
        name: As configurations will have it.
        facts: Of that kind, such as ``paper``, ``color``, ``up`` and ``down`` of a strategy, or
            ``unit`` and ``in_summary`` of a column.

    Raises:
        UserError: If there is no such kind or fact, or something else has that name.
    """
    if kind == COLUMN:
        return partial(_add_column, name, facts)
    known = {COLUMN, *(word for words in REGISTRIES for word in words)}  # strategies are strategy
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


def _add_column(name: str, facts: Mapping[str, object], made_of: Value) -> Value:
    """Adds a column of the results that a function makes of the others.

    Args:
        name: Of the column, with its unit as a suffix.
        facts: Fields of :class:`~cdc_flower.tables.column.Column`; its ``doc`` is the function's
            first line by default, and NaN is neutral.
        made_of: The function.

    Raises:
        UserError: If a fact is none, the name is taken, or the function asks for what is not there.
    """
    fixed = {"name", "made_of", "scope", "is_key", "is_counted"}
    known = {each.name for each in fields(Column)} - fixed
    for fact in facts:
        if fact not in known:
            raise unknown_name("fact", fact, known, "register")
    doc = (getattr(made_of, "__doc__", None) or name).strip().splitlines()[0]
    made = cast(Callable[..., Column], Column)
    given = {**facts, **{each: _member(each, facts[each]) for each in MEMBERS if each in facts}}
    try:
        column = made(name, **{"doc": doc, "neutral": math.nan, **given}, made_of=made_of)
    except ValueError as error:
        raise UserError(f"register: {error}") from error
    try_column(column)
    if name in COLUMNS and _is_again(COLUMNS[name].made_of, made_of):
        COLUMNS.replace(column)  # a cell of a notebook that was run again
    else:
        COLUMNS.register(column)
    return made_of


def _member(fact: str, name: object) -> object:
    """Finds the member of an enumeration by its name in small letters, such as ``per_device``."""
    members = {member.name.lower(): member for member in MEMBERS[fact]}
    text = str(name.name if isinstance(name, StrEnum) else name).lower()
    if text not in members:
        raise unknown_name(fact, text, members, "register")
    return members[text]


def _is_again(known: object, other: object) -> bool:
    """Tells whether a module that is imported again defines a function anew."""
    names = ("__module__", "__qualname__")
    return all(getattr(known, name, known) == getattr(other, name, other) for name in names)


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
