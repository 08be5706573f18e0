"""Finds the YAML file of each method beside its code, for the configuration group ``strategy``.

A folder of a search path holds a group under the group's name, and methods have a folder each. So
Hydra is given a source of its own, in which ``strategy/duet`` is ``strategies/duet/duet.yaml``.
Methods of other packages are found by their entry points, where a YAML file of the method's name
lies beside the module, and those of the user's own in ``strategy/`` of ``--config-dir``. No method
is imported.
"""

from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

GROUP = "strategy"
#: A configuration that consists of every method's file; the package's root starts from it.
EVERY = "every_strategy"
_SCHEME = "cdc_flower_methods"
Names = list[str]


@cache
def method_files() -> dict[str, Path]:
    """Lists the YAML file of each method by the method's name, in alphabetical order."""
    found = {
        point.name: path
        for point in entry_points(group="cdc_flower.strategies")
        if (path := _beside(point.module, point.name)) is not None
    }
    folder = Path(str(files("cdc_flower.strategies")))
    own = {path.stem: path for path in folder.glob("*/*.yaml") if path.stem == path.parent.name}
    return dict(sorted({**found, **own}.items()))


def _beside(module: str, name: str) -> Path | None:
    """Finds the file of a method of another package."""
    try:
        spec = find_spec(module)
    except ImportError:
        return None  # the registry of strategies says so where the method is asked for
    path = Path(spec.origin).with_name(f"{name}.yaml") if spec and spec.origin else None
    return path if path is not None and path.is_file() else None


class MethodFiles(ConfigSource):
    """Reads ``strategy/NAME`` from the folder of the method, and makes ``every_strategy``."""

    @staticmethod
    def scheme() -> str:
        """Names the source in search paths."""
        return _SCHEME

    def available(self) -> bool:
        """Tells that there are such files."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Tells whether a path is the group, or the root of all."""
        return config_path.strip("/") in ("", GROUP)

    def is_config(self, config_path: str) -> bool:
        """Tells whether a path is a method's file, or the configuration of all."""
        return _name(config_path) in self._names()

    def list(self, config_path: str, results_filter: ObjectType | None) -> Names:
        """Lists what lies below a path."""
        if config_path.strip("/") == GROUP:
            return [] if results_filter is ObjectType.GROUP else [*method_files()]
        groups = [] if results_filter is ObjectType.CONFIG else [GROUP]
        return groups + ([] if results_filter is ObjectType.GROUP else [EVERY])

    def load_config(self, config_path: str) -> ConfigResult:
        """Reads a file with its header.

        Raises:
            ConfigLoadError: If there is none of that name.
        """
        name = _name(config_path)
        if name not in self._names():
            raise ConfigLoadError(f"{config_path} is not a method of cdc-flower")
        if name == EVERY:
            text = OmegaConf.to_yaml({"defaults": [{GROUP: _every_name()}]})
        else:
            text = method_files()[name.removeprefix(f"{GROUP}/")].read_text(encoding="utf-8")
        header = self._get_header_dict(text)
        return ConfigResult(self.provider, self.full_path(), OmegaConf.create(text), header)

    def _names(self) -> Names:
        return [EVERY, *(f"{GROUP}/{name}" for name in method_files())]


class MethodsSearchPath(SearchPathPlugin):
    """Lets Hydra look for files of methods after all other files."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Adds the source once."""
        path = f"{_SCHEME}://cdc_flower.strategies"
        if all(each.path != path for each in search_path.get_path()):
            search_path.append(provider="cdc-flower", path=path)


def _every_name() -> Names:
    """Lists methods with a file: the package's, installed ones, and those of ``--config-dir``."""
    if not GlobalHydra.instance().is_initialized():
        return [*method_files()]
    return list(GlobalHydra.instance().config_loader().get_group_options(GROUP))


def _name(config_path: str) -> str:
    return config_path.strip("/").removesuffix(".yaml")
