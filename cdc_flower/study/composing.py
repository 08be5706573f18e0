"""Composes the package's files with Hydra: without torch, and with errors in one sentence."""

import copy
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import hydra
import yaml
from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import cdc_flower.configs
from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.study.trees import Tree

CONFIGS = f"pkg://{cdc_flower.configs.__name__}"
VERSION_BASE = "1.3"
ROOT = "config"


@contextmanager
def hydra_at(config_dir: str | None = None) -> Iterator[None]:
    """Sets Hydra up with the package's files and a further folder of them, until the end.

    Whoever had set it up for files of their own finds it as it was.
    """
    cdc_flower.configs.find_methods()
    search_path = create_config_search_path(CONFIGS)
    if config_dir is not None:
        search_path.prepend(
            provider="command-line",
            path=f"file://{os.path.abspath(config_dir)}",
            anchor=SearchPathQuery(provider="schema"),
        )
    before = GlobalHydra.instance().hydra  # a process has one, and a search path is for good
    version_before = hydra.version.getbase()
    hydra.version.setbase(VERSION_BASE)
    GlobalHydra.instance().clear()
    Hydra.create_main_hydra2(task_name="cdc-flower", config_search_path=search_path)
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = before
        VersionBase.instance().version_base = version_before


def composed_config(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """Composes a configuration, with Hydra's own keys.

    Raises:
        UserError: In one sentence, where Hydra cannot compose it.
    """
    with _told(config_name):
        return compose(config_name, overrides=list(overrides), return_hydra_config=True)


def check_values(composed: DictConfig, changes: Sequence[Override], config_name: str) -> None:
    """Checks that values can be set where files are composed already, as Hydra would set them.

    That is what composing them anew would do, but for reading all files again.

    Args:
        composed: From :func:`composed_config`; left as it is.
        changes: Overrides of keys, not of groups.
        config_name: Of the root configuration.

    Raises:
        UserError: In one sentence, where one cannot be set.
    """
    with _told(config_name):
        ConfigLoaderImpl._apply_overrides_to_config(list(changes), copy.deepcopy(composed))


@contextmanager
def _told(config_name: str) -> Iterator[None]:
    """Tells in one sentence why Hydra cannot compose a configuration."""
    try:
        yield
    except MissingConfigException as error:
        raise _missing(error, config_name) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{mark.name}:{mark.line + 1}" if mark else "config"
        raise UserError(f"{place}: must be YAML ({error.problem})") from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
        parts = [str(part).splitlines()[0].rstrip(".") for part in (error, cause) if part]
        raise UserError(f"the configuration cannot be composed: {': '.join(parts)}") from error


def _missing(error: MissingConfigException, config_name: str) -> UserError:
    """Makes the error for a missing file that another file, or the command line, names."""
    place = re.search(r"In '([^']+)'", str(error))
    name = (error.missing_cfg_file or "").removesuffix(".yaml")
    group, _, choice = name.rpartition("/")
    if not group:
        return unknown_name("configuration", name, options_of_group(""), "--config-name")
    where = place[1] if place and place[1] != config_name else group
    return unknown_name(f"choice of {group}", choice, options_of_group(group), where)


def options_of_group(group: str) -> list[str]:
    """Lists the names of the files of a group; of the root for an empty name."""
    return list(GlobalHydra.instance().config_loader().get_group_options(group))


def group_names() -> list[str]:
    """Lists the groups of files, without Hydra's own."""
    found = GlobalHydra.instance().config_loader().get_group_options("", ObjectType.GROUP)
    return [name for name in found if name != "hydra"]


def plain(config: DictConfig) -> Tree:
    """Turns a configuration into a tree of keys, unresolved and without Hydra's own."""
    values = OmegaConf.to_container(config, resolve=False, throw_on_missing=False)
    if not isinstance(values, dict):
        raise TypeError(f"config must be a mapping, got {type(values).__name__}")
    return {str(key): value for key, value in values.items() if key != "hydra"}
