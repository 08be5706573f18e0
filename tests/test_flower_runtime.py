"""The same app in Flower's own Simulation Runtime: ``flwr run .``."""

import json
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
    "references=[]",
    "data.history_segments=11",
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
        played = ["fleet.num_devices=20", "num_segments=3", f"strategies=[{STRATEGIES}]", *SMALL]
        config = compose("config", overrides=played)
    resolved = OmegaConf.to_container(config, resolve=True)
    inline = run({**resolved, "out": str(tmp_path / "inline")})  # type: ignore[dict-item]

    mine, theirs = (
        pd.read_parquet(folder / "results.parquet") for folder in (inline, tmp_path / "flwr")
    )
    num_arms = 5 + 2 * 2  # DUET and Persona have two controls each
    assert len(mine) == num_arms * 20 * 3 * 9
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


SPY_PROJECT = """
[project]
name = "spy"
version = "0.1.0"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "cdc-flower"

[tool.flwr.app.components]
serverapp = "spy.server_app:app"
clientapp = "cdc_flower.client_app:app"

[tool.flwr.app.config]
task = "recommendation"
data = ""
data-path = ""
strategies = "duet"
model = ""
num-segments = 2
network = "lte"
seed = 0
out = ""
overrides = ""
"""
SPY = """
import json
from pathlib import Path

from flwr.serverapp import ServerApp

from cdc_flower.study.flower import config_of, wait_for_nodes
from cdc_flower.study.run import run
from cdc_flower.strategies.duet import Duet

app = ServerApp()
seen = set()


def spied(aggregate):
    def spy(strategy, server_round, replies):
        replies = list(replies)
        for reply in replies:
            for name, record in reply.content.items():
                seen.update((reply.metadata.message_type, name, key) for key in record)
        return aggregate(strategy, server_round, replies)

    return spy


Duet.aggregate_train = spied(Duet.aggregate_train)
Duet.aggregate_evaluate = spied(Duet.aggregate_evaluate)


@app.main()
def main(grid, context):
    out = run(config_of(context.run_config, len(wait_for_nodes(grid))), grid=grid)
    (Path(out) / "seen.json").write_text(json.dumps(sorted(seen)))
"""


@pytest.mark.flwr
def test_a_strategy_in_flwr_run_gets_reports_and_numbers_of_examples_and_nothing_else(
    tmp_path: Path,
) -> None:
    package = tmp_path / "app" / "spy"
    package.mkdir(parents=True)
    (tmp_path / "app" / "pyproject.toml").write_text(SPY_PROJECT)
    (package / "__init__.py").write_text("")
    (package / "server_app.py").write_text(SPY)
    settings = {
        "out": str(tmp_path / "out"),
        "overrides": "cloud.epochs=1 strategy.duet.epochs=1 report=false",
    }
    flwr_run(tmp_path / "app", settings, num_supernodes=3, home=tmp_path / "home", timeout_s=400)
    seen = json.loads((tmp_path / "out" / "seen.json").read_text())
    assert seen == [["evaluate", "metrics", "num-examples"], ["train.report", "report", "history"]]
