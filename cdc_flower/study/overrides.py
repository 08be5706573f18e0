"""Reads the overrides of a command line: their form, their choices, and the runs of a sweep."""

import itertools
import re
from collections.abc import Iterator, Sequence
from importlib.resources import files

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.targets import TARGET
from cdc_flower.study.composing import options_of_group
from cdc_flower.study.trees import Tree

STRATEGY = "strategy"
#: Keys of Hydra's own that may be changed.
HYDRA_KEYS = ("hydra.searchpath",)


def parsed(overrides: Sequence[str]) -> list[Override]:
    """Parses overrides by Hydra's grammar.

    Raises:
        UserError: If one is no change of a key.
    """
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
    """Checks an override by itself: that its key may be changed, and that its choice exists.

    Args:
        override: Of the command line.
        groups: Names of the groups of files.
        several: Whether a key may have several values, one for each run.

    Raises:
        UserError: If it may not stand on the command line.
    """
    key = override.key_or_group
    text = override.input_line or ""
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
    """Checks that a group is set to one of its files."""
    group = override.key_or_group
    known = options_of_group(group)
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
    """Lists the overrides of each run: all choices, the first value of other keys."""
    variants = []
    for override in changes:
        each = _variants(override, options_of_group(override.key_or_group))
        variants.append(each if _is_choice(override, groups) else each[:1])
    for texts in itertools.product(*variants):
        yield parsed(texts)


def _variants(override: Override, options: Sequence[str]) -> list[str]:
    """Writes the override once for each of its values."""
    text = override.input_line or ""
    if not override.is_sweep_override():
        return [text]
    start = text.partition("=")[0]
    value: object = override.value()
    if isinstance(value, Glob):
        return [f"{start}={name}" for name in value.filter(list(options))]
    if not override.is_discrete_sweep():
        raise UserError(f"{text}: the values must be counted out, as in 1,2,3 or range(1,4)")
    return [f"{start}={value}" for value in override.sweep_string_iterator()]


def shape_of(override: Override, groups: Sequence[str]) -> str:
    """Writes the whole override of a choice, and the key of any other."""
    text = override.input_line or ""
    return text if _is_choice(override, groups) else text.partition("=")[0]


def _is_choice(override: Override, groups: Sequence[str]) -> bool:
    """Tells whether an override says which keys there are: by a file or by a class."""
    key = override.key_or_group
    return key in groups or key.rpartition(".")[2] in (TARGET, "method")


def with_free_signs(overrides: Sequence[str]) -> list[str]:
    """Lets keys of a node be written with ``+`` or without where a class takes its file's place.

    Which keys the file of another class has is nothing that a user should have to know.

    Args:
        overrides: As on the command line.

    Returns:
        The same, as Hydra takes them.

    Raises:
        UserError: If one is no change of a key.
    """
    changes = parsed(overrides)
    targets = [each.key_or_group for each in changes if each.key_or_group.endswith(f".{TARGET}")]
    places = tuple(target.removesuffix(TARGET) for target in targets)
    return [
        f"++{text.lstrip('+')}"
        if each.key_or_group.startswith(places) and not each.is_delete()
        else text
        for each, text in zip(changes, overrides, strict=True)
    ]


def tree_of(override: Override) -> Tree:
    """Makes a tree of keys of an override."""
    *outer, last = path_of(override.key_or_group)
    tree: Tree = {last: override.value()}
    for part in reversed(outer):
        tree = {part: tree}
    return tree


def path_of(key: str) -> list[str]:
    """Splits a dotted key; brackets are dots."""
    return [part for part in re.sub(r"\[([^\]]*)\]", r".\1", key).split(".") if part]


def merged(base: Tree, change: Tree) -> Tree:
    """Merges two trees; where both have a value the second one counts."""
    both = dict(base)
    for key, value in change.items():
        before = base.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            value = merged(before, value)
        both[key] = value
    return both


def package_groups() -> list[str]:
    """Lists the groups of the package itself; each has a choice by default."""
    return [path.name for path in files("cdc_flower.configs").iterdir() if path.is_dir()]
