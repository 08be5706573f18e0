"""The same app on a SuperLink and SuperNodes: a real deployment."""

from pathlib import Path

import pytest
from flwr_runtime import flwr_deployment

ROOT = Path(__file__).parents[1]
SMALL = ["cloud.epochs=1", "strategy.duet.epochs=1", "model.width=8"]


@pytest.mark.flwr
def test_a_deployment_gives_the_table_of_the_inline_grid(tmp_path: Path) -> None:
    settings = {"task":"recommendation", "strategies": "duet", "num-segments": 2, "out": str(tmp_path / "flwr"), "overrides": " ".join(SMALL)}
    nodes = [f"partition-id={k} num-partitions=3" for k in range(3)]
    flwr_deployment(ROOT, settings, nodes, home=tmp_path / "home", timeout_s=900)
