"""Brings a run into Flower's runtimes: reads flat ``run_config`` keys, and waits for nodes."""

import shlex
import time
from collections.abc import Mapping

from flwr.serverapp import Grid
from hydra import compose
from omegaconf import OmegaConf

from cdc_flower.core.errors import UserError
from cdc_flower.study.composing import ROOT, hydra_at
from cdc_flower.study.keys import check_overrides
from cdc_flower.study.setup import resolved
from cdc_flower.study.trees import Config

#: How long nodes may take to register, and how long their number must stay the same.
WAIT_S = 120.0
STABLE_S = 2.0
POLL_S = 0.5


def config_of(run_config: Mapping[str, bool | float | int | str], num_devices: int) -> Config:
    """Composes and resolves the configuration of a run in Flower's runtime.

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
    values = {
        "strategies": [name.strip() for name in str(run_config["strategies"]).split(",")],
        "num_segments": run_config["num-segments"],
        "seed": run_config["seed"],
        "out": run_config["out"] or None,
        "fleet.num_devices": num_devices,
    }
    if run_config.get("data-path"):
        values["data.path"] = run_config["data-path"]
    with hydra_at():
        overrides = check_overrides(overrides)
        config = compose(ROOT, overrides=overrides)
        for key, value in values.items():
            OmegaConf.update(config, key, value)
        return {**resolved(config, overrides), "command": "flwr run ."}


def wait_for_nodes(grid: Grid, at_least: int = 1) -> list[int]:
    """Waits until enough nodes are connected and their number stays the same.

    Args:
        grid: Of a ``ServerApp``.
        at_least: How many nodes; SuperNodes come one by one, and a run has those that are there
            when it begins.

    Returns:
        Their ids.

    Raises:
        UserError: If not enough nodes come.
    """
    start = time.monotonic()
    since = start
    count = 0
    while time.monotonic() - start < WAIT_S:
        node_ids = list(grid.get_node_ids())
        if len(node_ids) != count:
            count = len(node_ids)
            since = time.monotonic()
        elif count >= max(1, at_least) and time.monotonic() - since >= STABLE_S:
            return node_ids
        time.sleep(POLL_S)
    raise UserError(
        f"nodes: at least {max(1, at_least)} must be connected within {WAIT_S:.0f} s, got {count}"
    )


def device_of(node_config: Mapping[str, object]) -> tuple[int, int]:
    """Reads the number of a device and the number of devices from the configuration of its node.

    Raises:
        UserError: If a key is missing or holds no such number.
    """
    device_id, num_devices = (node_config.get(key) for key in ("partition-id", "num-partitions"))
    numbers = isinstance(device_id, int) and isinstance(num_devices, int)
    if not numbers or not 0 <= device_id < num_devices:  # type: ignore[operator]
        raise UserError(
            "node-config must have partition-id and num-partitions, the first from 0 and below the "
            f"second, got {dict(node_config)}"
        )
    return int(device_id), int(num_devices)  # type: ignore[call-overload]
