"""The same run inside Flower's own runtimes: a configuration from flat ``run_config`` keys, and nodes to wait for."""

import shlex
import time
from collections.abc import Mapping
from typing import Any

from flwr.serverapp import Grid
from hydra import compose
from omegaconf import OmegaConf

from cdc_flower.core.errors import UserError
from cdc_flower.study.composing import ROOT, hydra_at
from cdc_flower.study.keys import check_overrides
from cdc_flower.study.setup import resolved

#: How long nodes may take to register, and how long their number must stay the same.
WAIT_S, STABLE_S, POLL_S = 120.0, 2.0, 0.5


def config_of(run_config: Mapping[str, Any], num_devices: int) -> dict[str, Any]:
    """The resolved configuration of a run in Flower's runtime.

    Args:
        run_config: The keys of ``[tool.flwr.app.config]`` in ``pyproject.toml``; ``overrides``
            holds any others as on the command line, separated by spaces.
        num_devices: Of the run: the number of nodes.

    Raises:
        UserError: If a value is wrong.
    """
    groups = [
        f"{group}={run_config[group]}"
        for group in ("task", "data", "model", "network")
        if run_config.get(group)
    ]
    overrides = [*groups, *shlex.split(str(run_config.get("overrides", "")))]
    with hydra_at():
        check_overrides(overrides)
        config = compose(ROOT, overrides=overrides)
    values = {
        "strategies": [name.strip() for name in str(run_config["strategies"]).split(",")],
        "num_segments": run_config["num-segments"],
        "seed": run_config["seed"],
        "out": run_config["out"] or None,
        "fleet.num_devices": num_devices,
    }
    if run_config.get("data-path"):
        values["data.path"] = run_config["data-path"]
    for key, value in values.items():
        OmegaConf.update(config, key, value)
    return {**resolved(config), "command": "flwr run ."}


def wait_for_nodes(grid: Grid) -> int:
    """Wait until the number of nodes is above 0 and stays the same, and give it.

    Raises:
        UserError: If no node comes.
    """
    start, since, count = time.monotonic(), time.monotonic(), 0
    while time.monotonic() - start < WAIT_S:
        now = len(list(grid.get_node_ids()))
        if now != count:
            count, since = now, time.monotonic()
        elif count and time.monotonic() - since >= STABLE_S:
            return count
        time.sleep(POLL_S)
    raise UserError(f"nodes: at least one must be connected within {WAIT_S:.0f} s, got {count}")
