"""Makes what plug-ins register choosable by name, as the package's own YAML files are.

Plug-ins are the modules that the key ``plugins`` names, which are imported before a configuration
is composed, and installed packages with entry points. For what they register without a YAML file,
one is made of its options: ``model=mine`` then stands for the class with its defaults. Strategies
need none. Nothing slow is imported where there is no plug-in.
"""

import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from typing import cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import defaults_of, is_plain
from cdc_flower.core.registry import NAME, OWN_KINDS, Entry, Registry, is_of_the_package
from cdc_flower.core.targets import TARGET, import_plugin
from cdc_flower.study.trees import Tree

PLUGINS = "plugins"
#: Kind, as entry points have it -> the registry. A registry is imported when it is needed.
REGISTRIES = {
    "strategies": "cdc_flower.strategies.registry:strategies",
    "models": "cdc_flower.models.registry:models",
    "tasks": "cdc_flower.tasks.registry:tasks",
    "data": "cdc_flower.tasks.data:data",
    "networks": "cdc_flower.simulations.networks:networks",
    "policies": "cdc_flower.simulations.requests.policies:policies",
    "attacks": "cdc_flower.simulations.attacks:attacks",
    "grids": "cdc_flower.simulations.grids.kinds:grids",
    "codecs": "cdc_flower.simulations.protocol.codecs:codecs",
}
#: Kind -> the configuration group of which a name is a choice.
_GROUPS = {
    "models": "model",
    "data": "data",
    "networks": "network",
    "policies": "policy",
    "attacks": "attack",
    "grids": "grid",
}
OwnEntry = Entry[object, object]


def load_plugins(names: Iterable[str]) -> None:
    """Imports plug-ins, and makes choices of all that they and installed packages register.

    Raises:
        UserError: If there is no such module, it cannot be imported, or what it registers is of
            another kind.
    """
    import_plugins(names)
    for kind, group in _GROUPS.items():
        for entry in own_entries(kind):
            _store(group, entry.name, _node_of(group, entry))
    for entry in own_entries("tasks"):
        _store("task", entry.name, _task_file(entry), package="_global_")


def import_plugins(names: Iterable[str]) -> None:
    """Imports plug-ins.

    Raises:
        UserError: If there is no such module, or it cannot be imported.
    """
    for name in names:
        import_plugin(name, PLUGINS)


def plugins_named(changes: Sequence[Override], config_name: str) -> list[str]:
    """Lists plug-ins that a command line names, or the files that it chooses for the whole.

    Args:
        changes: Overrides of the command line. Hydra must be initialized.
        config_name: Of the root configuration.

    Raises:
        UserError: If they are no list of names.
    """
    given = [change for change in changes if change.key_or_group == PLUGINS]
    values = [change.value() for change in given if not change.is_sweep_override()]
    for name in [config_name, *_overlays(changes)]:
        values.append(_raw(name).get(PLUGINS, []))
    names: list[str] = []
    for value in values:
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise UserError(
                f"{PLUGINS} must be a list of modules, such as [my_module], got {value}"
            )
        names += value
    return list(dict.fromkeys(names))


def may_have_more(kind: str) -> bool:
    """Tells whether others may have registered something of a kind; nothing is imported for it."""
    return kind in OWN_KINDS or bool(entry_points(group=f"cdc_flower.{kind}"))


def own_entries(kind: str) -> Iterator[OwnEntry]:
    """Lists what others than the package have registered of a kind."""
    if not may_have_more(kind):
        return
    registry: Registry[object, object] = pkgutil.resolve_name(REGISTRIES[kind])
    yield from (entry for entry in registry.entries() if not is_of_the_package(entry.value))


def _overlays(changes: Sequence[Override]) -> list[str]:
    """Lists the chosen files that set keys of the whole."""
    return [
        f"{change.key_or_group}/{change.value()}"
        for change in changes
        if change.key_or_group in ("task", "experiment") and not change.is_sweep_override()
    ]


def _raw(name: str) -> Tree:
    """Reads one file as it is, without those that it starts from; {} if there is none."""
    loader = cast(ConfigLoaderImpl, GlobalHydra.instance().config_loader())
    result = loader.repository.load_config(name)
    values = {} if result is None else OmegaConf.to_container(result.config, resolve=False)
    return {str(key): value for key, value in values.items()} if isinstance(values, dict) else {}


def _node_of(group: str, entry: OwnEntry) -> Tree:
    """Makes the node of a registered class with its defaults."""
    from cdc_flower.study.nodes import node_options

    options = node_options(group, {NAME: entry.name})
    defaults = defaults_of({name: each for name, each in options.items() if name != TARGET})
    plain = {key: value for key, value in defaults.items() if is_plain(value)}
    return {**plain, NAME: entry.name}


def _task_file(entry: OwnEntry) -> Tree:
    """Makes the file of a registered task, with the data and the model that alone fit it."""
    from cdc_flower.models.registry import models
    from cdc_flower.tasks.data import data

    wanted = getattr(entry.facts, "reads", "")
    fitting = {
        "data": [each.name for each in data.entries() if each.facts.gives == wanted],
        "model": [each.name for each in models.entries() if each.facts.reads == wanted],
    }
    chosen = [{f"override /{kind}": names[0]} for kind, names in fitting.items() if len(names) == 1]
    return {"defaults": [*chosen, "_self_"], "task": entry.name}


def _store(group: str, name: str, node: Tree, package: str | None = None) -> None:
    """Stores what a YAML file of a group would hold."""
    ConfigStore.instance().store(name, node, group=group, package=package, provider="plug-ins")
