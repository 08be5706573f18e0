"""Finds what the results of a run depend on beside its configuration: code, versions, data."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import cast

from cdc_flower.study.check import result_values
from cdc_flower.study.setup import Setup
from cdc_flower.study.trees import Config, Tree
from cdc_flower.training.own_code import own_code
from cdc_flower.training.training_code import hash_of

#: Installed packages that may change a number of the table, or a byte of its file.
PACKAGES = ("torch", "flwr", "numpy", "pyarrow")
#: Parts of the package that no row depends on.
_BESIDE = ("report", "cli.py", "client_app.py", "server_app.py")
_HASH_DIGITS = 16

#: Named groups of named values, as JSON holds them.
Facts = dict[str, dict[str, str]]


def facts_of(
    configs: Sequence[Config],
    setups: Sequence[Setup],
    ids: Sequence[str],
    data: Sequence[Tree],
) -> Facts:
    """Lists what must be the same where a run goes on.

    Args:
        configs: One for each task.
        setups: Made from them.
        ids: The ``run_id`` of each.
        data: Of :func:`~cdc_flower.study.data_files.data_facts`.
    """
    tasks = [str(config["task"]) for config in configs]
    return {
        "run_id": dict(zip(tasks, ids, strict=True)),
        "version": versions(),
        "code": {"cdc_flower": code_hash(), **own_code_of(setups)},
        "data": hashes_of(data),
    }


def versions() -> dict[str, str]:
    """Lists the versions of Python and of :data:`PACKAGES`."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **{name: version(name) for name in PACKAGES}}


def code_hash() -> str:
    """Hashes the sources of this package on which rows may depend."""
    package = Path(__file__).parents[1]
    beside = tuple(str(package / name) for name in _BESIDE)
    files = (path for path in sorted(package.rglob("*.py")) if not str(path).startswith(beside))
    return hash_of(files, package)[:_HASH_DIGITS]


def own_code_of(setups: Iterable[Setup]) -> dict[str, str]:
    """Hashes the code of a user's own that strategies, models, data and tasks come from."""
    objects = [
        each
        for setup in setups
        for each in (*setup.strategies.values(), setup.model, setup.stream, setup.task)
    ]
    kinds = dict.fromkeys(type(each) for each in objects)
    hashes = {f"{kind.__module__}.{kind.__qualname__}": own_code(kind) for kind in kinds}
    return {name: digest for name, digest in hashes.items() if digest}


def hashes_of(data: Iterable[Tree]) -> dict[str, str]:
    """Names the content of data files by their paths."""
    return {
        str(each["path"]): f"{str(each['sha256'])[:_HASH_DIGITS]}, {each['bytes']} bytes"
        for each in data
    }


def difference(kept: Mapping[str, object], now: Facts) -> str:
    """Names the first fact that differs, as ``version torch is 2.9, was 2.8``; empty if none does.

    Args:
        kept: Of the run that was interrupted.
        now: Of this one.
    """
    for group, values in now.items():
        before = kept.get(group)
        old = cast(Mapping[str, str], before) if isinstance(before, Mapping) else {}
        for name in (*values, *old):
            if values.get(name) != old.get(name):
                words = f"is {values.get(name, 'absent')}, was {old.get(name, 'absent')}"
                return f"{group} {name} {words}"
    return ""


def changed_key(kept: Config, now: Config) -> str:
    """Names the first key of two configurations that differs and counts, as ``seed is 1, was 0``.

    Empty if none does.
    """
    old, new = (_flat(result_values(config)) for config in (kept, now))
    for key in (*new, *old):
        if new.get(key) != old.get(key):
            return f"{key} is {new.get(key, 'absent')}, was {old.get(key, 'absent')}"
    return ""


def _flat(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat
