"""Puts notes on trainings at the strategy's cell: zeros, and groups that became one."""

from collections.abc import Mapping, Sequence

import pandas as pd

from cdc_flower.report.folders import RunFolder, part_of, run_labels

#: Of a strategy whose values are the baseline's to the last bit, and of whom no note says why.
NOTHING_CHANGED = (
    "the values are those of {}: what devices got changes nothing, as where training stops at its "
    "start"
)


def footnotes(
    runs: Sequence[RunFolder], rows: pd.DataFrame, metrics: Sequence[str]
) -> dict[str, list[str]]:
    """Collects sentences without a full stop by strategy, in the order of the rows.

    Args:
        runs: Those of the report.
        rows: Of the summary, of one run label and task.
        metrics: Those of the table.
    """
    first = rows.iloc[0]
    labels = run_labels(runs)
    same = [run for run, label in zip(runs, labels, strict=True) if label == first["run"]]
    found: dict[str, list[str]] = {}
    for name, mine in rows.groupby("strategy", sort=False, observed=True):
        said = _notes(same, str(first["task"]), str(name))
        if not said and _is_nothing(mine[mine["metric"].isin(metrics)]):
            said = [NOTHING_CHANGED.format(first["baseline"])]
        if said:
            found[str(name)] = said
    return found


def numbers(found: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Numbers the footnotes, a number a strategy."""
    return {name: number for number, name in enumerate(found, 1)}


def sentences(found: Mapping[str, Sequence[str]]) -> list[str]:
    """Writes a footnote a strategy, in the order of their numbers."""
    return [f"{name}: {'; '.join(said)}." for name, said in found.items()]


def _notes(runs: Sequence[RunFolder], task: str, name: str) -> list[str]:
    """Lists the notes of a strategy; those that not all runs have say their seeds."""
    seeds_of: dict[str, list[str]] = {}
    for run in runs:
        said = part_of(run.notes, task).get(name)
        for words in said if isinstance(said, list) else ():
            seeds_of.setdefault(str(words), []).append(str(run.config.get("seed", run.name)))
    return [
        words if len(seeds) == len(runs) else f"seed {', '.join(seeds)}: {words}"
        for words, seeds in seeds_of.items()
    ]


def _is_nothing(rows: pd.DataFrame) -> bool:
    """Tells whether nothing differs from the baseline, though it is another strategy."""
    if rows.empty or rows["strategy"].iloc[0] == rows["baseline"].iloc[0]:
        return False
    return bool((rows[["diff", "diff_low", "diff_high"]] == 0).all(axis=None))
