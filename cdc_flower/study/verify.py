"""Plays a sample of a finished run again, and compares it with the table in the run folder."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow.parquet as pq
import torch

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.progress import Bars
from cdc_flower.core.seeds import generator
from cdc_flower.report.folders import RESULTS_FILE, RunFolder, list_at, read_folder
from cdc_flower.simulations.grids.codecs import WithCodecs
from cdc_flower.simulations.grids.requests import WithRequests
from cdc_flower.simulations.protocol.encoding import codecs_of
from cdc_flower.simulations.requests.setup import requests_of
from cdc_flower.study.cloud import train_cloud
from cdc_flower.study.play import play
from cdc_flower.study.provenance import THREADS, differences, provenance_of
from cdc_flower.study.run import run_id_of
from cdc_flower.study.session import Session
from cdc_flower.study.setup import NO_EXPERIMENT, Setup, grid_of, prepare
from cdc_flower.study.table_differences import Difference, table_differences
from cdc_flower.study.trees import Config
from cdc_flower.tables.long_table import schema

#: What numbers of one run on two kinds of CPU may differ by, as a share of their size.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Sample:
    """Says what of a run is played again.

    Args:
        segments: How many, from the first on; as many as there are where these are fewer.
        strategies: Names; None draws ``count`` of them.
        count: How many strategies are drawn.
        seed: Of the draw.
        cached: Whether trained parameters may come from the cache of the run.
    """

    segments: int = 2
    strategies: Sequence[str] | None = None
    count: int = 2
    seed: int = 0
    cached: bool = False

    def __post_init__(self) -> None:
        if self.segments < 1:
            raise UserError(f"--segments must be >= 1, got {self.segments}")


class Played(NamedTuple):
    """One strategy of one task, and how many of its segments are in the table."""

    task: str
    strategy: str
    segments: int


@dataclass(frozen=True)
class Verdict:
    """Says how a strategy that was played again compares with the table.

    Attributes:
        played: Which, and how many segments of it were played.
        num_rows: Rows that were compared.
        differences: Columns that differ.
    """

    played: Played
    num_rows: int
    differences: Sequence[Difference] = field(default_factory=tuple)

    @property
    def is_exact(self) -> bool:
        """Tells whether all is equal to the bit."""
        return not self.differences

    @property
    def is_within(self) -> bool:
        """Tells whether nothing differs by more than between two kinds of CPU."""
        return all(each.is_within(TOLERANCE) for each in self.differences)

    def __str__(self) -> str:
        name = f"{self.played.task}, {self.played.strategy}"
        what = f"{self.played.segments} segments, {self.num_rows:,} rows"
        if self.is_exact:
            return f"{name}: equal to the bit ({what})"
        end = f"within {TOLERANCE:g}" if self.is_within else f"NOT within {TOLERANCE:g}"
        return f"{name}: {end} ({what}); {'; '.join(map(str, self.differences))}"


def verdicts(folder: str | Path, sample: Sample) -> Iterator[Verdict]:
    """Plays a sample of a run again as its configuration says, and compares every row and column.

    Args:
        folder: A run folder.
        sample: What is played.

    Yields:
        A verdict on each strategy as soon as it was played.

    Raises:
        UserError: If the folder holds no results or no configuration that can be played, or a
            strategy is not in them.
    """
    run = read_folder(folder)
    configs = configs_of(run)
    chosen = chosen_of(run, configs, sample)
    for config in configs:
        own = [each for each in chosen if each.task == config.get("task")]
        if not own:
            continue
        config = config if sample.cached else {**config, "cache": None}
        for played, rows in _replayed(config, own):
            stored = stored_rows(Path(folder), played)
            yield Verdict(played, len(rows), table_differences(stored, rows))


def told_differences(folder: str | Path) -> list[str]:
    """Says what of machine, libraries, code and data is another than when the run was played.

    Raises:
        UserError: If the folder holds no results or no configuration.
    """
    run = read_folder(folder)
    if not run.provenance:
        return ["the folder does not say where the run was played"]
    (config, *_) = configs_of(run)
    found = list(differences(run.provenance, provenance_of(config)))
    return found or ["machine, libraries, code and data are those of the run"]


def configs_of(run: RunFolder) -> list[Config]:
    """Lists the configurations of a run, one for each of its tasks.

    Raises:
        UserError: If the folder holds none.
    """
    if not run.config:
        raise UserError(f"{run.name}: it has no config.yaml, so it cannot be played again")
    also = [config for config in list_at(run.config, "also") if isinstance(config, dict)]
    return [run.config, *also]


def chosen_of(run: RunFolder, configs: Sequence[Config], sample: Sample) -> list[Played]:
    """Chooses among the strategies of a run; reference lines are none.

    Args:
        run: With its table.
        configs: Of its tasks.
        sample: Names, or how many are drawn.

    Raises:
        UserError: If the table holds none, or one that is named is not in it.
    """
    cells = run.results.cells
    known: list[Played] = []
    for config in configs:
        for name in list_at(config, "strategies"):
            task = str(config.get("task"))
            mine = cells[(cells["task"] == task) & (cells["strategy"] == name)]
            if len(mine):
                segments = min(sample.segments, int(mine["segment"].max()) + 1)
                known.append(Played(task, str(name), segments))
    if not known:
        raise UserError(f"{run.name}: its table has no segment of a strategy that it configures")
    if sample.strategies is None:
        drawn = generator(sample.seed, "verify").permutation(len(known))[: sample.count]
        return [known[index] for index in sorted(drawn)]
    names = [each.strategy for each in known]
    for name in sample.strategies:
        if name not in names:
            raise unknown_name("strategy", name, set(names), "--strategies")
    return [each for each in known if each.strategy in sample.strategies]


def stored_rows(folder: Path, played: Played) -> pd.DataFrame:
    """Reads the rows of some segments of a strategy, with every column of the table."""
    path = folder / RESULTS_FILE
    held = set(pq.read_schema(path).names)
    rows = pq.read_table(
        path,
        columns=[name for name in schema().names if name in held],
        filters=[
            ("task", "==", played.task),
            ("strategy", "==", played.strategy),
            ("segment", "<", played.segments),
        ],
    )
    return rows.to_pandas()


def _replayed(config: Config, chosen: Sequence[Played]) -> Iterator[tuple[Played, pd.DataFrame]]:
    """Trains and plays strategies of one task from the start, and gives the rows of each."""
    setup = _prepared(config)
    torch.set_num_threads(THREADS)
    with _quiet(), Bars() as bars:
        cloud = train_cloud(config, setup.stream, setup.model, bars.bar)
        grid = grid_of(config, setup)
        try:
            for played in chosen:
                strategy = setup.strategies[played.strategy]
                strategy.prepare(cloud)
                requests = requests_of(config["policy"], setup.task, setup.stream, cloud, strategy)
                frames: list[pd.DataFrame] = []
                play(
                    strategy,
                    grid,
                    setup.fleet,
                    setup.stream.segment_starts_s,
                    labels=_labels(config, played.strategy),
                    collect=frames.append,
                    task=setup.task,
                    chain=[WithCodecs(codecs_of(config["protocol"])), WithRequests(requests)],
                    rounds=partial(Session.run, until=played.segments),
                )
                yield played, pd.concat(frames, ignore_index=True)
        finally:
            if hasattr(grid, "close"):
                grid.close()


def _labels(config: Config, strategy: str) -> dict[str, str | float]:
    return {
        "run_id": run_id_of(config),
        "experiment": config.get("experiment_name") or NO_EXPERIMENT,
        "seed": config["seed"],
        "task": config["task"],
        "strategy": strategy,
    }


def _prepared(config: Config) -> Setup:
    try:
        return prepare(config)
    except KeyError as error:
        raise UserError(f"config.yaml must have the key {error.args[0]}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Flower's lines on rounds from the terminal."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
