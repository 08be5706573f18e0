"""Small tables and configurations of runs, for tests of the report."""

from typing import Any

import numpy as np
import pandas as pd
from result_cases import rows_with

GAINS = {"static": 0.0, "persona": 0.06, "fedavg": 0.02}


def results(
    strategies: tuple[str, ...] = ("static", "persona", "fedavg"),
    num_devices: int = 6,
    num_segments: int = 4,
    run_id: str = "run-0",
    seed: int = 0,
    shifts: bool = True,
    **changes: Any,
) -> pd.DataFrame:
    """A small table: persona gains 0.06 and fedavg 0.02; every device shifts in segment 2."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.2, 0.4, num_devices)
    frames = []
    for strategy in strategies:
        sends = strategy != "static"
        for segment in range(num_segments):
            value = base + GAINS.get(strategy, 0.0) + rng.normal(0, 0.002, num_devices)
            arguments: dict[str, Any] = {
                "experiment": "small",
                "task": "movies",
                "time_s": 60.0 * segment,
                "device_id": np.arange(num_devices),
                "metrics": ("ndcg@10", "auc"),
                "value_sum": np.column_stack([value, value + 0.4]) * 5,
                "value_count": np.full((num_devices, 2), 5.0),
                "context_id": 0,
                "is_shift": shifts and segment == 2,
                "num_examples": 5,
                "num_labels": 7 if strategy == "fedavg" else 0,
                "bytes_up": 100 * sends,
                "bytes_down": 900 * sends,
                "payload_bytes_up": 80 * sends,
                "payload_bytes_down": 800 * sends,
                "latency_s": rng.uniform(0.1, 2.0, num_devices) if sends else np.nan,
                "staleness_s": 1.0,
                "compute_cloud_s": 0.01,
                "compute_device_s": 0.02,
            }
            names = {"run_id": run_id, "strategy": strategy, "seed": seed, "segment": segment}
            frames.append(rows_with(**(arguments | names | changes)))
    return pd.concat(frames, ignore_index=True)


def config(network: str = "4g", seed: int = 0, **more: Any) -> dict[str, Any]:
    names = {
        "data": {"name": "embedded"},
        "model": {"name": "sasrec"},
        "network": {"name": network},
    }
    return {
        **names,
        "fleet": {"num_devices": 6},
        "seed": seed,
        "command": f"cdc-flower seed={seed}",
        **more,
    }
