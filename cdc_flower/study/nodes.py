"""Nodes of a configuration that name a class of the user's own by ``_target_``.

The class takes the place of the chosen one. Of the chosen file the values stay that the class has
an option for; the others are left over, and so is the file's name, for the results are not its.
"""

import copy
from collections.abc import Callable, Mapping

from omegaconf import DictConfig, OmegaConf

from cdc_flower.core.options import Option
from cdc_flower.core.registry import NAME, snake_case
from cdc_flower.core.targets import TARGET
from cdc_flower.models.registry import model_options
from cdc_flower.simulations.grids.kinds import grids
from cdc_flower.simulations.networks import find_network
from cdc_flower.simulations.requests.policies import policies
from cdc_flower.study.catalog import entries_of_group
from cdc_flower.tasks.data import find_data

Options = dict[str, Option]
#: Group -> the options of its node.
OPTIONS: Mapping[str, Callable[[Mapping[str, object]], Options]] = {
    "data": lambda node: find_data(node).options(),
    "grid": lambda node: grids.of_node(node, "grid").options(),
    "model": model_options,
    "network": lambda node: find_network(node).options(),
    "policy": lambda node: policies.of_node(node, "policy").options(),
}


def without_leftovers(config: DictConfig) -> DictConfig:
    """Leaves out what only the chosen files have where a ``_target_`` takes their place.

    Its name is the configured one if that is no file's, else that of the class in snake case.

    Args:
        config: As composed; it stays as it is.

    Raises:
        UserError: If a ``_target_`` cannot be imported or is of another kind.
    """
    own = [group for group in OPTIONS if TARGET in (config.get(group) or {})]
    if not own:
        return config
    config = copy.deepcopy(config)
    OmegaConf.set_struct(config, False)
    for group in own:
        node = config[group]
        options = OPTIONS[group]({TARGET: node[TARGET]})
        for key in [key for key in node if key not in options]:
            del node[key]
        if not node.get(NAME) or node[NAME] in entries_of_group(group):
            named = options[NAME].default
            of_class = snake_case(node[TARGET].rpartition(".")[2])
            node[NAME] = named if isinstance(named, str) and named else of_class
    return config
