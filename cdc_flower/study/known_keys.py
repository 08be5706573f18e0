"""Lists the keys that a configuration may have: those of its files, and options of its classes.

The package's own files have a key for each option, so a class is imported only where a module or a
file of the user's own is named.
"""

import copy
from collections.abc import Mapping, Sequence

from cdc_flower.core.errors import UserError, nearest_name, unknown_name
from cdc_flower.core.options import options_of
from cdc_flower.core.targets import TARGET
from cdc_flower.study.catalog import entries_of_group
from cdc_flower.study.composing import ROOT, composed_config, options_of_group, plain
from cdc_flower.study.overrides import STRATEGY, package_groups
from cdc_flower.study.plugins import may_have_more
from cdc_flower.study.trees import Tree
from cdc_flower.tasks.data import find_data

METHOD = "method"
PROTOCOL = "protocol"
#: Groups whose files only set keys of other places, and the choice that sets none.
OVERLAYS = {"task": "recommendation", "experiment": "none"}
#: Groups whose node configures a class.
NODES = ("attack", "data", "grid", "model", "network", "policy")
#: Stands for the value of a key of a file in whose place a class of the user's own is.
LEFT_OVER = "left over"


def known_keys(
    names: Mapping[str, str],
    full: Tree,
    chosen: Sequence[str],
    given: Tree,
    root: Tree | None = None,
) -> Tree:
    """Lists the keys that the package's root, the chosen files and the configured classes have.

    Args:
        names: Choice of each group.
        full: Tree of the configuration with all its files.
        chosen: Overrides of groups and of Hydra's search path.
        given: Tree of the command line alone.
        root: Tree of the package's root with the chosen files; None: of another root.
    """
    is_there = root is not None and _has_every_key(names, chosen, root)
    known = copy.deepcopy(root) if root is not None and is_there else _keys_of_files(names, chosen)
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
    _check_place(known[STRATEGY])
    for keys in known[STRATEGY].values():
        keys.setdefault(METHOD, None)
    _add_arms(known[STRATEGY], full.get(STRATEGY, {}))
    return known


def _has_every_key(names: Mapping[str, str], chosen: Sequence[str], root: Tree) -> bool:
    """Tells whether a composed root has all keys of its files already, and no others.

    So it is unless one of the files sets keys of other places, or some strategies have no file
    there. Arms of the root stand among the strategies. To compose it anew takes longer than all
    other checks.
    """
    heads = [text.lstrip("+") for text in chosen]
    return (
        all(names.get(group) == name for group, name in OVERLAYS.items())
        and set(root.get(STRATEGY, ())) >= set(options_of_group(STRATEGY))
        and not any(head.startswith((STRATEGY, "hydra.")) for head in heads)
    )


def _keys_of_files(names: Mapping[str, str], chosen: Sequence[str]) -> Tree:
    """Composes the package's root with the chosen files and the file of each strategy."""
    package = package_groups()
    own = {group: name for group, name in {**names, **OVERLAYS}.items() if group != STRATEGY}
    return plain(
        composed_config(
            ROOT,
            [
                *(text for text in chosen if text.startswith("hydra.")),
                *(f"{'' if group in package else '+'}{group}={own[group]}" for group in own),
                f"{STRATEGY}=[{','.join(options_of_group(STRATEGY))}]",
            ],
        )
    )


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
        return dict.fromkeys(left if is_replaced else (), LEFT_OVER) | _open(_options(group, node))
    if group == "data":  # light, and its files need not hold every option
        return _open(options_of(find_data(in_file).value)) | in_file
    if set(node) <= set(in_file) or _is_of_the_package(group, in_file):
        return in_file
    return _open(_options(group, node)) | in_file


def _options(group: str, node: Mapping[str, object]) -> Mapping[str, object]:
    """Lists the options of a node; the registries of nodes are slow to import."""
    from cdc_flower.study.nodes import node_options

    return node_options(group, node)


def _open(options: Mapping[str, object]) -> Tree:
    """Makes keys of options, which may hold anything; see :func:`_check_keys`."""
    return {name: [] for name in options}


def _is_of_the_package(group: str, in_file: Tree) -> bool:
    """Tells whether the keys are those of the package's file of that name."""
    entry = entries_of_group(group).get(str(in_file.get("name")))
    heads = {option.name.partition(".")[0] for option in entry.options} if entry else set()
    return heads | {"name"} == set(in_file)


def _check_place(methods: Mapping[str, object]) -> None:
    """Refuses a file of a strategy whose keys stand beside the strategies."""
    stray = [name for name, keys in methods.items() if not isinstance(keys, Mapping)]
    if stray:
        raise UserError(
            f"{STRATEGY}.{stray[0]} belongs to no strategy; a file of one must begin with "
            f"'# @package {STRATEGY}.NAME'"
        )


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
