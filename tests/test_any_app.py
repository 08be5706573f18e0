"""Recorded links around an ordinary Flower app: three changed lines, also in Flower's runtime."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from flwr_runtime import flwr_run
from tiny import counting_app

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.fleet import Conditions
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.study.any_app import under_trace

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "any_app"
TRACE = "0 1\n1 1.0\n3 0.2\n6 2.5\n"


def load(name: str):
    spec = importlib.util.spec_from_file_location(
        f"any_app_{name}", EXAMPLE / "any_app" / f"{name}.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def played(tmp_path: Path, num_nodes: int = 2) -> dict:
    (tmp_path / "trace.txt").write_text(TRACE)
    context = SimpleNamespace(
        run_config={"trace": str(tmp_path / "trace.txt"), "out": str(tmp_path / "out.json")}
    )
    load("server_app").main(InlineGrid(load("client_app").app, range(num_nodes)), context)
    return json.loads((tmp_path / "out.json").read_text())


def check(told: dict, num_nodes: int) -> None:
    assert told["first"] == 3.0  # one a round
    assert len(told["rounds"]) == 3
    for start_s, end_s, up_bytes in told["rounds"]:
        assert up_bytes > num_nodes * 40_000
        assert end_s - start_s > 40_000 * 8 / 0.5e6  # up at a fifth of 2.5 Mbit/s at best
    assert told["rounds"][1][0] == told["rounds"][0][1]


def test_stock_fedavg_of_the_example_runs_behind_recorded_links(tmp_path: Path) -> None:
    check(played(tmp_path), 2)


def test_the_three_lines_are_the_only_ones_that_know_of_links() -> None:
    lines = (EXAMPLE / "any_app" / "server_app.py").read_text().splitlines()
    marked = [line for line in lines if line.rstrip().endswith(("# 1", "# 2")) or "# 3" in line]
    assert len(marked) == 3
    rest = [
        line
        for line in lines
        if line not in marked and "links" in line and not line.startswith('"""')
    ]
    assert all("links.rounds" in line or '"""' in line for line in rest)


def test_a_link_that_never_delivers_does_not_hang_an_ordinary_app(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(TRACE)
    from flwr.app import ArrayRecord
    from flwr.serverapp.strategy import FedAvg

    links = under_trace(
        InlineGrid(counting_app(), range(3)), tmp_path / "t", conditions=Conditions(loss=1.0)
    )
    FedAvg().start(grid=links, initial_arrays=ArrayRecord([np.zeros(3, np.float32)]), num_rounds=2)
    assert links.now_s == 0 and sum(one.usage.num_dropped.sum() for one in links.rounds) > 0


def test_a_missing_recording_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be an existing path"):
        under_trace(InlineGrid(counting_app(), range(2)), tmp_path / "nothing")


@pytest.mark.flwr
def test_flwr_run_plays_the_example_too(tmp_path: Path) -> None:
    (tmp_path / "trace.txt").write_text(TRACE)
    settings = {"trace": str(tmp_path / "trace.txt"), "out": str(tmp_path / "out.json")}
    flwr_run(EXAMPLE, settings, num_supernodes=3, home=tmp_path / "home", timeout_s=400)
    check(json.loads((tmp_path / "out.json").read_text()), 3)
