"""Plays places that history never showed, and measures before, at and after the jump.

    python results/video/unseen.py [SEED...] [KEY=VALUE...]

Runs are in ``results/runs/video_unseen``; those that are finished are read and not played again.
Further keys go to ``cdc-flower``; runs with others than the first ones need a folder of their own
(``RUNS=FOLDER``).
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

RUNS = Path(os.environ.get("RUNS", "results/runs/video_unseen"))
STRATEGIES = os.environ.get("STRATEGIES", "static,cdc_mmpg,persona")
JUMP = 4


def play(seed: str, overrides: list[str]) -> Path:
    """Plays a seed, unless it is finished, and returns its folder."""
    folder = RUNS / f"seed_{seed}"
    if not (folder / "results.parquet").exists():
        command = ["task=video_qa", "data=moving_digits_unseen", f"seed={seed}", f"out={folder}"]
        command += [f"strategies=[{STRATEGIES}]", "references=[oracle,ceiling]", "report=false"]
        command += ["cache=results/cache", *overrides]
        start = "from cdc_flower.cli import main; main()"
        subprocess.run([sys.executable, "-c", start, *command], check=True)
    return folder


def accuracy(folder: Path) -> pd.DataFrame:
    """Reads the accuracy of each strategy, device and segment."""
    rows = pd.read_parquet(folder / "results.parquet")
    rows = rows[rows.metric == "accuracy"]
    rows = rows.assign(value=rows.value_sum / rows.value_count)
    return rows.pivot(index=["device_id", "segment"], columns="strategy", values="value")


def cell(values: pd.Series) -> str:
    """Writes the mean over devices with its 95 % interval."""
    of_device = values.groupby("device_id").mean()
    half = 1.96 * of_device.std() / len(of_device) ** 0.5
    return f"{of_device.mean():+.3f} ±{half:.3f}"


def table(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Makes a row of each seed and comparison: before, at, after the jump."""
    found = []
    for seed, values in tables.items():
        segment = values.index.get_level_values("segment")
        phases = {"before": segment < JUMP, "at": segment == JUMP, "after": segment > JUMP}
        lines = {"static": values["static"]}
        for name in values.columns:
            if name != "static":
                lines[f"{name} - static"] = values[name] - values["static"]
            base, _, control = str(name).partition("@")
            if control:
                lines[f"{base} - {name}"] = values[base] - values[name]
        for line, value in lines.items():
            cells = {phase: cell(value[is_in]) for phase, is_in in phases.items()}
            found.append({"seed": seed, "line": line, **cells})
    return pd.DataFrame(found).sort_values(["line", "seed"], kind="stable")


def main() -> None:
    """Plays, and prints the table."""
    seeds = [word for word in sys.argv[1:] if "=" not in word] or ["0", "1", "2"]
    overrides = [word for word in sys.argv[1:] if "=" in word]
    tables = {seed: accuracy(play(seed, overrides)) for seed in seeds}
    with pd.option_context("display.width", 120, "display.max_rows", None):
        print(table(tables).to_string(index=False))
    falls = [values["static"].groupby("segment").mean() for values in tables.values()]
    print("static by segment:", np.round(np.mean(falls, axis=0), 3))


if __name__ == "__main__":
    main()
