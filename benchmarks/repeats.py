"""Measures what of a table another CPU changes, and that nothing else changes a bit.

    python -m benchmarks.repeats

Plays recommendation and video once as this CPU does, then with libraries that use fewer of its
instructions, as on an older CPU: PyTorch alone (``ATEN_CPU_CAPABILITY``), or PyTorch, MKL, oneDNN,
OpenBLAS and NumPy together. Prints the largest difference of each column and of each value of the
summary. The same run again, and its strategies in another order with parameters from a cache,
must be equal to the bit.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.support.measure import close
from cdc_flower.study.table_differences import Difference, table_differences

SMALL = ("fleet.num_devices=24", "num_segments=3", "cloud.epochs=6", "report=false", "seed=0")
TASKS: dict[str, tuple[str, ...]] = {
    "recommendation": ("static", "fine_tuning", "fedavg", "duet", "persona"),
    "video_qa": ("static", "fine_tuning", "duet", "cdc_mmpg"),
}
#: Newest first; each with what it takes to use no newer instructions.
KINDS: dict[str, dict[str, str]] = {
    "PyTorch AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "PyTorch without AVX": {"ATEN_CPU_CAPABILITY": "default"},
    "all AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": "AVX512",
    },
    "all without AVX": {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_CBWR": "COMPATIBLE",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OPENBLAS_CORETYPE": "Nehalem",
        "NPY_DISABLE_CPU_FEATURES": "",
    },
}
_COMMAND = "from cdc_flower.cli import main; main()"


@dataclass(frozen=True)
class Tables:
    """Holds rows and summary of one way to play both tasks."""

    rows: pd.DataFrame
    summary: pd.DataFrame


def numpy_features(wanted: str) -> str:
    """Lists what NumPy would use of this CPU beyond its baseline.

    Args:
        wanted: ``AVX512`` for what AVX2 lacks; "" for all.
    """
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    newest = ("AVX512", "X86_V4")
    names = [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]
    return " ".join(name for name in names if not wanted or name.startswith(newest))


def played(
    folder: Path, variables: Mapping[str, str], *, cache: Path | None = None, back: bool = False
) -> Tables:
    """Plays both tasks in processes of their own.

    Args:
        folder: Where run folders go.
        variables: Added to the environment.
        cache: For trained parameters; None: there is none.
        back: Whether strategies come in the other order.
    """
    chosen = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    if "NPY_DISABLE_CPU_FEATURES" in variables:
        chosen["NPY_DISABLE_CPU_FEATURES"] = numpy_features(variables["NPY_DISABLE_CPU_FEATURES"])
    rows = []
    summaries = []
    for task, names in TASKS.items():
        out = folder / task
        listed = ",".join(names[::-1] if back else names)
        own = [f"task={task}", f"out={out}", f"strategies=[{listed}]", f"cache={cache or 'null'}"]
        subprocess.run(
            [sys.executable, "-c", _COMMAND, *SMALL, *own],
            env=chosen,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        rows.append(pd.read_parquet(out / "results.parquet"))
        summaries.append(pd.read_csv(out / "summary.csv"))
    return Tables(pd.concat(rows, ignore_index=True), pd.concat(summaries, ignore_index=True))


def differences(one: Tables, other: Tables) -> Iterator[tuple[str, Difference]]:
    """Gives the columns that differ, with task and strategy; not the name of the run."""
    key = ["task", "strategy"]
    parts = dict(list(other.rows.drop(columns="run_id").groupby(key, observed=True)))
    for name, mine in one.rows.drop(columns="run_id").groupby(key, observed=True):
        for each in table_differences(mine, parts[name]):
            yield ", ".join(map(str, name)), each


def summary_difference(one: Tables, other: Tables) -> tuple[float, str]:
    """Measures the largest difference of the means of the summaries, and says where it is."""
    key = ["task", "strategy", "metric"]
    mine, theirs = (each.summary.set_index(key)["mean"] for each in (one, other))
    apart = (mine - theirs.reindex(mine.index)).abs()
    return float(apart.max()), ", ".join(map(str, apart.idxmax()))


def show(kind: str, one: Tables, other: Tables) -> tuple[int, float]:
    """Prints a comparison; gives the rows that differ and the difference of the summaries."""
    worst: dict[str, tuple[str, Difference]] = {}
    count = 0
    for name, each in differences(one, other):
        count += each.count
        if each.column not in worst or each.relative > worst[each.column][1].relative:
            worst[each.column] = name, each
    by, place = summary_difference(one, other)
    print(f"{kind}: {count:,} numbers differ; summary by at most {by:.2g} ({place})")
    for name, each in worst.values():
        print(f"  {each} of {name}", flush=True)
    return count, by if not np.isnan(by) else np.inf


def main() -> None:
    """Measures, prints, and closes."""
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        cache = folder / "cache"
        here = played(folder / "here", {}, cache=cache)
        print(f"{len(here.rows):,} rows, {here.rows['strategy'].nunique()} strategies", flush=True)
        again = played(folder / "again", {}, cache=cache, back=True)
        ratios["numbers_order_and_cache"] = show("other order, from the cache", here, again)[0]
        for number, (kind, variables) in enumerate(KINDS.items()):
            _, by = show(kind, here, played(folder / str(number), variables))
            ratios[f"summary_{kind.lower().replace(' ', '_')}"] = by
    bars = {"numbers_order_and_cache": 0.0}
    close("repeats", ratios, bars, at_most=bars)


if __name__ == "__main__":
    main()
