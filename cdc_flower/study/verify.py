"""Plays a sample of a finished run again, and compares it with the table in the run folder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.seeds import generator
from cdc_flower.core.words import counted
from cdc_flower.report.folders import RESULTS_FILE, RunFolder, list_at, read_folder
from cdc_flower.study.provenance import differences, provenance_of
from cdc_flower.study.replay import Played, replayed
from cdc_flower.study.table_differences import Difference, table_differences
from cdc_flower.study.trees import Config
from cdc_flower.tables.long_table import schema
from cdc_flower.tables.parts import PARTS, Parts


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
        return all(each.is_rounding for each in self.differences)

    def __str__(self) -> str:
        name = f"{self.played.task}, {self.played.strategy}"
        what = f"{counted(self.played.segments, 'segment')}, {counted(self.num_rows, 'row')}"
        if self.is_exact:
            return f"{name}: equal to the bit ({what})"
        end = "equal up to the rounding of another CPU" if self.is_within else "DIFFERENT"
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
        for played, rows in replayed(config, own):
            for name, mine in rows.groupby("strategy", observed=True, sort=False):
                each = played._replace(strategy=str(name))  # of a strategy, then of its controls
                stored = stored_rows(Path(folder), each)
                yield Verdict(each, len(mine), table_differences(stored, mine))


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
    whole = folder / RESULTS_FILE
    paths = [whole] if whole.is_file() else Parts(folder / PARTS).whole_paths()
    held = set(pq.read_schema(paths[0]).names)
    rows = pq.read_table(
        paths,
        columns=[name for name in schema().names if name in held],
        filters=[
            ("task", "==", played.task),
            ("strategy", "==", played.strategy),
            ("segment", "<", played.segments),
        ],
    )
    return rows.to_pandas()
