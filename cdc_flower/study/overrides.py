"""Overrides of a command line one by one: their form, their choices, and the runs of a sweep."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.study.composing import options_of_group

STRATEGY = "strategy"
#: Keys of Hydra's own that may be changed.
HYDRA_KEYS = ("hydra.searchpath",)


def parsed(overrides: Sequence[str]) -> list[Override]:
    """The overrides by Hydra's grammar."""
    parser = OverridesParser.create()
    changes = []
    for text in overrides:
        if "=" not in text[1:] and not text.startswith("~"):
            raise UserError(f"{text}: a change must be KEY=VALUE")
        try:
            changes.append(parser.parse_override(text))
        except HydraException as error:
            raise UserError(
                f"{text}: the value cannot be read; special characters need quotes inside the "
                "quotes of the shell, as in 'KEY=\"a=b\"'"
            ) from error
    return changes


def check_form(override: Override, groups: Sequence[str], several: bool) -> None:
    """Check what one override says by itself: what it may change, and a choice that exists."""
    key, text = override.key_or_group, override.input_line or ""
    if override.is_hydra_override() or key == "hydra":
        if key not in HYDRA_KEYS:
            raise UserError(
                f"{key} cannot be changed, nor any other key of Hydra's own but "
                f"{', '.join(HYDRA_KEYS)}; -m plays several runs, one after the other"
            )
        return
    if override.package is not None:
        raise UserError(f"{text}: a group has its own place; write {key}=NAME")
    if override.is_delete():
        if not key.startswith(f"{STRATEGY}."):
            raise UserError(f"{text}: {key} cannot be left out; give it another value")
        return
    if override.is_sweep_override() and not several:
        raise UserError(
            f"{text}: {key} has several values; write -m to play one run after the other, "
            f"or {key}=[...] for a list"
        )
    if key in groups:
        if override.is_add() and key in package_groups():
            raise UserError(f"{text}: {key} has a choice already; write it without +")
        _check_choice(override)


def _check_choice(override: Override) -> None:
    """Check that what a group is set to is a file of the group."""
    group, known = override.key_or_group, options_of_group(override.key_or_group)
    for text in _variants(override, known):
        value = parsed([text])[0].value()
        names = value if isinstance(value, list) and group == STRATEGY else [value]
        for name in names:
            if not isinstance(name, str):
                name = "null" if name is None else text.partition("=")[2]
            name = name.removesuffix(".yaml")
            if name not in known:
                raise unknown_name(f"choice of {group}", name, known, group)


def runs_of(changes: Sequence[Override], groups: Sequence[str]) -> Iterator[list[Override]]:
    """The overrides of each run: all choices of groups, and of other keys the first value."""
    variants = []
    for override in changes:
        each = _variants(override, options_of_group(override.key_or_group))
        variants.append(each if override.key_or_group in groups else each[:1])
    for texts in itertools.product(*variants):
        yield parsed(texts)


def _variants(override: Override, options: Sequence[str]) -> list[str]:
    """The override once for each of its values."""
    text = override.input_line or ""
    if not override.is_sweep_override():
        return [text]
    start = text.partition("=")[0]
    value: Any = override.value()
    if isinstance(value, Glob):
        return [f"{start}={name}" for name in value.filter(list(options))]
    if not override.is_discrete_sweep():
        raise UserError(f"{text}: the values must be counted out, as in 1,2,3 or range(1,4)")
    return [f"{start}={value}" for value in override.sweep_string_iterator()]


def shape_of(override: Override, groups: Sequence[str]) -> str:
    """The whole override of a group, and the key of any other."""
    text = override.input_line or ""
    return text if override.key_or_group in groups else text.partition("=")[0]


def tree_of(override: Override) -> dict[str, Any]:
    """The override as a tree of keys."""
    tree: Any = override.value()
    for part in reversed(path_of(override.key_or_group)):
        tree = {part: tree}
    return dict(tree)


def path_of(key: str) -> list[str]:
    """The parts of a dotted key; brackets are dots."""
    return [part for part in re.sub(r"\[([^\]]*)\]", r".\1", key).split(".") if part]


def merged(base: Any, change: Any) -> Any:
    """Two trees in one, the second before the first."""
    if not isinstance(base, Mapping) or not isinstance(change, Mapping):
        return change
    both = dict(base)
    for key, value in change.items():
        both[key] = merged(base.get(key), value)
    return both


def package_groups() -> list[str]:
    """The groups of the package itself; each has a choice by default."""
    return [path.name for path in files("cdc_flower.configs").iterdir() if path.is_dir()]
