"""Checks a configuration before data are read: every key is one, and every value in its range."""

from collections.abc import Callable, Mapping

from cdc_flower.core.errors import UserError
from cdc_flower.core.held import Held
from cdc_flower.core.options import Option, checked_values, options_of
from cdc_flower.core.targets import TARGET
from cdc_flower.models.registry import checked_model
from cdc_flower.simulations.attacks import attacks
from cdc_flower.simulations.attacks.setup import NONE
from cdc_flower.simulations.fleet import Conditions
from cdc_flower.simulations.grids.kinds import grids
from cdc_flower.simulations.networks import find_network
from cdc_flower.simulations.protocol.encoding import protocol_options
from cdc_flower.simulations.quarantine.options import QuarantineOptions
from cdc_flower.simulations.requests.policies import policies
from cdc_flower.study.arms import METHOD, arm, method_of
from cdc_flower.study.options import (
    EACH_TASK,
    AdaptationOptions,
    CheckpointOptions,
    CloudOptions,
    FleetOptions,
    RunOptions,
)
from cdc_flower.study.plays import check_fits
from cdc_flower.study.plugins import import_plugins
from cdc_flower.study.references import references_of
from cdc_flower.study.trees import Config, Tree
from cdc_flower.tasks.data import checked_data
from cdc_flower.tasks.recommendation.metrics import MetricsOptions
from cdc_flower.tasks.registry import tasks

#: Groups that configurations of before have not.
LATER = frozenset({"quarantine"})


def checked_config(config: Config) -> Tree:
    """Checks the whole of a resolved configuration.

    Returns:
        The configuration with values in the types of their options.

    Raises:
        UserError: If a key is none, a value has another type or is out of its range, one that must
            be given is missing, or data, model and task do not fit.
    """
    checked: Tree = checked_values(options_of(RunOptions), config, "")
    import_plugins(checked.get("plugins", ()))  # a run that goes on has not been composed here
    whole = {"attack": NONE, **config}  # runs of before had none
    groups = [name for name in _GROUPS if name in whole or name not in LATER]
    nodes = {group: _mapping(whole[group], group) for group in groups}
    check_fits(checked)
    for group, node in nodes.items():
        checked[group] = node if isinstance(node, Held) else _GROUPS[group](node)
    references_of(checked)
    tasks.find(checked["task"], "task").value.check(checked)
    return checked


def result_values(config: Config) -> dict[str, object]:
    """Selects the keys and values on which results depend; ``run_id`` is made of them."""
    options = options_of(RunOptions)
    return {key: value for key, value in config.items() if _changes_results(options.get(key))}


def is_for_every_task(key: str) -> bool:
    """Tells whether a top-level key means the same for every task."""
    known = options_of(RunOptions).get(key)
    return known is not None and known.rule.task == ""


def concerns(key: str, task: str) -> bool:
    """Tells whether a top-level key has a meaning for a task."""
    known = options_of(RunOptions).get(key)
    return known is None or known.rule.task in ("", EACH_TASK, task)


def _changes_results(known: Option | None) -> bool:
    return known is None or known.rule.changes_results


def _mapping(node: object, group: str) -> Config:
    if not isinstance(node, Mapping):
        raise UserError(f"{group} must be one of the names in cdc-flower --help, got {node!r}")
    return node


def _network(node: Config) -> dict[str, object]:
    return find_network(node).checked(node, "network")


def _cloud(node: Config) -> dict[str, object]:
    checked = checked_values(options_of(CloudOptions), node, "cloud")
    adaptation = _mapping(node["adaptation"], "cloud.adaptation")
    options = options_of(AdaptationOptions)
    return {**checked, "adaptation": checked_values(options, adaptation, "cloud.adaptation")}


def _grid(node: Config) -> dict[str, object]:
    return grids.of_node(node, "grid").checked(node, "grid")


def _attack(node: Config) -> dict[str, object]:
    return attacks.of_node(node, "attack").checked(node, "attack")


def _policy(node: Config) -> dict[str, object]:
    return policies.of_node(node, "policy").checked(node, "policy")


def _checkpoint(node: Config) -> dict[str, object]:
    checked = checked_values(options_of(CheckpointOptions), node, "checkpoint")
    every = checked.get("every")
    if isinstance(every, str) and every != "auto":
        raise UserError(f"checkpoint.every must be auto, a whole number >= 0 or null, got {every}")
    return checked


def _strategy(node: Config) -> dict[str, object]:
    """Checks every configured method and arm, whether it is played or not."""
    checked: dict[str, object] = {}
    for name, own in node.items():
        if isinstance(own, Held):
            checked[name] = own
            continue
        place = f"strategy.{name}"
        settings = {} if own is None else dict(_mapping(own, place))
        kept = {key: settings.pop(key) for key in (METHOD, TARGET) if key in settings}
        options = options_of(method_of(node, name))
        _, every = arm(node, name)  # an arm has the settings of its method too
        values = {key: value for key, value in every.items() if key != TARGET}
        known = checked_values(options, {**values, **settings}, place)
        checked[name] = {**kept, **{key: known[key] for key in settings}}
    return checked


_GROUPS: dict[str, Callable[[Config], dict[str, object]]] = {
    "attack": _attack,
    "checkpoint": _checkpoint,
    "cloud": _cloud,
    "data": checked_data,
    "conditions": lambda node: checked_values(options_of(Conditions), node, "conditions"),
    "fleet": lambda node: checked_values(options_of(FleetOptions), node, "fleet"),
    "grid": _grid,
    "metrics": lambda node: checked_values(options_of(MetricsOptions), node, "metrics"),
    "model": checked_model,
    "network": _network,
    "policy": _policy,
    "quarantine": lambda node: checked_values(options_of(QuarantineOptions), node, "quarantine"),
    "protocol": lambda node: checked_values(protocol_options(), node, "protocol"),
    "strategy": _strategy,
}
