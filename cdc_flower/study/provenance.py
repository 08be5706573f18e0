"""Writes down where a run comes from: machine, libraries, code, data, command and times.

Results are the same to the bit where machine, libraries, code and data are. None of it ends a run:
what cannot be found out is ``unknown``.
"""

import logging
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
import yaml

from cdc_flower.core.files import write_whole
from cdc_flower.core.version import __version__
from cdc_flower.report.folders import PROVENANCE_FILE
from cdc_flower.study.data_files import data_facts
from cdc_flower.study.trees import Config, Tree
from cdc_flower.training.training_code import hash_of

log = logging.getLogger("cdc_flower")

UNKNOWN = "unknown"
#: Packages on which numbers may depend, and Ray, which plays devices.
PACKAGES = ("torch", "flwr", "numpy", "pandas", "scipy", "scikit-learn", "pyarrow", "ray")
#: Variables that change which instructions libraries use, or on how many threads.
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "NPY_DISABLE_CPU_FEATURES",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)
#: On which PyTorch computes: for small products a second one costs more than it gives.
THREADS = 1
_GIT_WAIT_S = 2.0


def provenance_of(config: Config, data: Sequence[Tree] | None = None) -> Tree:
    """Finds out what the results of a configuration rest on beside it.

    Args:
        config: Resolved; the data of those under ``also`` count too.
        data: Facts of its data files, if they are known; None: they are read.
    """
    return {
        "machine": {
            "cpu": _or_unknown(_cpu),
            "capability": _or_unknown(torch.backends.cpu.get_cpu_capability),
            "cores": os.cpu_count() or UNKNOWN,
            "torch_threads": THREADS,
            "os": _or_unknown(platform.platform),
            "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        },
        "blas": {"numpy": _or_unknown(_blas_of_numpy), "torch": _or_unknown(_blas_of_torch)},
        "versions": {
            "cdc-flower": __version__,
            "python": platform.python_version(),
            **{name: _version_of(name) for name in PACKAGES},
        },
        "code": _code(Path(__file__).parents[1]),
        "data": _or_unknown(lambda: _data_of(config) if data is None else list(data)),
    }


def _data_of(config: Config) -> list[Tree]:
    return data_facts([config, *config.get("also", ())])


def begin(out: Path, config: Config, run_id: str, data: Sequence[Tree] | None = None) -> None:
    """Writes the file of a run that begins; of one that goes on, what differs and the time.

    Args:
        out: The run folder.
        config: Resolved.
        run_id: Of the run.
        data: As for :func:`provenance_of`.
    """

    def written() -> Tree:
        path = out / PROVENANCE_FILE
        names = {
            "run_id": run_id,
            "seed": config["seed"],
            "command": str(config.get("command", "")),
        }
        now = {"started": _now(), "ended": None, **provenance_of(config, data)}
        if not path.is_file():
            return {**names, **now}
        first = _read(path)
        changed = {key: value for key, value in now.items() if first.get(key) != value}
        return {**first, "resumed": [*first.get("resumed", ()), changed]}

    _write(out, written)


def end(out: Path) -> None:
    """Adds the time at which a run ended; does nothing where its beginning was not written."""
    if not (out / PROVENANCE_FILE).is_file():
        return

    def written() -> Tree:
        found = _read(out / PROVENANCE_FILE)
        latest = [*found.get("resumed", ())]
        if not latest:
            return {**found, "ended": _now()}
        return {**found, "resumed": [*latest[:-1], {**latest[-1], "ended": _now()}]}

    _write(out, written)


def _write(out: Path, made: Callable[[], Tree]) -> None:
    try:
        text = yaml.safe_dump(made(), sort_keys=False, allow_unicode=True)
        write_whole(out / PROVENANCE_FILE, text.encode())
    # A run is not lost because nobody knows where it comes from.
    except Exception as error:
        log.warning("%s is not written: %s", out / PROVENANCE_FILE, error)


def _read(path: Path) -> Tree:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _or_unknown(find: Callable[[], object]) -> object:
    try:
        return find()
    except Exception:
        return UNKNOWN


def _cpu() -> str:
    """Names the processor as the system does."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine() or UNKNOWN


def _blas_of_numpy() -> Tree:
    """Names the library of NumPy's products and the kind of CPU that it found."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    facts = {"name": str(blas["name"]), "version": str(blas["version"])}
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return facts
    for found in threadpool_info():
        if found.get("user_api") == "blas":
            facts["architecture"] = str(found.get("architecture", UNKNOWN))
            facts["threads"] = str(found.get("num_threads", UNKNOWN))
            break
    return facts


def _blas_of_torch() -> str:
    """Names the libraries of PyTorch's products."""
    lines = [line.strip("- ") for line in torch.__config__.show().splitlines()]
    return "; ".join(line for line in lines if "Math Kernel" in line or "MKL-DNN" in line)


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _code(package: Path) -> Tree:
    """Hashes the sources of the package, and names its commit where it is in a checkout."""
    sources = sorted([*package.rglob("*.py"), *package.rglob("*.yaml")])
    facts: Tree = {"sha256": _or_unknown(lambda: hash_of(sources, package))}
    try:
        # A package that is installed somewhere in a checkout is none of its files.
        _git(package, "ls-files", "--error-unmatch", "__init__.py")
        commit = _git(package, "rev-parse", "HEAD")
        return {**facts, "commit": commit, "changed": bool(_git(package, "status", "-s", "."))}
    except (OSError, subprocess.SubprocessError):
        return {**facts, "commit": UNKNOWN, "changed": UNKNOWN}


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_GIT_WAIT_S,
        check=True,
    )
    return done.stdout.strip()


def differences(before: Config, now: Config) -> Iterator[str]:
    """Says in which facts two provenances differ, those of the machine first.

    Args:
        before: As a run folder holds it.
        now: From :func:`provenance_of`.
    """
    for section, found in now.items():
        yield from _differences(section, before.get(section, UNKNOWN), found)


def _differences(place: str, before: object, now: object) -> Iterator[str]:
    if isinstance(before, list) and isinstance(now, list):
        before, now = (
            {str(number): each for number, each in enumerate(part)} for part in (before, now)
        )
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*now, *before]):
            yield from _differences(f"{place}.{key}", before.get(key), now.get(key))
    elif before != now:
        yield f"{place}: {_shown(before)} then, {_shown(now)} now"


def _shown(value: object) -> str:
    return "nothing" if value is None else str(value)
