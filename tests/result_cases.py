"""Small results tables for tests."""

from typing import Any

import numpy as np
import pandas as pd

from cdc_flower.tables.column import Scope
from cdc_flower.tables.columns import COLUMNS
from cdc_flower.tables.long_table import segment_frame


def rows_with(*, metrics: tuple[str, ...], **columns: Any) -> pd.DataFrame:
    """A segment whose columns come together, whatever their scope; an unknown one is a fact."""
    parts: dict[Scope, dict[str, Any]] = {scope: {} for scope in Scope}
    for name, value in columns.items():
        parts[COLUMNS[name].scope if name in COLUMNS else Scope.DEVICE_SEGMENT][name] = value
    labels = parts[Scope.RUN] | parts[Scope.SEGMENT]
    return segment_frame(labels, parts[Scope.DEVICE_SEGMENT], metrics, parts[Scope.METRIC])


def frame_of(**changes: Any) -> pd.DataFrame:
    """Two devices and two metrics in segment 4, with some columns changed; None takes one away."""
    columns: dict[str, Any] = {
        "run_id": "r1",
        "experiment": "small",
        "strategy": "persona",
        "seed": 3,
        "task": "movies",
        "segment": 4,
        "time_s": 120.0,
        "device_id": np.array([10, 11]),
        "metrics": ("auc", "hr@10"),
        "value_sum": np.array([[0.5, 2.0], [0.75, 3.0]]),
        "value_count": np.array([[1.0, 4.0], [1.0, 5.0]]),
        "context_id": np.array([1, -1]),
        "is_shift": np.array([True, False]),
        "num_examples": np.array([4, 5]),
        "num_labels": 0,
        "bytes_up": np.array([100, 200]),
        "bytes_down": 1000,
        "payload_bytes_up": np.array([80, 160]),
        "payload_bytes_down": 900,
        "latency_s": np.array([0.25, np.nan]),
        "staleness_s": 1.5,
        "compute_cloud_s": 0.01,
        "compute_device_s": 0.02,
    }
    kept = {name: value for name, value in (columns | changes).items() if value is not None}
    return rows_with(**kept)
