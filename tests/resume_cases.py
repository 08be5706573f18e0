"""An interrupted run of two strategies, for the tests of resuming."""

from pathlib import Path
from typing import Any

from fault_cases import (
    tiny_config,
)

TWO = "strategies=[fedavg,duet]"


EACH = "checkpoint.every=1"


def config(tmp_path: Path, *overrides: str, **values: Any) -> dict[str, Any]:
    return tiny_config(TWO, *overrides, out=str(tmp_path / "run"), **values)
