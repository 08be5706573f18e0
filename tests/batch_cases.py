"""Small batches of messages, for the tests of batches."""

from typing import Any

import numpy as np

from cdc_flower.wire.batch import MessageBatch


def small(n: int = 3, **changes: Any) -> MessageBatch:
    """Instructions to devices 10, 11, ... with one record of each kind."""
    parts: dict[str, Any] = {
        "arrays": {"parameters": {"w": np.arange(n * 2, dtype=np.float32).reshape(n, 2)}},
        "shared": {"parameters": {"b": np.array([7, 8], dtype=np.int32)}},
        "metrics": {"metrics": {"num-examples": np.arange(n), "loss": np.arange(n) / 2}},
        "configs": {"config": {"lr": 0.1, "name": "x", "segment": np.arange(n)}},
        "message_ids": [f"m{i}" for i in range(n)],
        "created_at_s": 100.0,
    }
    return MessageBatch("train", **{"node_ids": np.arange(10, 10 + n), **parts, **changes})
