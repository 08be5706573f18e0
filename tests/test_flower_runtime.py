"""The same app in Flower's own Simulation Runtime: ``flwr run .``."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from flwr_runtime import flwr_run
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from cdc_flower.core.errors import UserError
from cdc_flower.study.flower import config_of
from cdc_flower.study.run import run

ROOT = Path(__file__).parents[1]
FLAT = {
    "data": "shifting_interests",
    "model": "gru4rec",
    "network": "lte",
    "num-segments": 3,
    "seed": 0,
    "out": "",
}
SMALL = [
    "cloud.epochs=1",
    "strategy.duet.epochs=1",
    "strategy.persona.epochs=1",
    "strategy.persona.downlink=edit",  # a decoder that keeps something on the nodes
    "strategy.fedavg.num_train_devices=5",
]
STRATEGIES = "static,fine_tuning,fedavg,duet,persona"


@pytest.mark.flwr
def test_flwr_run_gives_the_table_of_the_inline_grid_on_20_devices_and_3_segments(
    tmp_path: Path,
) -> None:
    settings = {
        "strategies": STRATEGIES,
        "num-segments": 3,
        "out": str(tmp_path / "flwr"),
        "overrides": " ".join(SMALL),
    }
    flwr_run(ROOT, settings, num_supernodes=20, home=tmp_path / "home", timeout_s=400)

    with initialize_config_module("cdc_flower.configs", version_base="1.3"):
        config = compose("config", overrides=["fleet.num_devices=20", "num_segments=3", *SMALL])
    resolved = OmegaConf.to_container(config, resolve=True)
    inline = run({**resolved, "out": str(tmp_path / "inline")})  # type: ignore[dict-item]

    mine, theirs = (
        pd.read_parquet(folder / "results.parquet") for folder in (inline, tmp_path / "flwr")
    )
    assert len(mine) == 5 * 20 * 3 * 9
    for name in mine.columns:
        if mine[name].dtype.kind == "f":
            np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-5, atol=1e-5, err_msg=name)
        else:
            assert (mine[name].astype(str) == theirs[name].astype(str)).all(), name


def test_flat_keys_become_the_configuration_of_a_run() -> None:
    config = config_of(
        {**FLAT, "strategies": "static, duet", "overrides": "num_negatives=9 model.width=16"}, 7
    )

    assert config["strategies"] == ["static", "duet"] and config["fleet"]["num_devices"] == 7
    assert (
        config["num_segments"] == 3
        and config["num_negatives"] == 9
        and config["model"]["width"] == 16
    )
    assert config["network"]["name"] == "lte" and config["out"] is None


def test_a_missing_path_is_told_by_its_key() -> None:
    with pytest.raises(UserError, match=r"data\.path must be given"):
        config_of({**FLAT, "data": "ml_1m", "strategies": "static"}, 7)
