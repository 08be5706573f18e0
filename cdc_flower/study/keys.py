"""Checks keys and choices of a configuration against its YAML files before anything is run.

A key is one of the chosen files, or an option of the class that a node configures. Any other is
refused, with or without Hydra's ``+``. Values are checked later, by those who use them. The
package's own files have a key for each option, so nothing slow is imported here but for what a
user's own module or file names.
"""

from collections.abc import Mapping, Sequence
from functools import reduce

from hydra.core.override_parser.types import Override

from cdc_flower.core.errors import UserError, nearest_name, renamed
from cdc_flower.core.targets import TARGET
from cdc_flower.study.catalog import entries_of_group
from cdc_flower.study.composing import (
    ROOT,
    check_values,
    composed_config,
    group_names,
    plain,
)
from cdc_flower.study.known_keys import LEFT_OVER, METHOD, NODES, OVERLAYS, known_keys
from cdc_flower.study.overrides import (
    STRATEGY,
    check_form,
    merged,
    parsed,
    path_of,
    runs_of,
    shape_of,
    tree_of,
    with_free_signs,
)
from cdc_flower.study.plugins import load_plugins, plugins_named
from cdc_flower.study.trees import Tree

#: Keys of older files that changed name and meaning, and what to write now.
RENAMED = {
    "cloud.patience": "cloud.patience_steps, which counts steps and not epochs (null: never stops)"
}


def check_overrides(
    overrides: Sequence[str], config_name: str = ROOT, *, several: bool = False
) -> list[str]:
    """Checks the keys and choices of a command line. Hydra must be initialized.

    Args:
        overrides: As on the command line, such as ``network=lte``.
        config_name: Of the root configuration.
        several: Whether a key may have several values, one for each run.

    Returns:
        The overrides as Hydra takes them.

    Raises:
        UserError: If a key or a choice is unknown, or the configuration cannot be composed.
    """
    free = with_free_signs(overrides)
    changes = parsed(free)
    load_plugins(plugins_named(changes, config_name))
    groups = group_names()
    for override in changes:
        check_form(override, groups, several)
    seen: set[tuple[str, ...]] = set()
    for run in runs_of(changes, groups):
        alike = tuple(shape_of(override, groups) for override in run)
        if alike not in seen:  # runs that differ in values alone have the same keys
            seen.add(alike)
            _check_run(run, groups, config_name)
    return free


def _check_run(run: Sequence[Override], groups: Sequence[str], config_name: str) -> None:
    """Checks the keys of one run."""
    texts = [override.input_line or "" for override in run]
    chosen = [
        text
        for text, override in zip(texts, run, strict=True)
        if override.key_or_group in groups or override.is_hydra_override()
    ]
    composed = composed_config(config_name, chosen)
    choices = dict(composed.hydra.runtime.choices)
    names = {group: choices[group] for group in groups if choices.get(group)}
    full = plain(composed)
    others = [override for override, text in zip(run, texts, strict=True) if text not in chosen]
    changes = [override for override in others if not override.is_delete()]
    final = full
    for override in changes:
        final = merged(final, tree_of(override))
    nothing: Tree = {}
    given = reduce(merged, map(tree_of, changes), nothing)
    root = full if config_name == ROOT else None
    known = known_keys(names, final, chosen, given, root)
    _check_keys(final, known, names, [])
    for override in changes:
        _check_sign(override, full)
        full = merged(full, tree_of(override))
    check_values(composed, others, config_name)


def _check_keys(
    given: Mapping[str, object],
    known: Mapping[str, object],
    names: Mapping[str, str],
    path: list[str],
) -> None:
    """Checks that all keys of a tree are known.

    Args:
        given: Tree of the user.
        known: Tree that there are.
        names: Choice of each group, for the error.
        path: Where the two trees stand.
    """
    for key, value in given.items():
        if key not in known:
            names_class = path[:1] == [STRATEGY] or (len(path) == 1 and path[0] in NODES)
            target = str(given.get(TARGET, "")) if names_class else ""
            raise _unknown_key(path, str(key), known, names, target)
        inner = known[key]
        if not isinstance(value, Mapping) or isinstance(inner, list):
            continue
        if not isinstance(inner, Mapping):
            place = ".".join([*path, key])
            raise UserError(f"{place} holds one value, got the key {place}.{next(iter(value))}")
        _check_keys(value, inner, names, [*path, key])


def _unknown_key(
    path: Sequence[str],
    key: str,
    known: Mapping[str, object],
    names: Mapping[str, str],
    target: str,
) -> UserError:
    """Makes the error for a key that no file has.

    Args:
        path: Where the key stands.
        key: The last part of its name.
        known: Tree that there are.
        names: Choice of each group.
        target: Path of the class that the node configures; "": there is none.
    """
    if now := RENAMED.get(".".join([*path, key])):
        return UserError(f"{'.'.join([*path, key])} is no key any more; write {now}")
    chosen = names.get(key)
    if (
        not path and key in OVERLAYS and chosen != OVERLAYS[key]
    ):  # its file sets keys below its own name
        return UserError(
            f"{key}={chosen} must be a file that begins with '# @package _global_', "
            f"as it sets keys of other places"
        )
    place = ".".join(path) or "the configuration"
    group = path[0] if len(path) == 1 and path[0] in names else None
    known = {name: v for name, v in known.items() if name != TARGET and v != LEFT_OVER}
    if target:
        place = target
        known.pop(METHOD, None)
    elif group is not None:
        place = f"{group}={names[group]}"
    others = _choices_with(group, key) if group is not None and not target else []
    near = nearest_name(key, known, cutoff=0.6)
    near = near or next((name for name in sorted(known) if len(key) > 2 and key in name), None)
    hint = renamed(key, known) or (f"; did you mean {near}?" if near else "")
    if others:
        hint = f"; {' and '.join(others)} {'has' if len(others) == 1 else 'have'} it"
    return UserError(
        f"{'.'.join([*path, key])} is no key of {place}{hint} "
        f"(known: {', '.join(sorted(known)) or 'none'})"
    )


def _choices_with(group: str, key: str) -> list[str]:
    """Lists at most three other choices of a group that have a key."""
    entries = entries_of_group(group)
    having = [name for name in entries if key in {row.name for row in entries[name].options}]
    return [f"{group}={name}" for name in having[:3]]


def _check_sign(override: Override, full: Tree) -> None:
    """Checks the ``+`` in front of a key: it is for keys that no file sets, and for no others."""
    key = override.key_or_group
    path = path_of(key)
    value = (override.input_line or "").partition("=")[2]
    node: object = full
    for part in path:
        if isinstance(node, list):
            return
        if not isinstance(node, Mapping) or part not in node:
            if not override.is_add() and not override.is_force_add():
                raise UserError(f"{key} is in no file yet; write +{key}={value}")
            return
        node = node[part]
    if override.is_add() and not isinstance(node, Mapping):
        raise UserError(f"{'.'.join(path)} is there already; write {key}={value} without +")
