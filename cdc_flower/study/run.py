"""Plays a run: every configured strategy on the same fleet, streams and links.

It leaves a folder with the results.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pandas as pd
import torch
import yaml
from flwr.serverapp import Grid
from rich.console import Console

from cdc_flower.core.progress import Bars, table_console
from cdc_flower.report import Comparison, read_folder, write_report
from cdc_flower.simulations.grids.codecs import WithCodecs
from cdc_flower.simulations.grids.requests import WithRequests
from cdc_flower.simulations.protocol.encoding import codecs_of
from cdc_flower.simulations.requests.setup import requests_of
from cdc_flower.study import folder
from cdc_flower.study.check import result_values
from cdc_flower.study.cloud import train_cloud
from cdc_flower.study.play import play
from cdc_flower.study.setup import NO_EXPERIMENT, Setup, grid_of, prepare
from cdc_flower.study.trees import Config
from cdc_flower.tables.long_table import ResultsWriter
from cdc_flower.tables.summary import rich_table, write_summary

log = logging.getLogger("cdc_flower")


class Rows(Protocol):
    """Takes the rows of a run, into a file or into memory."""

    def append(self, frame: pd.DataFrame) -> None:
        """Takes the rows of a segment."""


def run(config: Config, *, grid: Grid | None = None, console: Console | None = None) -> Path:
    """Plays a resolved configuration.

    Args:
        config: As composed from ``configs/config.yaml``. Under ``also`` it may hold those of
            further tasks, which are played after it and share its folder.
        grid: Where to play the devices; the configured one by default.
        console: Where the table is printed.

    Returns:
        The run folder. After an interrupt it holds what was finished, and the interrupt is raised
        again.

    Raises:
        UserError: If the input is wrong; then nothing was written.
    """
    console = console or table_console()
    out = Path(config["out"]) if config["out"] else folder.default_folder()
    folder.check_writable(out)
    configs = [config, *config["also"]]
    setups = [prepare(one) for one in configs]
    folder.make_folder(out)
    (out / folder.LINKS).write_text(
        yaml.safe_dump(link_facts(setups[0]), sort_keys=False), encoding="utf-8"
    )
    (out / folder.CONFIG).write_text(
        yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8"
    )
    handler = folder.log_to(out / folder.LOG)
    try:
        with ResultsWriter(out / folder.RESULTS) as writer:
            for one, setup in zip(configs, setups, strict=True):
                play_all(one, setup, grid, writer, out / folder.STATE)
    except KeyboardInterrupt:
        log.warning("interrupted")
        raise
    finally:
        finish(out, console, with_report=config["report"])
        folder.end_log(handler)
    return out


def link_facts(setup: Setup) -> dict[str, float]:
    """Measures the median rates of the links in bit/s, which no configuration says."""
    up_bps, down_bps = setup.fleet.median_rates_bps()
    return {"median_rate_up_bps": up_bps, "median_rate_down_bps": down_bps}


def run_id_of(config: Config) -> str:
    """Names a run: twelve digits of a hash over the part of its configuration that counts."""
    return hashlib.sha256(json.dumps(result_values(config), sort_keys=True).encode()).hexdigest()[
        :12
    ]


def play_all(
    config: Config,
    setup: Setup,
    grid: Grid | None,
    writer: Rows,
    state_folder: Path | None,
) -> None:
    """Trains the cloud, then plays each strategy.

    Args:
        config: Resolved and checked.
        setup: Made from it.
        grid: Where to play; None: the configured one.
        writer: Gets the rows of each segment as it is done.
        state_folder: Gets the state of each strategy after its last segment; None: nothing does.
    """
    torch.set_num_threads(1)  # small products: a second thread costs more than it gives
    starts_s = setup.stream.segment_starts_s
    own_grid = grid is None  # another one is its owner's to close
    with Bars() as bars:
        cloud = train_cloud(config, setup.stream, setup.model, bars.bar)
        grid = grid_of(config, setup) if grid is None else grid
        try:
            shared = {
                "run_id": run_id_of(config),
                "experiment": config.get("experiment_name") or NO_EXPERIMENT,
            }
            shared |= {"seed": config["seed"], "task": config["task"]}
            for name, strategy in setup.strategies.items():
                strategy.prepare(cloud)
                step = bars.bar(f"{name}: playing", setup.stream.num_segments)

                # A default binds this strategy's step, where the loop would give the last one.
                def collect(frame: pd.DataFrame, step: Callable[[], None] = step) -> None:
                    writer.append(frame)
                    step()

                requests = requests_of(config["policy"], setup.task, setup.stream, cloud, strategy)
                play(
                    strategy,
                    grid,
                    setup.fleet,
                    starts_s,
                    labels={**shared, "strategy": name},
                    collect=collect,
                    task=setup.task,
                    chain=[WithCodecs(codecs_of(config["protocol"])), WithRequests(requests)],
                )
                if state_folder is not None:
                    folder.save_state(strategy.state(), state_folder / f"{name}.safetensors")
                log.info("%s: done", name)
            if setup.references:
                for frame in setup.task.reference_rows(setup.references, setup.stream, shared):
                    writer.append(frame)
        finally:
            if own_grid and hasattr(grid, "close"):
                grid.close()


def finish(out: Path, console: Console, *, with_report: bool = True) -> None:
    """Writes summary and report of whatever the run folder holds, and prints the table.

    Args:
        out: The run folder.
        console: Where the table is printed.
        with_report: Whether the report is written.
    """
    try:
        comparison = Comparison.of([read_folder(out)])
    # Nothing was finished: the folder holds the configuration and the log.
    except Exception as error:
        log.warning("no results to summarize: %s", error)
        return
    if comparison.results.cells.empty:
        return
    write_summary(comparison.summary, out / folder.SUMMARY)
    for _, rows in comparison.summary.groupby("task", sort=False, observed=True):
        console.print(rich_table(rows))
    if not with_report:
        return
    write_report(comparison, out / folder.REPORT)
    console.print(f"{out / folder.REPORT}", soft_wrap=True, highlight=False)
