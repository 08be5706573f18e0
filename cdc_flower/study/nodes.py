"""Nodes of a configuration that name a class of the user's own by ``_target_``.

The class takes the place of the chosen one. Of the chosen file the values stay that the class has
an option for; the others are left over, and so is the file's name, for the results are not its.
"""

import copy
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cdc_flower.core.options import Option
from cdc_flower.core.registry import NAME, Entry, is_of_the_package
from cdc_flower.core.targets import TARGET
from cdc_flower.models.registry import find_model, model_options
from cdc_flower.simulations.grids.kinds import grids
from cdc_flower.simulations.networks import find_network
from cdc_flower.simulations.requests.policies import policies
from cdc_flower.tasks.data import find_data

#: Group -> what finds the class that its node configures.
FIND: Mapping[str, Callable[[Mapping[str, object]], Entry[Any, Any]]] = {
    "data": find_data,
    "grid": lambda node: grids.of_node(node, "grid"),
    "model": find_model,
    "network": find_network,
    "policy": lambda node: policies.of_node(node, "policy"),
}


def node_options(group: str, node: Mapping[str, object]) -> dict[str, Option]:
    """Lists the options of a node by the class that it configures, which is imported for it.

    Raises:
        UserError: If there is no such class, or it is of another kind.
    """
    return model_options(node) if group == "model" else FIND[group](node).options()


def without_leftovers(config: DictConfig) -> DictConfig:
    """Leaves out what only the chosen files have where a ``_target_`` takes their place.

    Its name is the configured one if that is no file's, else that of the class in snake case, or
    the path where a file of the package has that name too.

    Args:
        config: As composed; it stays as it is.

    Raises:
        UserError: If a ``_target_`` cannot be imported or is of another kind.
    """
    own = [group for group in FIND if TARGET in (config.get(group) or {})]
    if not own:
        return config
    config = copy.deepcopy(config)
    OmegaConf.set_struct(config, False)
    for group in own:
        node = config[group]
        named = {TARGET: node[TARGET]}
        options = node_options(group, named)
        for key in [key for key in node if key not in options]:
            del node[key]
        entry = FIND[group](named)
        names = [node.get(NAME), options[NAME].default, entry.name]
        last = entry.name if is_of_the_package(entry.value) else node[TARGET]
        node[NAME] = next((name for name in names if _is_own(group, name)), last)
    return config


def _is_own(group: str, name: object) -> bool:
    """Tells whether a name is one, and not that of a file of the package."""
    file = files("cdc_flower.configs") / group / f"{name}.yaml"
    return isinstance(name, str) and name != "" and not file.is_file()
