"""The YAML files of ``cdc-flower``, which Hydra reads as ``pkg://cdc_flower.configs``.

Files of the group ``strategy`` lie beside their methods. Importing this lets Hydra find them.
"""

from hydra.core.plugins import Plugins

from cdc_flower.configs.methods import MethodFiles, MethodsSearchPath


def find_methods() -> None:
    """Lets Hydra find the files of methods, also after its state was set back, which forgets it."""
    for plugin in (MethodFiles, MethodsSearchPath):
        Plugins.instance().register(plugin)


find_methods()
