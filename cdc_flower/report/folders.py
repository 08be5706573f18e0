"""Reads run folders and decides which of them stand side by side and which are pooled."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.tables.results import Results, joined, read_results
from cdc_flower.tables.summary import BASELINE, strategies_in_order, summarize

RESULTS_FILE, CONFIG_FILE, LOG_FILE = "results.parquet", "config.yaml", "run.log"

#: Config keys that put runs side by side where they differ; runs that differ in none of them are
#: pooled.
LABEL_KEYS = {
    "data.name": "",
    "model.name": "",
    "network.name": "",
    "conditions.rate_scale": " × rate",
    "protocol.codecs": "",
    "policy.name": "",
    "policy.rate": " of requests",
    "fleet.num_devices": " devices",
}
#: Keys that may differ between pooled runs without a word.
_EXPECTED = (
    "seed",
    "command",
    "run_id",
    "experiment",
    "strategies",
    "hydra",
    "output",
    "time",
    "path",
    "label",
)


@dataclass(frozen=True)
class RunFolder:
    """What one run left behind.

    Attributes:
        name: The name of the folder.
        results: Its results.
        config: Its resolved config; empty where there is none.
        log: The text of its log; empty where there is none.
    """

    name: str
    results: Results
    config: Mapping[str, Any] = field(default_factory=dict)
    log: str = ""

    @property
    def run_id(self) -> str:
        """The run as its rows call it."""
        return ", ".join(str(name) for name in self.results.cells["run_id"].unique()) or self.name

    @property
    def command(self) -> str:
        """The command line that makes the run again; empty where the config does not say."""
        command = self.config.get("command", "")
        return (
            shlex.join(map(str, command))
            if isinstance(command, list | tuple)
            else str(command or "")
        )


@dataclass(frozen=True)
class Comparison:
    """What a report is made of: runs that are pooled or stand side by side.

    Attributes:
        runs: The runs.
        results: Of all runs, from :func:`pooled_results`.
        baseline: The strategy that others are compared with.
    """

    runs: Sequence[RunFolder]
    results: Results
    baseline: str = BASELINE

    @classmethod
    def of(cls, runs: Sequence[RunFolder], baseline: str = BASELINE) -> "Comparison":
        """Pool the results of these runs.

        Raises:
            UserError: If no run has the baseline, unless that is ``static``, which may be absent.
        """
        whole = cls(runs, pooled_results(runs), baseline)
        if baseline not in (*whole.strategies, BASELINE):
            raise unknown_name("strategy", baseline, whole.strategies, "--baseline")
        return whole

    @cached_property
    def strategies(self) -> list[str]:
        """Their names, the baseline first."""
        return strategies_in_order(self.results.cells["strategy"].unique().tolist(), self.baseline)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """From :func:`cdc_flower.tables.summary.summarize`."""
        return summarize(self.results, self.baseline)


def run_folders(paths: Sequence[str | Path]) -> tuple[list[Path], list[Path]]:
    """Tell run folders from what else a pattern such as ``runs/*`` finds, a report of several runs, say.

    Returns:
        Each run folder once, and what is none. A path that is not there, or a run without results,
        is not passed over: it is among the first, for :func:`read_folder` to refuse; and so is
        everything if there is no run at all.
    """
    unique = list(dict.fromkeys(Path(path).resolve() for path in paths))
    others = [path for path in unique if path.exists() and not _is_run(path)]
    if len(others) == len(unique):
        return unique, []
    return [path for path in unique if path not in others], others


def _is_run(path: Path) -> bool:
    return (path / RESULTS_FILE).is_file() or (path / CONFIG_FILE).is_file()


def read_folder(folder: str | Path) -> RunFolder:
    """Read one run folder.

    Raises:
        UserError: If the folder or its results are missing, or its config is not a YAML mapping.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such run folder")
    if not (folder / RESULTS_FILE).is_file():
        raise UserError(f"{folder}: not a run folder, it has no {RESULTS_FILE}")
    config: Any = {}
    path = folder / CONFIG_FILE
    if path.is_file():
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(
                f"{path}: not readable as YAML ({' '.join(str(error).split())})"
            ) from error
        if not isinstance(config, dict):
            raise UserError(f"{path}: a config must be a mapping, got {type(config).__name__}")
    log = folder / LOG_FILE
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return RunFolder(folder.resolve().name, read_results(folder / RESULTS_FILE), config, text)


def arm_settings(runs: Sequence[RunFolder]) -> dict[tuple[str, str], dict[str, Any]]:
    """The settings of each task and strategy; those of an arm over those of its method, which is among them.

    Empty where the configurations name no task. Of runs that differ the last one counts.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for run in runs:
        for config in (run.config, *(run.config.get("also") or ())):
            configured = config.get("strategy") or {}
            for name in config.get("strategies") or ():
                own = dict(configured.get(name) or {})
                method = own.get("method", name)
                found[str(config.get("task", "")), str(name)] = {
                    **dict(configured.get(method) or {}),
                    **own,
                    "method": method,
                }
    return found


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined with dots: ``{"data": {"name": "x"}}`` becomes ``{"data.name": "x"}``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def run_labels(runs: Sequence[RunFolder]) -> list[str]:
    """For each run what sets it apart, such as ``"movielens · 4g"``; empty where runs differ by seed only."""
    configs = [flatten(run.config) for run in runs]
    differ = [
        key for key in LABEL_KEYS if len({str(config.get(key, "–")) for config in configs}) > 1
    ]
    return [
        " · ".join(f"{config.get(key, '–')}{LABEL_KEYS[key]}" for key in differ)
        for config in configs
    ]


def silent_differences(runs: Sequence[RunFolder]) -> list[str]:
    """Config keys in which runs of one label differ although they are pooled, apart from the seed and names."""
    labels, configs = run_labels(runs), [flatten(run.config) for run in runs]
    found = set()
    for label in set(labels):
        same = [config for config, other in zip(configs, labels, strict=True) if other == label]
        for key in set().union(*same):
            # A path or a name of the run is no setting of it.
            if (
                key.split(".")[0] not in _EXPECTED
                and len({str(config.get(key)) for config in same}) > 1
            ):
                found.add(key)
    return sorted(found)


def pooled_results(runs: Sequence[RunFolder]) -> Results:
    """The results of all runs with their label in a column ``run``; a run id that two folders share is told apart."""
    seen: set[str] = set()
    parts: list[Results] = []
    for run, label in zip(runs, run_labels(runs), strict=True):
        own = run.results.assign(run=label)
        names = own.cells["run_id"].cat.remove_unused_categories()
        if seen & set(names.cat.categories):
            places = [f"{name} ({run.name}, {len(parts)})" for name in names.cat.categories]
            own = own.assign(run_id=names.cat.rename_categories(places))
        seen |= set(names.cat.categories)
        parts.append(own)
    return joined(parts)
