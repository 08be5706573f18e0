"""Measures memory and time of a report of two runs with 28 million rows of results.

    python -m benchmarks.report

Two seeds of 17 strategies on 14,681 devices in 4 segments, with 14 metrics: what ``cdc-flower
report`` reads, pools, compares with 1,000 draws of all devices, and draws. It runs in a process of
its own, whose most memory is measured. The numbers are drawn; the page is not looked at.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import yaml

from benchmarks.support.measure import close
from cdc_flower.core.seeds import generator
from cdc_flower.tables.long_table import ResultsWriter, segment_frame

NUM_RUNS = 2
NUM_STRATEGIES = 17
NUM_DEVICES = 14_681
NUM_SEGMENTS = 4
METRICS = (
    *(
        "ndcg@5",
        "ndcg@10",
        "ndcg@20",
        "hr@5",
        "hr@10",
        "hr@20",
        "recall@5",
        "recall@10",
        "recall@20",
    ),
    *("mrr", "accuracy", "auc", "user_auc", "log_loss"),
)
MOST_BYTES = 2 * 2**30


def write_run(folder: Path, seed: int, num_devices: int = NUM_DEVICES) -> None:
    """Writes a run folder.

    Devices differ, strategies a little, and in each segment a tenth of the devices has no events.

    Args:
        folder: To be made.
        seed: Of the numbers.
        num_devices: How many.
    """
    folder.mkdir(parents=True)
    draw = generator(seed, "report")
    shape = (num_devices, len(METRICS))
    skill = draw.uniform(0.1, 0.4, (num_devices, 1))
    counts = draw.integers(0, 10, (NUM_SEGMENTS, num_devices)).astype(np.float64)
    with ResultsWriter(folder / "results.parquet") as writer:
        for number in range(NUM_STRATEGIES):
            for segment in range(NUM_SEGMENTS):
                sends = number > 0
                count = counts[segment][:, None]
                value = skill + 0.002 * number + draw.normal(0.0, 0.02, shape)
                values = {
                    "value_sum": value * count,
                    "value_count": np.broadcast_to(count, shape),
                }
                frame = segment_frame(
                    {
                        "run_id": f"run-{seed}",
                        "experiment": "report",
                        "strategy": f"arm_{number}" if number else "static",
                        "seed": seed,
                        "task": "recommendation",
                        "segment": segment,
                        "time_s": 60.0 * segment,
                    },
                    facts={
                        "device_id": np.arange(num_devices),
                        "is_shift": draw.random(num_devices) < 0.2,
                        "num_examples": counts[segment].astype(np.int64),
                        "bytes_up": draw.integers(100, 900, num_devices) * sends,
                        "bytes_down": 9_000 * sends,
                        "payload_bytes_up": 80 * sends,
                        "payload_bytes_down": 8_448 * sends,
                        "latency_s": draw.exponential(1.0, num_devices) if sends else np.nan,
                        "staleness_s": draw.exponential(30.0, num_devices),
                        "compute_cloud_s": 1e-5 * sends,
                    },
                    metrics=METRICS,
                    values=values,
                )
                writer.append(frame)
    settings = {"data": {"name": "drawn"}, "seed": seed, "command": "python -m benchmarks.report"}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


def main() -> None:
    """Writes the runs, measures the report, prints, and closes."""
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place, f"run-{seed}") for seed in range(NUM_RUNS)]
        for seed, folder in enumerate(folders):
            write_run(folder, seed)
        code = "from cdc_flower.cli import main; main()"
        subprocess.run(
            [sys.executable, "-c", code, "report", *map(str, folders)],
            check=True,
            capture_output=True,
        )
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = (Path(place) / "report.html").stat().st_size
    num_rows = NUM_RUNS * NUM_STRATEGIES * NUM_DEVICES * NUM_SEGMENTS * len(METRICS)
    cpu_s = usage.ru_utime + usage.ru_stime
    peak = usage.ru_maxrss * 1024
    print(
        f"{num_rows / 1e6:.1f} million rows: {peak / 2**30:.2f} GiB, {cpu_s:.0f} CPU s, a page of "
        f"{size / 1024:.0f} KiB"
    )
    ratios = {"memory_to_2_gib": peak / MOST_BYTES}
    close("report", ratios, {"memory_to_2_gib": 1.0}, at_most=ratios)


if __name__ == "__main__":
    main()
