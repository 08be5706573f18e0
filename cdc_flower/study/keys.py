"""Checks keys and choices of a configuration against its YAML files before anything is run.

The YAML files of the package say which keys there are. A key that none of the chosen files has is
refused, with or without Hydra's ``+``. Values are checked later, by those who use them; so are the
arguments of an object that a ``_target_`` names. Nothing slow is imported here.
"""

from collections.abc import Mapping, Sequence

from hydra.core.override_parser.types import Override

from cdc_flower.core.errors import UserError, nearest_name, unknown_name
from cdc_flower.core.options import options_of
from cdc_flower.study.catalog import entries_of_group
from cdc_flower.study.composing import (
    ROOT,
    composed_config,
    group_names,
    options_of_group,
    plain,
)
from cdc_flower.study.overrides import (
    STRATEGY,
    check_form,
    merged,
    package_groups,
    parsed,
    path_of,
    runs_of,
    shape_of,
    tree_of,
)
from cdc_flower.study.trees import Tree
from cdc_flower.tasks.data import find_data

METHOD, TARGET = "method", "_target_"
PROTOCOL = "protocol"
#: Groups whose files only set keys of other places, and the choice that sets none.
OVERLAYS = {"task": "recommendation", "experiment": "none"}


def check_overrides(
    overrides: Sequence[str], config_name: str = ROOT, *, several: bool = False
) -> None:
    """Checks the keys and choices of a command line. Hydra must be initialized.

    Args:
        overrides: As on the command line, such as ``network=lte``.
        config_name: Of the root configuration.
        several: Whether a key may have several values, one for each run.

    Raises:
        UserError: If a key or a choice is unknown, or the configuration cannot be composed.
    """
    changes = parsed(overrides)
    groups = group_names()
    for override in changes:
        check_form(override, groups, several)
    seen: set[tuple[str, ...]] = set()
    for run in runs_of(changes, groups):
        alike = tuple(shape_of(override, groups) for override in run)
        if alike not in seen:  # runs that differ in values alone have the same keys
            seen.add(alike)
            _check_run(run, groups, config_name)


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
    changes = [
        override
        for override, text in zip(run, texts, strict=True)
        if not override.is_delete() and text not in chosen
    ]
    final = full
    for override in changes:
        final = merged(final, tree_of(override))
    known = _known_keys(names, final, chosen)
    _check_keys(final, known, names, [])
    for override in changes:
        _check_sign(override, full)
        full = merged(full, tree_of(override))
    composed_config(config_name, texts)


def _known_keys(names: Mapping[str, str], full: Tree, chosen: Sequence[str]) -> Tree:
    """Lists the keys that the package's root and the chosen files of each group have.

    Args:
        names: Choice of each group.
        full: Tree of the configuration with all its files.
        chosen: Overrides of groups and of Hydra's search path.
    """
    package = package_groups()
    own = {group: name for group, name in {**names, **OVERLAYS}.items() if group != STRATEGY}
    known = plain(
        composed_config(
            ROOT,
            [
                *(text for text in chosen if text.startswith("hydra.")),
                *(f"{'' if group in package else '+'}{group}={own[group]}" for group in own),
                f"{STRATEGY}=[{','.join(options_of_group(STRATEGY))}]",
            ],
        )
    )
    known["data"] = dict.fromkeys(options_of(find_data(known["data"]).value)) | known["data"]
    given = full.get(PROTOCOL)
    if isinstance(given, Mapping) and set(given) - set(known[PROTOCOL]):  # of a codec of one's own
        from cdc_flower.simulations.protocol.encoding import protocol_options

        known[PROTOCOL] = dict.fromkeys(protocol_options()) | known[PROTOCOL]
    for keys in known[STRATEGY].values():
        keys.setdefault(METHOD, None)
    _add_arms(known[STRATEGY], full.get(STRATEGY, {}))
    return known


def _add_arms(methods: Tree, configured: Mapping[str, object]) -> None:
    """Adds the arms of a configuration to the known strategies: an arm has its method's keys.

    Args:
        methods: Tree of the known strategies, extended in place.
        configured: Settings of strategies and arms.

    Raises:
        UserError: If an arm has no method, or an unknown one.
    """
    every = dict(methods)
    for arm, settings in configured.items():
        if arm in every:
            continue
        if not isinstance(settings, Mapping) or not {METHOD, TARGET} & set(settings):
            near = nearest_name(arm, methods, cutoff=0.6)
            hint = f"; did you mean {near}?" if near else ""
            raise UserError(
                f"{STRATEGY}.{arm} must have a {METHOD}, since {arm} is no strategy{hint} "
                f"(known: {', '.join(sorted(every))})"
            )
        if METHOD not in settings:
            methods[arm] = {TARGET: None}
        elif (method := str(settings[METHOD])) in every:
            methods[arm] = every[method]
        else:
            raise unknown_name("strategy", method, every, f"{STRATEGY}.{arm}.{METHOD}")


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
    if TARGET in given or TARGET in known:
        return
    for key, value in given.items():
        if key not in known:
            raise _unknown_key(path, str(key), known, names)
        inner = known[key]
        if not isinstance(value, Mapping) or isinstance(inner, list):
            continue
        if not isinstance(inner, Mapping):
            place = ".".join([*path, key])
            raise UserError(f"{place} holds one value, got the key {place}.{next(iter(value))}")
        _check_keys(value, inner, names, [*path, key])


def _unknown_key(
    path: Sequence[str], key: str, known: Mapping[str, object], names: Mapping[str, str]
) -> UserError:
    """Makes the error for a key that no file has.

    Args:
        path: Where the key stands.
        key: The last part of its name.
        known: Tree that there are.
        names: Choice of each group.
    """
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
    if group is not None:
        place = f"{group}={names[group]}"
    others = _choices_with(group, key) if group is not None else []
    near = nearest_name(key, known, cutoff=0.6)
    near = near or next((name for name in sorted(known) if len(key) > 2 and key in name), None)
    hint = f"; did you mean {near}?" if near else ""
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
