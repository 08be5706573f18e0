"""Nodes of a configuration that name a class of the user's own by ``_target_``.

The class takes the place of the chosen one. Values of the chosen file are left over, and so is its
name: defaults are those of the class, as they are where it is registered or given in Python.
"""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING
from functools import reduce
from importlib.resources import files
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from cdc_flower.core.options import Option, is_plain
from cdc_flower.core.registry import NAME, Entry, is_of_the_package
from cdc_flower.core.targets import TARGET
from cdc_flower.models.registry import find_model, model_options
from cdc_flower.simulations.attacks import attacks
from cdc_flower.simulations.grids.kinds import grids
from cdc_flower.simulations.networks import find_network
from cdc_flower.simulations.requests.policies import policies
from cdc_flower.study.composing import ROOT, composed_config, group_names, plain
from cdc_flower.study.overrides import merged, parsed, tree_of
from cdc_flower.study.trees import Tree
from cdc_flower.tasks.data import find_data

#: Group -> what finds the class that its node configures.
FIND: Mapping[str, Callable[[Mapping[str, object]], Entry[Any, Any]]] = {
    "data": find_data,
    "grid": lambda node: grids.of_node(node, "grid"),
    "model": find_model,
    "network": find_network,
    "policy": lambda node: policies.of_node(node, "policy"),
    "attack": lambda node: attacks.of_node(node, "attack"),
}


def node_options(group: str, node: Mapping[str, object]) -> dict[str, Option]:
    """Lists the options of a node by the class that it configures, which is imported for it.

    Raises:
        UserError: If there is no such class, or it is of another kind.
    """
    return model_options(node) if group == "model" else FIND[group](node).options()


def without_leftovers(
    config: DictConfig, overrides: Sequence[str], config_name: str = ROOT
) -> DictConfig:
    """Leaves out what only the chosen files have where a ``_target_`` takes their place.

    Its name is the configured one if that is no file's, else that of the class in snake case, or
    the path where a file of the package has that name too.

    Args:
        config: As composed; it stays as it is.
        overrides: What it was composed with. Hydra must be initialized.
        config_name: Of the root configuration.

    Raises:
        UserError: If a ``_target_`` cannot be imported or is of another kind.
    """
    own = [group for group in FIND if TARGET in (config.get(group) or {})]
    if not own:
        return config
    config = copy.deepcopy(config)
    changes = parsed(overrides)
    in_files = _chosen(changes, config_name)
    unresolved = plain(config)
    OmegaConf.set_struct(config, False)
    for group in own:
        node = config[group]
        named = {TARGET: node[TARGET]}
        options = node_options(group, named)
        left = _left_over(in_files[group], unresolved[group], _given(changes, group))
        for key in [key for key in node if key not in options or key in left]:
            del node[key]
            default = options[key].default if key in options else MISSING
            if is_plain(default):  # a run folder tells it, and run_id counts it
                node[key] = default
        entry = FIND[group](named)
        names = [node.get(NAME), options[NAME].default, entry.name]
        last = entry.name if is_of_the_package(entry.value) else node[TARGET]
        node[NAME] = next((name for name in names if _is_own(group, name)), last)
    return config


def _chosen(changes: Sequence[Override], config_name: str) -> Tree:
    """Composes the chosen files of nodes alone, without what else sets keys of theirs."""
    groups = group_names()
    texts = {each.input_line or "": each for each in changes}
    paths = [text for text, each in texts.items() if each.is_hydra_override()]
    files_of_groups = [text for text, each in texts.items() if each.key_or_group in groups]
    choices = composed_config(config_name, [*paths, *files_of_groups]).hydra.runtime.choices
    chosen = [f"{group}={choices[group]}" for group in FIND if choices.get(group)]
    return plain(composed_config(ROOT, [*paths, *chosen]))


def _given(changes: Sequence[Override], group: str) -> set[str]:
    """Lists the keys of a node that a command line gives."""
    nothing: Tree = {}
    node = reduce(merged, map(tree_of, changes), nothing).get(group)
    return set(node) if isinstance(node, Mapping) else set()


def _left_over(
    file: Mapping[str, object], node: Mapping[str, object], given: Collection[str]
) -> set[str]:
    """Lists the keys of a file that say nothing of the class in its place.

    Args:
        file: Values of the chosen file.
        node: As configured.
        given: Keys that a command line gives.
    """
    if file.get(TARGET) == node[TARGET]:  # the class is the file's own
        return set()
    return {key for key in file if key not in given and file[key] == node.get(key)}


def _is_own(group: str, name: object) -> bool:
    """Tells whether a name is one, and not that of a file of the package."""
    file = files("cdc_flower.configs") / group / f"{name}.yaml"
    return isinstance(name, str) and name != "" and not file.is_file()
