"""Reads run folders and decides which of them stand side by side and which are pooled."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.tables.parts import PARTS, has_parts
from cdc_flower.tables.quarantined import frame_of, read_quarantined
from cdc_flower.tables.results import Results, joined, read_results
from cdc_flower.tables.summary import BASELINE, strategies_in_order, summarize

RESULTS_FILE = "results.parquet"
CONFIG_FILE = "config.yaml"
LOG_FILE = "run.log"
PROVENANCE_FILE = "provenance.yaml"
#: Task -> strategy -> sentences on its training.
NOTES_FILE = "notes.yaml"
#: Replies that were left out; only where there are any.
QUARANTINE_FILE = "quarantine.csv"

Config = Mapping[str, object]

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
    "attack.name": "",
    "attack.kind": "",
    "attack.share": " hostile",
    "fleet.num_devices": " devices",
}
#: Keys that may differ between pooled runs without a word: the seed, and names and paths, which are
#: no settings.
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
    """The files of one run.

    Attributes:
        name: The name of the folder.
        results: Its results.
        config: Its resolved config; empty where there is none.
        log: The text of its log; empty where there is none.
        provenance: Where it comes from; empty where the folder does not say.
        notes: Task -> strategy -> sentences on its training, without its name and a full stop.
        quarantined: Replies that were left out, as ``quarantine.csv`` lists them.
    """

    name: str
    results: Results
    config: Config = field(default_factory=dict)
    log: str = ""
    provenance: Config = field(default_factory=dict)
    notes: Config = field(default_factory=dict)
    quarantined: pd.DataFrame = field(default_factory=lambda: frame_of("", "", ()))

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
    """Runs that a report pools or puts side by side.

    Attributes:
        runs: The runs.
        played: Results of honest devices with their controls, from :func:`pooled_results`.
        baseline: The strategy that others are compared with.
        primary: The strategy whose gain was named beforehand as the one to test; empty: all gains
            are corrected for their number.
    """

    runs: Sequence[RunFolder]
    played: Results
    baseline: str = BASELINE
    primary: str = ""

    @classmethod
    def of(
        cls, runs: Sequence[RunFolder], baseline: str = BASELINE, primary: str = ""
    ) -> "Comparison":
        """Pools the results of these runs.

        Args:
            runs: The runs.
            baseline: The strategy that others are compared with.
            primary: The strategy whose gain was named beforehand; empty: none.

        Raises:
            UserError: If no run has the baseline, unless that is ``static``, which may be absent;
                or none has the primary strategy.
        """
        whole = cls(runs, pooled_results(runs), baseline, primary)
        if baseline not in (*whole.strategies, BASELINE):
            raise unknown_name("strategy", baseline, whole.strategies, "--baseline")
        if primary and primary not in whole.strategies:
            raise unknown_name("strategy", primary, whole.strategies, "--primary")
        return whole

    def against(self, baseline: str) -> "Comparison":
        """Compares the same runs with another baseline.

        Raises:
            UserError: If no run has it.
        """
        if baseline not in self.strategies:
            raise unknown_name("strategy", baseline, self.strategies, "--baseline")
        return replace(self, baseline=baseline)

    def within(self, start: int, stop: int) -> "Comparison":
        """Counts the segments from ``start`` to before ``stop`` alone.

        Raises:
            UserError: If no run has one of them.
        """
        segments = self.played.cells["segment"]
        kept = ((segments >= start) & (segments < stop)).to_numpy(np.bool_)
        if not kept.any():
            raise UserError(
                f"--segments must be START:STOP with a segment of 0 to {segments.max()}, "
                f"got {start}:{stop}"
            )
        return replace(self, played=self.played.where(kept))

    @cached_property
    def results(self) -> Results:
        """Of strategies and reference lines, without controls."""
        return self.played.without_controls()

    @cached_property
    def strategies(self) -> list[str]:
        """Their names, the baseline first."""
        return strategies_in_order(self.results.cells["strategy"].unique().tolist(), self.baseline)

    @property
    def notes(self) -> list[str]:
        """Sentences on the trainings of all runs; of several runs each names its own."""
        return [words for _, words in self._notes]

    @property
    def notes_of_base(self) -> list[str]:
        """Selects notes of no strategy in the table, which no footnote says."""
        return [words for name, words in self._notes if name not in self.strategies]

    @cached_property
    def _notes(self) -> list[tuple[str, str]]:
        """Strategies and sentences."""
        found: list[tuple[str, str]] = []
        for run in self.runs:
            where = f"{run.name}, " if len(self.runs) > 1 else ""
            tasks = [task for task in run.notes if part_of(run.notes, task)]
            for task in tasks:
                place = f"{task}, " if len(tasks) > 1 else ""
                for name, sentences in part_of(run.notes, task).items():
                    for words in sentences if isinstance(sentences, list) else ():
                        found.append((str(name), f"{where}{place}{name}: {words}."))
        return found

    @cached_property
    def summary(self) -> pd.DataFrame:
        """From :func:`cdc_flower.tables.summary.summarize`."""
        return summarize(self.played, self.baseline, self.primary)


def run_folders(paths: Sequence[str | Path]) -> tuple[list[Path], list[Path]]:
    """Tells run folders from other files and folders that a pattern such as ``runs/*`` finds.

    Returns:
        Each run folder once, and the others. A path that is not there, or a run without results,
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
    """Reads one run folder; of an unfinished run, what is finished of it.

    Raises:
        UserError: If the folder or its results are missing, or its config is not a YAML mapping.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such run folder")
    results = folder / RESULTS_FILE
    if not results.is_file():
        results = folder / PARTS
        if not has_parts(folder):
            raise UserError(f"{folder}: not a run folder, it has no {RESULTS_FILE}")
    config = _read_config(folder / CONFIG_FILE)
    log = folder / LOG_FILE
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    provenance = _read_config(folder / PROVENANCE_FILE)
    table = read_results(results)
    notes = _read_config(folder / NOTES_FILE)
    left = read_quarantined(folder / QUARANTINE_FILE)
    return RunFolder(folder.resolve().name, table, config, text, provenance, notes, left)


def _read_config(path: Path) -> Config:
    if not path.is_file():
        return {}
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        words = " ".join(str(error).split())
        raise UserError(f"{path}: not readable as YAML ({words})") from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: a config must be a mapping, got {type(config).__name__}")
    return config


def part_of(config: Config, key: str) -> Config:
    """Reads the mapping at a key of a configuration; empty where there is none."""
    found = config.get(key)
    return found if isinstance(found, Mapping) else {}


def list_at(config: Config, key: str) -> Sequence[object]:
    """Reads the list at a key of a configuration; empty where there is none."""
    found = config.get(key)
    return found if isinstance(found, list | tuple) else ()


def arm_settings(runs: Sequence[RunFolder]) -> dict[tuple[str, str], dict[str, object]]:
    """Collects the settings of each task and strategy.

    Those of an arm count before those of its method, which is among them as ``method``. Empty where
    the configurations name no task. Of runs that differ the last one counts.
    """
    found: dict[tuple[str, str], dict[str, object]] = {}
    for run in runs:
        others = [config for config in list_at(run.config, "also") if isinstance(config, Mapping)]
        for config in (run.config, *others):
            configured = part_of(config, "strategy")
            for name in list_at(config, "strategies"):
                own = part_of(configured, str(name))
                method = own.get("method", name)
                found[str(config.get("task", "")), str(name)] = {
                    **part_of(configured, str(method)),
                    **own,
                    "method": method,
                }
    return found


def flatten(config: Config, prefix: str = "") -> dict[str, object]:
    """Joins nested keys with dots: ``{"data": {"name": "x"}}`` becomes ``{"data.name": "x"}``."""
    flat: dict[str, object] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def run_labels(runs: Sequence[RunFolder]) -> list[str]:
    """Labels each run by the settings that set it apart, such as ``"movielens · 4g"``.

    Labels are empty where runs differ by seed only.
    """
    configs = [flatten(run.config) for run in runs]
    differ = [
        key for key in LABEL_KEYS if len({str(config.get(key, "–")) for config in configs}) > 1
    ]
    return [
        " · ".join(f"{config.get(key, '–')}{LABEL_KEYS[key]}" for key in differ)
        for config in configs
    ]


def silent_differences(runs: Sequence[RunFolder]) -> list[str]:
    """Lists config keys in which runs of one label differ although they are pooled.

    The seed, names and paths are left out.
    """
    labels = run_labels(runs)
    configs = [flatten(run.config) for run in runs]
    found = set()
    for label in set(labels):
        same = [config for config, other in zip(configs, labels, strict=True) if other == label]
        for key in set().union(*same):
            if (
                key.split(".")[0] not in _EXPECTED
                and len({str(config.get(key)) for config in same}) > 1
            ):
                found.add(key)
    return sorted(found)


def pooled_results(runs: Sequence[RunFolder]) -> Results:
    """Joins the results of all runs, with their labels in a column ``run``.

    A run id that two folders share becomes one for each of them. Hostile devices are left out.
    """
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
    return joined(parts).honest()
