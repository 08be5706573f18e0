"""Composes the configuration of a comparison from keys and plain values, as the command line does.

Keys are written as overrides in Hydra's grammar, so that checks and messages are the same.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath

import numpy as np
from hydra import compose

from cdc_flower.core.errors import UserError
from cdc_flower.study.composing import ROOT, composed_config, group_names, hydra_at, plain
from cdc_flower.study.keys import check_overrides
from cdc_flower.study.overrides import parsed, path_of
from cdc_flower.study.plugins import PLUGINS, load_plugins
from cdc_flower.study.setup import resolved
from cdc_flower.study.trees import Tree

#: A key as one writes it: names joined by dots.
_KEY = re.compile(r"[\w@/-]+(\.[\w@/-]+)*")
#: A text that needs no quotes, unless Hydra takes it for a number or another word of its own.
_WORD = re.compile(r"[A-Za-z0-9_./-]+")


def composed(keys: Mapping[str, object]) -> tuple[Tree, list[str]]:
    """Composes, checks and resolves a configuration.

    Args:
        keys: Plain values by dotted key; a group's choice by the group.

    Returns:
        The configuration, and the overrides of the command line that gives the same.

    Raises:
        UserError: If a key or a choice is unknown, or a value is no plain one.
    """
    for key in keys:
        if not _KEY.fullmatch(key):
            raise UserError(f"config: a key must be names joined by dots, got {key!r}")
    with hydra_at():
        load_plugins(_plugins(keys))  # what is registered is a choice from here on
        overrides = _overrides(keys)
        overrides = check_overrides(overrides)
        config = resolved(compose(ROOT, overrides=overrides), overrides)
    return config, overrides


def _plugins(keys: Mapping[str, object]) -> list[str]:
    """Lists the plug-ins that keys name, as a list; another value is refused later."""
    names = keys.get(PLUGINS, [])
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _overrides(keys: Mapping[str, object]) -> list[str]:
    """Writes keys as overrides, with the ``+`` of those that no chosen file sets yet."""
    groups = group_names()
    choices = {key: f"{key}={written(value, key)}" for key, value in keys.items() if key in groups}
    full = plain(composed_config(ROOT, list(choices.values())))
    others = {key: value for key, value in keys.items() if key not in choices}
    return [*choices.values(), *_signed(others, full)]


def _signed(keys: Mapping[str, object], full: Mapping[str, object]) -> Iterable[str]:
    for key, value in keys.items():
        node: object = full
        is_there = key.startswith("hydra.")
        for part in path_of(key):
            is_there = isinstance(node, Mapping) and part in node
            node = node[part] if isinstance(node, Mapping) and is_there else None
        sign = "" if is_there or key.startswith("hydra.") else "+"
        yield f"{sign}{key}={written(value, key)}"


def flat(config: Mapping[str, object], start: str = "") -> dict[str, object]:
    """Joins nested keys with dots.

    Raises:
        UserError: If a key is no text, or there twice.
    """
    if not isinstance(config, Mapping):
        raise UserError(f"config must be a mapping such as {{'cloud.epochs': 5}}, got {config!r}")
    keys: dict[str, object] = {}
    for key, value in config.items():
        if not isinstance(key, str):
            raise UserError(f"config: a key must be names joined by dots, got {key!r}")
        inner = flat(value, f"{start}{key}.") if isinstance(value, Mapping) else {}
        found = inner if inner else {f"{start}{key}": value}
        if twice := keys.keys() & found.keys():
            raise UserError(f"config: {min(twice)} must be given once, got it twice")
        keys |= found
    return keys


def written(value: object, key: str) -> str:
    """Writes a plain value in Hydra's grammar.

    Args:
        value: A number, text, path, truth value, ``None``, or a list or mapping of these.
        key: For the message.

    Raises:
        UserError: If it is no plain value.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | PurePath):
        return _text(str(value))
    if isinstance(value, Mapping):
        inner = (f"{_text(str(name))}:{written(each, key)}" for name, each in value.items())
        return f"{{{','.join(inner)}}}"
    if isinstance(value, Sequence | np.ndarray):
        return f"[{','.join(written(each, key) for each in value)}]"
    raise UserError(
        f"config: {key} must have a plain value (number, text, true or false, null, list), "
        f"got {type(value).__name__}"
    )


def _text(text: str) -> str:
    if _WORD.fullmatch(text) and parsed([f"key={text}"])[0].value() == text:
        return text
    quoted = re.sub(r'(\\*)"', r'\1\1\\"', text)  # backslashes count before a quote alone
    end = re.search(r"\\*$", quoted)
    return f'"{quoted}{end[0] if end else ""}"'
