"""Measures what Persona's heads of regimes give, and what their refinement adds after a shift.

    python -m benchmarks.evolution                     # regimes, 250 devices; cohorts, 120
    python -m benchmarks.evolution regimes 1000 1      # one law, devices, seeds

Seeds 1 to 3. Runs are kept in ``results/runs/evolution``; finished ones are not played again, and
bases are trained once. GRU4Rec that reads two items, reports of 20. NDCG@10 minus ``static``:

- *regimes*: prototypes mixed by likelihood, the same layers for all (``@mean``), another device's
  (``@other``), and the share of the head-room, (value - static) / (oracle - static);
- *cohorts*: segments before the jump of all devices, its own, and those after it; prototypes as
  they were trained (``fixed``), refined by reports (``refined``), fine-tuning on the device, and
  refined minus fixed with its interval over devices.
"""

import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from benchmarks.support.measure import close
from cdc_flower.tables.estimates import device_sums, paired_difference

OUT = Path("results/runs/evolution")
METRIC = "ndcg@10"
#: The segment in which all devices of ``cohorts`` move to contexts that history never showed.
JUMP = 2
NUM_DEVICES = {"regimes": 250, "cohorts": 120}
SEEDS = (1, 2, 3)
ARM = (
    "method: persona, cluster_on: likelihood, edits: false, epochs: 18, rate: 3.0e-3, "
    "report_length: 20"
)
ARMS = {
    "regimes": {"strategies": "static,mixed", "mixed": f"{ARM}, num_prototypes: 16"},
    "cohorts": {
        "strategies": "static,fine_tuning,fixed,refined",
        "fixed": f"{ARM}, num_prototypes: 8",
        "refined": f"{ARM}, num_prototypes: 8, refinement: reports",
    },
}
BARS = {"regimes share": 0.4, "cohorts refined - fixed": 0.01}
_COMMAND = "from cdc_flower.cli import main; main()"


def rows_of(law: str, num_devices: int, seed: int) -> pd.DataFrame:
    """Plays one run unless it is there, and reads its rows of the metric.

    Args:
        law: ``regimes`` or ``cohorts``.
        num_devices: At least 1.
        seed: Of the run.
    """
    out = OUT / f"{law}_{num_devices}_{seed}"
    table = out / "results.parquet"
    if not table.exists():
        arms = dict(ARMS[law])
        given = [
            *(f"data={law}", f"fleet.num_devices={num_devices}", f"seed={seed}"),
            *("model.history_length=2", "references=[oracle]", "report=false"),
            *(
                f"strategies=[{arms.pop('strategies')}]",
                f"controls={str(law == 'regimes').lower()}",
            ),
            *(f"+strategy.{name}={{{settings}}}" for name, settings in arms.items()),
            *(f"out={out}", f"cache={OUT / 'cache'}"),
        ]
        given += ["resume=true"] if out.exists() else []
        subprocess.run([sys.executable, "-c", _COMMAND, *given], check=True)
    rows = pd.read_parquet(table)
    rows = rows[rows["metric"] == METRIC]
    return rows.assign(strategy=rows["strategy"].astype(str))


def means(rows: pd.DataFrame) -> pd.Series:
    """Averages the metric of each strategy over events."""
    sums = rows.groupby("strategy")[["value_sum", "value_count"]].sum()
    return sums["value_sum"] / sums["value_count"]


def regimes(num_devices: int, seeds: tuple[int, ...]) -> dict[str, float]:
    """Prints gains and shares of the head-room on regimes, and gives the mean share."""
    shares = []
    for seed in seeds:
        rows = rows_of("regimes", num_devices, seed)
        value, shift = means(rows), means(rows[rows["is_shift"]])
        gain = value - value["static"]
        shares.append(gain["mixed"] / gain["oracle"])
        print(
            f"regimes, {num_devices} devices, seed {seed}: static {value['static']:.4f}, head-room "
            f"{gain['oracle']:.4f}; mixed {gain['mixed']:+.4f} ({shares[-1]:.2f} of it), @mean "
            f"{gain['mixed@mean']:+.4f}, @other {gain['mixed@other']:+.4f}; at a shift "
            f"{shift['mixed'] - shift['static']:+.4f}",
            flush=True,
        )
    print(f"  share {np.mean(shares):.2f}, from {min(shares):.2f} to {max(shares):.2f}")
    return {"regimes share": float(np.mean(shares))}


def cohorts(num_devices: int, seeds: tuple[int, ...]) -> dict[str, float]:
    """Prints gains before, at and after the jump, and gives the mean gain of refinement after."""
    added = []
    for seed in seeds:
        rows = rows_of("cohorts", num_devices, seed)
        segment = rows["segment"]
        parts = {"before": segment < JUMP, "jump": segment == JUMP, "after": segment > JUMP}
        for name, is_in in parts.items():
            value = means(rows[is_in])
            gain = value - value["static"]
            sums = device_sums(rows[is_in], ["task", "strategy"])
            found = paired_difference(sums, ["task"], "fixed").set_index("strategy").loc["refined"]
            print(
                f"cohorts, {num_devices} devices, seed {seed}, {name}: static "
                f"{value['static']:.4f}, head-room {gain['oracle']:.4f}; fixed "
                f"{gain['fixed']:+.4f}, refined {gain['refined']:+.4f}, fine-tuning "
                f"{gain['fine_tuning']:+.4f}; refined - fixed {found['diff']:+.4f} "
                f"[{found['low']:.4f}, {found['high']:.4f}]",
                flush=True,
            )
        added.append(found["diff"])
    print(f"  after: {np.mean(added):+.4f}, from {min(added):+.4f} to {max(added):+.4f}")
    return {"cohorts refined - fixed": float(np.mean(added))}


def main() -> None:
    """Measures, prints, and closes."""
    law, *given = sys.argv[1:] or [""]
    numbers: dict[str, float] = {}
    for name, measure in (("regimes", regimes), ("cohorts", cohorts)):
        if law not in ("", name):
            continue
        num_devices = int(given[0]) if given else NUM_DEVICES[name]
        numbers |= measure(num_devices, tuple(map(int, given[1:])) or SEEDS)
    close("evolution", numbers, {name: BARS[name] for name in numbers})


if __name__ == "__main__":
    main()
