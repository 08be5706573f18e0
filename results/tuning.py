"""Tunes baselines and methods alike: as many settings for each, all on seed 0, by one rule.

    python results/tuning.py regimes cohorts
    python results/tuning.py ml_1m=DIR -- data.cut=events    # what follows -- is for every run
    python results/tuning.py regimes --runs DIR --out DIR    # other places

A run a data set and method holds ``static`` and ``NUM_SETTINGS`` arms of the method; finished run
folders (``results/runs/tuning/DATA_METHOD``) are not played again, and bases are trained once
(``results/cache``). ``results/tuning/DATA.csv`` has a row a setting; chosen is the one with the
highest NDCG@10. Tables are then made with other seeds, so nothing is reported on what chose it.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

import cdc_flower as cdc

SEED = 0
NUM_SETTINGS = 4
METRIC = "ndcg@10"
_ENTRY = "from cdc_flower.cli import main; main()"
HERE = Path(__file__).resolve().parent

#: Method -> its settings, as many for each; the first is the default of the paper or package.
SETTINGS: Mapping[str, Sequence[Mapping[str, object]]] = {
    "fine_tuning": (
        {},
        {"steps": 20},
        {"rate": 1e-2},
        {"layers": "all"},
    ),
    "fedavg": (
        {},
        {"layers": "head"},
        {"rate": 1e-2},
        {"fine_tuning_steps": 5},
    ),
    "duet": (
        {},
        {"joint": False},
        {"rate": 3e-3},
        {"joint": False, "rate": 3e-3},
    ),
    "persona": (
        {},
        {"num_prototypes": 1},
        {"rate": 3e-3},
        {"joint": True},
    ),
}


def arms_of(method: str) -> dict[str, Mapping[str, object]]:
    """Names the settings of a method: ``duet_1`` and so on."""
    return {f"{method}_{number}": own for number, own in enumerate(SETTINGS[method], 1)}


def command(data: str, method: str, folder: Path, overrides: Sequence[str]) -> list[str]:
    """Makes the command line of a run.

    Args:
        data: Name of the data, with ``=DIR`` where it is read from files.
        method: Whose settings are played.
        folder: Of the run.
        overrides: Of every run.
    """
    name, _, place = data.partition("=")
    arms = arms_of(method)
    keys = [f"strategies=[{','.join(('static', *arms))}]"]
    for arm, own in arms.items():
        told = ",".join(f"{key}: {value}" for key, value in {"method": method, **own}.items())
        keys.append(f"+strategy.{arm}={{{told}}}")
    keys += [f"data={name}", *([f"data.path={place}"] if place else [])]
    keys += [f"seed={SEED}", "controls=false", "report=false", f"out={folder}"]
    return [sys.executable, "-c", _ENTRY, "run", *keys, *overrides]


def is_finished(folder: Path) -> bool:
    """Tells whether a run is there whole."""
    return (folder / "results.parquet").is_file()


def table_of(folders: Mapping[str, Path]) -> pd.DataFrame:
    """Makes a row a setting, the chosen one of each method marked.

    Args:
        folders: Run folders by method.
    """
    rows = []
    for method, folder in folders.items():
        summary = cdc.load(folder).summary
        own = summary[summary["metric"] == METRIC].set_index("strategy")
        for arm, setting in arms_of(method).items():
            row = own.loc[arm]
            told = " ".join(f"{key}={value}" for key, value in setting.items()) or "defaults"
            columns = ("mean", "low", "high", "diff", "diff_low", "diff_high")
            costs = ("num_labels", "num_told", "bytes_up_per_device", "bytes_down_per_device")
            facts = {name: row[name] for name in (*columns, *costs)}
            rows.append({"strategy": method, "setting": told, "metric": METRIC, **facts})
    table = pd.DataFrame(rows)
    best = table.groupby("strategy", sort=False)["mean"].idxmax()
    return table.assign(is_chosen=table.index.isin(best))


def main(words: Sequence[str]) -> None:
    """Plays what is not finished, and writes the tables."""
    own, overrides = list(words), []
    if "--" in own:
        own, overrides = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--runs", type=Path, default=HERE / "runs" / "tuning")
    parser.add_argument("--out", type=Path, default=HERE / "tuning")
    told = parser.parse_args(own)
    told.out.mkdir(parents=True, exist_ok=True)
    if not any(key.startswith("cache=") for key in overrides):
        overrides.append(f"cache={HERE / 'cache'}")
    for data in told.data:
        name = data.partition("=")[0]
        folders = {method: told.runs / f"{name}_{method}" for method in SETTINGS}
        for method, folder in folders.items():
            if not is_finished(folder):
                subprocess.run(command(data, method, folder, overrides), check=True)
        table = table_of(folders)
        table.to_csv(told.out / f"{name}.csv", index=False, float_format="%.8g")
        print(table[table["is_chosen"]][["strategy", "setting", "mean", "diff"]].to_string())


if __name__ == "__main__":
    main(sys.argv[1:])
