"""Finds the files that a run reads, and names their content."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from cdc_flower.core.files import sha256_of
from cdc_flower.study.folder import RUNS
from cdc_flower.study.trees import Config, Tree
from cdc_flower.tasks.recommendation.readers.files import find_files

#: Keys of ``data`` and ``network`` that name files or folders which are read.
PATHS = ("path", "annotations", "features", "videos", "msvd")
#: A folder of which other paths are made; it is not read as such.
_ROOT = "root"
#: More bytes than these are not read only to be named: some seconds' worth.
MOST_BYTES = 2 * 2**30


def data_facts(configs: Iterable[Config]) -> list[Tree]:
    """Describes each file or folder that these configurations name: path, files, bytes, hash.

    What runs write into a folder of data, such as their results, is left out.

    Args:
        configs: Resolved.
    """
    found: dict[str, Tree] = {}
    for config in configs:
        written = (config.get("out") or RUNS, config.get("cache"))
        beside = [Path(path).resolve() for path in written if path]
        for group in ("data", "network"):
            node = config[group]
            for key, value in node.items():
                if _is_path(key, value) and value not in found:
                    found[value] = _facts(value, node.get("files"), beside)
    return list(found.values())


def _is_path(key: str, value: object) -> bool:
    """Tells whether a key names a path; one of a user's own data does if it looks like one."""
    if not isinstance(value, str) or key == _ROOT or not value:
        return False
    return (key in PATHS or os.sep in value) and Path(value).expanduser().exists()


def _facts(place: str, files: object, beside: Sequence[Path]) -> Tree:
    """Describes a file, or the files of a folder.

    Args:
        place: The path.
        files: Names to look for in a folder, of which the first is read; or a pattern.
        beside: Folders in it that are no data.
    """
    path = Path(place).expanduser()
    found: list[str] = []
    if path.is_dir() and isinstance(files, Sequence) and files and not isinstance(files, str):
        parts = find_files(place, [str(name) for name in files])
        path = parts[0] if len(parts) == 1 else path
        found = [part.relative_to(path).as_posix() for part in parts] if len(parts) > 1 else []
    found = found or _names(path, files if isinstance(files, str) else "*")
    is_data = {name: not _is_below((path / name).resolve(), beside) for name in found}
    names = [name for name in found if is_data[name]]
    num_bytes = sum((path / name).stat().st_size for name in names)
    facts: Tree = {"path": place, "files": len(names), "bytes": num_bytes}
    if num_bytes > MOST_BYTES:
        return {**facts, "sha256": f"not taken of more than {MOST_BYTES / 2**30:.0f} GiB"}
    if path.is_file():
        return {**facts, "sha256": sha256_of(path)}
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{sha256_of(path / name)} {name}\n".encode())
    return {**facts, "sha256": digest.hexdigest()}


def _is_below(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _names(path: Path, pattern: str) -> list[str]:
    """Lists files below a path, sorted; "" for the path itself. Devices and pipes are none."""
    if not path.is_dir():
        return [""] if path.is_file() else []
    names = (each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file())
    return sorted(name for name in names if fnmatch(name, pattern))
