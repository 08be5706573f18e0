"""Checks keys and choices of a configuration against its YAML files before anything is run.

A key is one of the chosen files, or an option of the class that a node configures. Any other is
refused, with or without Hydra's ``+``. Values are checked later, by those who use them. The
package's own files have a key for each option, so nothing slow is imported here but for what a
user's own module or file names.
"""

from collections.abc import Mapping, Sequence
from functools import reduce

from hydra.core.override_parser.types import Override

from cdc_flower.core.errors import UserError, nearest_name, unknown_name
from cdc_flower.core.options import options_of
from cdc_flower.core.targets import TARGET
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
from cdc_flower.study.plugins import load_plugins, may_have_more, plugins_named
from cdc_flower.study.trees import Tree
from cdc_flower.tasks.data import find_data

METHOD = "method"
PROTOCOL = "protocol"
#: Groups whose node configures a class.
NODES = ("data", "grid", "model", "network", "policy")
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
    given = reduce(merged, map(tree_of, changes), {})
    known = _known_keys(names, final, chosen, given)
    _check_keys(final, known, names, [])
    for override in changes:
        _check_sign(override, full)
        full = merged(full, tree_of(override))
    composed_config(config_name, texts)


def _known_keys(names: Mapping[str, str], full: Tree, chosen: Sequence[str], given: Tree) -> Tree:
    """Lists the keys that the package's root, the chosen files and the configured classes have.

    Args:
        names: Choice of each group.
        full: Tree of the configuration with all its files.
        chosen: Overrides of groups and of Hydra's search path.
        given: Tree of the command line alone.
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
    for group in NODES:
        node = full.get(group)
        if isinstance(node, Mapping):
            known[group] = _keys_of_node(group, node, known[group], given.get(group))
    codecs = full.get(PROTOCOL)
    if isinstance(codecs, Mapping) and set(codecs) - set(
        known[PROTOCOL]
    ):  # of a codec of one's own
        from cdc_flower.simulations.protocol.encoding import protocol_options

        known[PROTOCOL] = dict.fromkeys(protocol_options()) | known[PROTOCOL]
    for keys in known[STRATEGY].values():
        keys.setdefault(METHOD, None)
    _add_arms(known[STRATEGY], full.get(STRATEGY, {}))
    return known


def _keys_of_node(
    group: str, node: Mapping[str, object], in_file: Tree, given: object
) -> Mapping[str, object]:
    """Lists the keys of a node: those of its file, and the options of the class it configures.

    A class that the file does not name takes the place of the file's. Then the values of the file
    that it has no option for are left out later; they must not have been changed.

    Args:
        group: Of the node.
        node: As configured.
        in_file: Keys of the chosen file.
        given: The node on the command line; no mapping if there is nothing of it.
    """
    if TARGET in node:
        changed = given if isinstance(given, Mapping) else {}
        is_replaced = in_file.get(TARGET) != node[TARGET]
        left = {key for key in in_file if node.get(key) == in_file[key] and key not in changed}
        return _open(_options(group, node)) | dict.fromkeys(left if is_replaced else ())
    if group == "data":  # light, and its files need not hold every option
        return _open(options_of(find_data(in_file).value)) | in_file
    if set(node) <= set(in_file) or _is_of_the_package(group, in_file):
        return in_file
    return _open(_options(group, node)) | in_file


def _options(group: str, node: Mapping[str, object]) -> Mapping[str, object]:
    """Lists the options of a node by the class that it configures, which is imported for it."""
    from cdc_flower.study.nodes import OPTIONS

    return OPTIONS[group](node)


def _open(options: Mapping[str, object]) -> Tree:
    """Makes keys of options, which may hold anything; see :func:`_check_keys`."""
    return {name: [] for name in options}


def _is_of_the_package(group: str, in_file: Tree) -> bool:
    """Tells whether the keys are those of the package's file of that name."""
    entry = entries_of_group(group).get(str(in_file.get("name")))
    heads = {option.name.partition(".")[0] for option in entry.options} if entry else set()
    return heads | {"name"} == set(in_file)


def _add_arms(methods: Tree, configured: Mapping[str, object]) -> None:
    """Adds the arms of a configuration to the known strategies: an arm has its method's keys.

    Args:
        methods: Tree of the known strategies, extended in place.
        configured: Settings of strategies and arms.

    Raises:
        UserError: If an arm has no method, or an unknown one.
    """
    every = dict(methods)
    if TARGET in configured:
        raise UserError(
            f"{STRATEGY}.{TARGET} belongs to no strategy; a file of one must begin with "
            f"'# @package {STRATEGY}.NAME'"
        )
    for arm, settings in configured.items():
        if isinstance(settings, Mapping) and TARGET in settings:
            methods[arm] = _keys_of_method(configured, arm)
        elif arm in every:
            if isinstance(settings, Mapping) and set(settings) - set(every[arm]):
                methods[arm] = every[arm] | _keys_of_installed(configured, arm)
        elif isinstance(settings, Mapping) and METHOD in settings:
            methods[arm] = _keys_of_arm(configured, arm, str(settings[METHOD]), every)
        elif isinstance(settings, Mapping) and _is_registered(arm):
            methods[arm] = _keys_of_method(configured, arm)
        else:
            near = nearest_name(arm, methods, cutoff=0.6)
            hint = f"; did you mean {near}?" if near else ""
            raise UserError(
                f"{STRATEGY}.{arm} must have a {METHOD}, since {arm} is no strategy{hint} "
                f"(known: {', '.join(sorted(every))})"
            )


def _keys_of_arm(
    configured: Mapping[str, object], arm: str, method: str, every: Mapping[str, Tree]
) -> Tree:
    """Lists the keys that an arm may have.

    Args:
        configured: Settings of strategies and arms.
        arm: Its name.
        method: Of the arm.
        every: Keys of the methods that have a file.

    Raises:
        UserError: If the method is unknown.
    """
    base = configured.get(method)
    if isinstance(base, Mapping) and TARGET in base:
        return _keys_of_method(configured, arm)
    if method in every:
        return every[method]
    if _is_registered(method):
        return _keys_of_method(configured, arm)
    raise unknown_name("strategy", method, every, f"{STRATEGY}.{arm}.{METHOD}")


def _keys_of_method(configured: Mapping[str, object], name: str) -> Tree:
    """Lists the keys of a strategy or arm by its class, which is imported for it."""
    from cdc_flower.study.arms import method_of

    return _open({METHOD: None, TARGET: None, **options_of(method_of(configured, name))})


def _keys_of_installed(configured: Mapping[str, object], name: str) -> Tree:
    """Lists the keys of a method of an installed package, whose file need not hold them all."""
    entry = entries_of_group(STRATEGY).get(name)
    is_own = entry is not None and entry.place.startswith("cdc_flower/")
    return {} if is_own else _keys_of_method(configured, name)


def _is_registered(name: str) -> bool:
    """Tells whether a plug-in or an installed package has a strategy of that name."""
    if not may_have_more("strategies"):
        return False
    from cdc_flower.strategies.registry import strategies

    return name in strategies


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
            raise _unknown_key(path, str(key), known, names, str(given.get(TARGET, "")))
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
    if target:
        place = target
        known = {name: value for name, value in known.items() if name not in (METHOD, TARGET)}
    elif group is not None:
        place = f"{group}={names[group]}"
    others = _choices_with(group, key) if group is not None and not target else []
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
