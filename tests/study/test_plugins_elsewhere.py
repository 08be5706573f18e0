"""Classes of a user's own on Ray workers and in Flower's runtime, as the page says it."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from flwr_runtime import flwr_run
from plugin_cases import MODULES, SMALL

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
OWN = [
    "strategies=[static,nudge]",
    "+strategy.nudge._target_=own_strategy.Nudge",
    "+model._target_=own_model.MeanPool",
    "+data._target_=own_world.Mine",
    "+network._target_=own_world.Slow",
]


def block(language: str, start: str) -> str:
    """The code of the page that has a line in its first two."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    (found,) = [text for text in blocks if start in text.split("\n")[:2]]
    return str(found)


def play(folder: Path, out: str, *overrides: str) -> pd.DataFrame:
    """Plays in a process whose folder is not among those that Python imports from."""
    code = "import sys; sys.path.remove(''); from cdc_flower.cli import main; main()"
    command = [sys.executable, "-c", code, *SMALL, *OWN, *overrides, f"out={out}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return pd.read_parquet(folder / out / "results.parquet")


@pytest.mark.ray
@pytest.mark.long  # test_extension.py plays more of it
def test_ray_workers_import_classes_of_the_current_folder(tmp_path: Path) -> None:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    inline = play(tmp_path, "inline", "grid=inline")
    on_ray = play(tmp_path, "ray", "grid=ray", "grid.num_workers=2")
    pd.testing.assert_frame_equal(inline, on_ray)
    assert set(inline["strategy"]) == {"static", "nudge"}


@pytest.mark.flwr
@pytest.mark.long  # test_extension.py plays more of it
def test_flwr_run_plays_a_class_that_lies_in_an_app_of_ones_own(tmp_path: Path) -> None:
    app = tmp_path / "my_app"
    app.mkdir()
    (app / "pyproject.toml").write_text(block("toml", "[project]"))
    (app / "my_module.py").write_text(block("python", "# my_module.py") + MODULES["own_model"])
    settings = {
        "num-segments": 2,
        "out": str(tmp_path / "out"),
        "overrides": "+strategy.nudge._target_=my_module.Nudge +model._target_=my_module.MeanPool "
        "cloud.epochs=1 report=false",
    }
    flwr_run(app, settings, num_supernodes=3, home=tmp_path / "home", timeout_s=400)  # type: ignore[arg-type]
    table = pd.read_parquet(tmp_path / "out" / "results.parquet")
    assert set(table["strategy"]) == {"static", "nudge"} and set(table["device_id"]) == {0, 1, 2}
    assert "name: mean_pool" in (tmp_path / "out" / "config.yaml").read_text()
