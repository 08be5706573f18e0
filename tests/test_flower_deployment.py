"""The same app on a SuperLink and SuperNodes: a real deployment, a process for each message."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from flwr_runtime import flwr_deployment
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from cdc_flower.study.run import run

ROOT = Path(__file__).parents[1]
#: Controls would take three evaluations in place of one; tests/test_flower_runtime.py has them.
SMALL = [
    "cloud.epochs=1",
    "strategy.duet.epochs=1",
    "model.width=8",
    "controls=false",
    "data.history_segments=4",
]
NUM_NODES = 3
#: Of sums of losses and ranks: as with the Simulation Runtime, products are taken for one device
#: instead of for all.
TOLERANCE = 1e-5


@pytest.mark.flwr
@pytest.mark.timeout(
    900
)  # a process for each message: twenty seconds of work, and waits, on two cores
def test_a_deployment_gives_the_table_of_the_inline_grid_on_3_nodes(tmp_path: Path) -> None:
    settings = {
        "task": "recommendation",
        "strategies": "duet",
        "num-segments": 2,
        "num-nodes": NUM_NODES,
        "out": str(tmp_path / "flwr"),
        "overrides": " ".join(SMALL),
    }
    nodes = [f"partition-id={k} num-partitions={NUM_NODES}" for k in range(NUM_NODES)]
    flwr_deployment(ROOT, settings, nodes, home=tmp_path / "home", timeout_s=880)

    overrides = ["task=recommendation", "strategies=[duet]", f"fleet.num_devices={NUM_NODES}"]
    with initialize_config_module("cdc_flower.configs", version_base="1.3"):
        config = compose("config", overrides=[*overrides, "num_segments=2", *SMALL])
    resolved = OmegaConf.to_container(config, resolve=True)
    inline = run({**resolved, "out": str(tmp_path / "inline")})  # type: ignore[dict-item]

    mine, theirs = (
        pd.read_parquet(folder / "results.parquet") for folder in (inline, tmp_path / "flwr")
    )
    assert len(mine) == len(theirs) > 0
    assert set(theirs.device_id) == set(range(NUM_NODES)) and set(theirs.segment) == {0, 1}
    for name in mine.columns:
        if mine[name].dtype.kind == "f":
            np.testing.assert_allclose(
                mine[name], theirs[name], rtol=TOLERANCE, atol=TOLERANCE, err_msg=name
            )
        else:
            assert (mine[name].astype(str) == theirs[name].astype(str)).all(), name
