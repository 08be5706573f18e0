"""A package of a user's own adds one of each kind; nothing in ``cdc_flower`` changes for it.

Its files are those of the tutorial. The same two runs are played inline, on Ray and in Flower's
runtime: a strategy with a generator and a decoder, a model, a stream, a link, a policy, a codec and
a column; then a task, a reader of files, a format of recorded links, and the column again.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from flwr_runtime import flwr_run
from test_tutorial import BEFORE, FILES, environment

NUM_DEVICES = 5
PACKAGE = "cdc_own"
#: The part by its path, or by the name that it registers once its module is a plug-in.
OWN = {
    "parts": (
        "strategies=[static,nudge,fedavg]",
        f"+strategy.nudge._target_={PACKAGE}.nudge.Nudge",
        "+strategy.nudge.rate=0.5",
        "+strategy.nudge.table=items.weight",
        f"+model._target_={PACKAGE}.mean_pool.MeanPool",
        "model.width=8",
        f"+data._target_={PACKAGE}.clicks.Clicks",
        f"+data.num_users={NUM_DEVICES}",
        f"+network._target_={PACKAGE}.night_bus.NightBus",
        "policy=in_turns",
        "policy.shares=2",
        "protocol.codecs=[delta,sign]",
        f"plugins=[{PACKAGE}.in_turns,{PACKAGE}.sign,{PACKAGE}.energy]",
        "strategy.fedavg.num_train_devices=3",
    ),
    "formats": (
        "strategies=[static,duet]",
        "task=discovery",
        "data=interactions",
        "data.format=click_lines",
        "network=traces",
        "network.format=drive_log",
        "network.part=all",
        f"plugins=[{PACKAGE}.discovery,{PACKAGE}.click_lines,{PACKAGE}.drive_log,{PACKAGE}.energy]",
        "strategy.duet.epochs=1",
    ),
}
SMALL = (
    *("num_segments=2", "num_negatives=20", "cloud.epochs=1"),
    *("report=false", "controls=false", "references=[]"),
)
PROJECT = """
[project]
name = "cdc-own"
version = "0.1.0"
license = "Apache-2.0"
dependencies = ["cdc-flower"]

[tool.flwr.app]
publisher = "me"
fab-include = ["**/*.py"]

[tool.flwr.app.components]
serverapp = "cdc_flower.server_app:app"
clientapp = "cdc_flower.client_app:app"

[tool.flwr.app.config]
strategies = ""
data = ""
data-path = ""
task = ""
model = ""
num-segments = 2
num-nodes = 0
network = ""
seed = 0
out = ""
overrides = ""
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project with the package, and the files that its reader and format read."""
    folder = tmp_path_factory.mktemp("project")
    package = folder / PACKAGE
    package.mkdir()
    (folder / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    (package / "__init__.py").touch()
    for name, text in FILES.items():
        (package / name).write_text(text, encoding="utf-8")
    for line in (line for lines in BEFORE.values() for line in lines):
        subprocess.run(["bash", "-c", line], cwd=package, env=environment(), check=True)
    events = (package / "shop.jsonl").read_text().splitlines(keepends=True)
    few = [line for line in events if json.loads(line)["user"] < NUM_DEVICES]
    (package / "shop.jsonl").write_text("".join(few), encoding="utf-8")
    return folder


def overrides_of(name: str, project: Path) -> list[str]:
    """The overrides of a run."""
    paths = {
        "data.path": project / PACKAGE / "shop.jsonl",
        "network.path": project / PACKAGE / "drive.txt",
    }
    files = [f"{key}={path}" for key, path in paths.items()] if name == "formats" else []
    return [*OWN[name], *files, *SMALL]


def played(project: Path, name: str, *overrides: str) -> pd.DataFrame:
    """Plays a run as the command does, in the folder of the project."""
    out = project / f"{name}-{len(list(project.iterdir()))}"
    code = "import sys; from cdc_flower.cli import main; main()"
    command = [sys.executable, "-c", code, *overrides_of(name, project), *overrides, f"out={out}"]
    done = subprocess.run(
        command, cwd=project, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return pd.read_parquet(out / "results.parquet")


@pytest.fixture(scope="module")
def inline(project: Path) -> Callable[[str], pd.DataFrame]:
    """Plays each run once on the inline grid."""
    tables: dict[str, pd.DataFrame] = {}

    def table(name: str) -> pd.DataFrame:
        if name not in tables:
            tables[name] = played(project, name, "grid=inline", "grid.shard_devices=3")
        return tables[name]

    return table


@pytest.mark.slow
def test_parts_of_a_users_own_are_in_use(inline: Callable[[str], pd.DataFrame]) -> None:
    table = inline("parts")
    assert set(table["strategy"]) == {"static", "nudge", "fedavg"}
    cells = table.drop_duplicates(["strategy", "device_id", "segment"]).set_index("strategy")
    nudge = cells.loc["nudge"]
    asked = nudge["device_id"] % 2 == nudge["segment"] % 2
    assert (nudge["num_reports"] == asked).all()  # the policy
    assert (nudge.loc[asked, "payload_bytes_down"] > 0).all()
    value = table["value_sum"] / table["value_count"]
    by_strategy = {
        name: value[table["strategy"] == name].to_numpy() for name in ("static", "nudge")
    }
    assert not np.array_equal(*by_strategy.values())  # the decoder moved what is scored
    radio_j = 1e-5 * cells["bytes_up"] + 2e-6 * cells["bytes_down"]
    np.testing.assert_allclose(cells["energy_j"], radio_j + 3.0 * cells["compute_device_s"])
    assert cells.loc["nudge", "energy_j"].sum() > 0


@pytest.mark.slow
def test_a_task_and_formats_of_a_users_own_are_in_use(
    inline: Callable[[str], pd.DataFrame],
) -> None:
    table = inline("formats")
    assert set(table["task"]) == {"discovery"} and set(table["metric"]) == {"new_hr@10"}
    assert set(table["strategy"]) == {"static", "duet"}
    assert table["device_id"].nunique() == NUM_DEVICES
    assert table.loc[table["strategy"] == "duet", "energy_j"].sum() > 0


@pytest.mark.ray
@pytest.mark.parametrize("name", ["parts", pytest.param("formats", marks=pytest.mark.long)])
def test_ray_gives_the_table_of_the_inline_grid(
    name: str, project: Path, inline: Callable[[str], pd.DataFrame]
) -> None:
    on_ray = played(project, name, "grid=ray", "grid.num_workers=2", "grid.shard_devices=3")
    pd.testing.assert_frame_equal(inline(name), on_ray)


@pytest.mark.flwr
@pytest.mark.parametrize("name", [pytest.param("parts", marks=pytest.mark.long), "formats"])
def test_flwr_run_gives_the_table_of_the_inline_grid(
    name: str, project: Path, inline: Callable[[str], pd.DataFrame], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    strategies, *others = overrides_of(name, project)
    settings = {
        "strategies": strategies.removeprefix("strategies=").strip("[]"),
        "out": str(out),
        "overrides": shlex.join(others),
    }
    flwr_run(project, settings, NUM_DEVICES, home=tmp_path / "home", timeout_s=400)  # type: ignore[arg-type]

    mine, theirs = inline(name), pd.read_parquet(out / "results.parquet")
    assert len(mine) == len(theirs)
    for column in mine.columns:
        if mine[column].dtype.kind == "f":
            np.testing.assert_allclose(
                mine[column], theirs[column], rtol=1e-5, atol=1e-5, err_msg=column
            )
        elif column != "run_id":
            assert (mine[column].astype(str) == theirs[column].astype(str)).all(), column
