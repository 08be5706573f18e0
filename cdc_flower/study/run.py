"""Plays a run: every configured strategy on the same fleet, streams and links.

It leaves a folder with the results.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import pandas as pd
import torch
import yaml
from flwr.serverapp import Grid
from rich.console import Console

from cdc_flower.core.errors import UserError
from cdc_flower.core.files import CannotWrite, whole_file, write_whole
from cdc_flower.core.progress import Bars, table_console
from cdc_flower.core.signals import stopped_in
from cdc_flower.report import Comparison, read_folder, write_report
from cdc_flower.report.comparison.adaptation import adaptation_words
from cdc_flower.report.folders import NOTES_FILE
from cdc_flower.simulations.attacks.setup import attack_words, hostile_devices, marked
from cdc_flower.simulations.grids.lost import GridLost
from cdc_flower.study import folder, provenance
from cdc_flower.study.ahead import trained_ahead
from cdc_flower.study.cloud import train_cloud
from cdc_flower.study.data_files import data_facts
from cdc_flower.study.facts import facts_of
from cdc_flower.study.journal import Journal, StrategyJournal
from cdc_flower.study.notes import ATTACK, BASE, DATA, Notes, TaskNotes
from cdc_flower.study.resume import Found, found_in, opened
from cdc_flower.study.session import Session
from cdc_flower.study.setup import Setup, grid_of, prepare
from cdc_flower.study.strategy_play import labels_of, play_strategy, run_id_of
from cdc_flower.study.trees import Config, Tree
from cdc_flower.tables.parts import Order
from cdc_flower.tables.summary import rich_table, write_summary
from cdc_flower.training.cloud import Cloud

log = logging.getLogger("cdc_flower")


def run(
    config: Config,
    *,
    grid: Grid | None = None,
    console: Console | None = None,
    suffix: str = "",
    skip_finished: bool = False,
    ahead: bool = False,
) -> Path:
    """Plays a resolved configuration, or goes on with it where it was interrupted.

    Args:
        config: As composed from ``configs/config.yaml``. Under ``also`` it may hold those of
            further tasks, which are played after it and share its folder.
        grid: Where to play the devices; the configured one by default.
        console: Where the table is printed.
        suffix: Of the default folder's name.
        skip_finished: Whether a folder that holds the same run is left as it is.
        ahead: Whether a second process trains for later tasks meanwhile; rows are the same.

    Returns:
        The run folder. After an interrupt it holds what was finished, and
        :class:`~cdc_flower.core.signals.Stopped` is raised.

    Raises:
        UserError: If the input is wrong; then nothing was written. Or if the folder cannot be
            written any more; then it holds what was finished.
    """
    console = console or table_console()
    configs = [config, *config["also"]]
    check_tasks(configs)
    given = Path(config["out"]) if config["out"] else None
    resumes = config["resume"] is True  # other values are refused with the rest of them
    if resumes and given is None:
        raise UserError("resume=true must have the folder of a run, as in out=FOLDER")
    found = found_in(given, configs, resumes=resumes, skips=skip_finished)
    setups = [] if found is Found.FINISHED else [prepare(one) for one in configs]
    out = folder.make_default_folder(suffix) if given is None else given
    folder.make_folder(out)
    with folder.owned(out):
        # Again: another process may have been quicker.
        found = found_in(given, configs, resumes=resumes, skips=skip_finished)
        if found is Found.FINISHED:
            leave_finished(out, config, console)
            return out
        _describe(out, config, setups[0], is_new=found is Found.NOTHING)
        data = data_facts(configs)
        facts = facts_of(configs, setups, [run_id_of(one) for one in configs], data)
        order = order_of(configs, setups)
        journal = opened(out, order, facts, resumes=found is Found.BEGUN)
        _play_in(out, configs, setups, grid, journal, console, data, ahead=ahead)
    return out


def check_tasks(configs: Sequence[Config]) -> None:
    """Checks that each task is played once: rows of a folder are told apart by it.

    Raises:
        UserError: If one is played twice.
    """
    tasks = [config["task"] for config in configs]
    for place, task in enumerate(tasks):
        if task in tasks[:place]:
            raise UserError(f"also must hold tasks of their own, got {task} twice")


def order_of(configs: Sequence[Config], setups: Sequence[Setup]) -> Order:
    """Lists the tasks with their strategies and reference lines, in the order of the table."""
    return [
        (str(config["task"]), [*setup.strategies, *setup.references])
        for config, setup in zip(configs, setups, strict=True)
    ]


def leave_finished(out: Path, config: Config, console: Console) -> None:
    """Leaves a finished run as it is, but for what a process that was killed did not get to.

    Args:
        out: The run folder, owned by this process.
        config: Of the run.
        console: Where that is said.
    """
    Journal(out, {}).clear()
    wanted = [folder.SUMMARY, *([folder.REPORT] if config["report"] else [])]
    if not all((out / name).exists() for name in wanted):
        finish(out, console, with_report=config["report"])
    console.print(f"{out}: finished already", soft_wrap=True, highlight=False)


def _play_in(
    out: Path,
    configs: Sequence[Config],
    setups: Sequence[Setup],
    grid: Grid | None,
    journal: Journal,
    console: Console,
    data: Sequence[Tree],
    *,
    ahead: bool = False,
) -> None:
    """Plays what is left of a run in its folder.

    Args:
        out: The run folder, owned by this process.
        configs: One for each task.
        setups: Made from them.
        grid: Where to play; None: the configured one.
        journal: Of the run.
        console: Where the table is printed.
        data: Facts of the data files.
        ahead: Whether a second process trains for later tasks meanwhile.
    """
    with_report = configs[0]["report"]
    folder.point_latest_at(out)
    handler = folder.log_to(out / folder.LOG)
    notes = Notes(out / NOTES_FILE)
    provenance.begin(out, configs[0], run_id_of(configs[0]), data)
    try:
        try:
            for place, (one, setup) in enumerate(zip(configs, setups, strict=True)):
                state = out / folder.STATE / ("" if len(configs) == 1 else one["task"])
                later = configs[place + 1 :] if ahead else []
                with trained_ahead([with_cache(each, journal) for each in later]):
                    play_all(one, setup, grid, journal, state, journal, notes)
            journal.finish(out / folder.RESULTS, order_of(configs, setups))
        except BaseException as error:
            log.warning("interrupted" if isinstance(error, KeyboardInterrupt) else str(error))
            with suppress(Exception):  # the first error is the one to tell
                finish(out, console, with_report=with_report)
            raise
        finish(out, console, with_report=with_report)
    except KeyboardInterrupt as error:
        raise stopped_in(out, error) from error
    except (CannotWrite, GridLost) as error:
        words = f"{error}; what was finished is kept, and {folder.resume_command(out)} goes on"
        raise UserError(words) from error
    finally:
        provenance.end(out)
        folder.end_log(handler)


def _describe(out: Path, config: Config, setup: Setup, *, is_new: bool) -> None:
    """Writes what the run is; one that goes on has it, and keeps it.

    Args:
        out: The run folder.
        config: Of the run.
        setup: Made from it.
        is_new: Whether files that are there are of another run.
    """
    for name, facts in ((folder.LINKS, link_facts(setup)), (folder.CONFIG, dict(config))):
        if is_new or not (out / name).exists():
            write_whole(out / name, yaml.safe_dump(facts, sort_keys=False).encode())


def link_facts(setup: Setup) -> dict[str, float]:
    """Measures the median rates of the links in bit/s, which no configuration says."""
    up_bps, down_bps = setup.fleet.median_rates_bps()
    return {"median_rate_up_bps": up_bps, "median_rate_down_bps": down_bps}


class Rows(Protocol):
    """Takes the rows of a run."""

    def append(self, frame: pd.DataFrame) -> None:
        """Takes those of a segment."""


def play_all(
    config: Config,
    setup: Setup,
    grid: Grid | None,
    writer: Rows,
    state_folder: Path | None = None,
    journal: Journal | None = None,
    notes: Notes | None = None,
) -> None:
    """Trains the cloud, then plays each strategy that is not finished.

    Args:
        config: Resolved and checked.
        setup: Made from it.
        grid: Where to play; None: the configured one.
        writer: Gets the rows of each segment as it is done.
        state_folder: Gets the state of each strategy after its last segment; None keeps none.
        journal: Of the run, which it goes on from and keeps; None plays everything.
        notes: Of the run, which get what there is to say of trainings; None keeps none.
    """
    torch.set_num_threads(provenance.THREADS)
    task = config["task"]
    left: dict[str, StrategyJournal | None] = dict.fromkeys(setup.strategies)
    lines = setup.references
    if journal is not None:
        every = config["checkpoint"]["every"]
        kept = {name: journal.strategy(task, name, every) for name in left}
        left = {name: own for name, own in kept.items() if not own.is_done}
        count = setup.stream.num_segments
        lines = [name for name in lines if not journal.has_line(task, name, count)]
        config = with_cache(config, journal)
    train = cache(partial(_trained, config, setup))
    if left:
        _play_strategies(config, setup, grid, writer, left, state_folder, train, notes or Notes())
    if lines:
        hostile = hostile_devices(config, setup.stream.num_devices)
        for frame in setup.task.reference_rows(lines, setup.stream, labels_of(config), train):
            writer.append(marked(frame, hostile))


def with_cache(config: Config, journal: Journal) -> Config:
    """Gives a configuration the run's own folder of trained parameters, if it names none."""
    return {**config, "cache": config["cache"] or journal.cache(config["checkpoint"]["every"])}


def _trained(config: Config, setup: Setup) -> Cloud:
    """Trains the cloud, or takes it from the cache."""
    with Bars() as bars:
        return train_cloud(config, setup.stream, setup.model, bars.bar)


def _play_strategies(
    config: Config,
    setup: Setup,
    grid: Grid | None,
    writer: Rows,
    left: Mapping[str, StrategyJournal | None],
    state_folder: Path | None,
    train: Callable[[], Cloud],
    notes: Notes,
) -> None:
    """Plays strategies one after the other.

    Args:
        config: Resolved and checked.
        setup: Made from it.
        grid: Where to play; None: the configured one.
        writer: Gets the rows of each segment as it is done.
        left: Names of the strategies, each with what is kept of it.
        state_folder: Gets the state of each strategy; None keeps none.
        train: Trains the cloud, which lines may ask for too.
        notes: Gets what there is to say of trainings.
    """
    task = str(config["task"])
    own_grid = grid is None  # another one is its owner's to close
    notes.add(task, DATA, list(getattr(setup.stream, "notes", ())))
    notes.add(task, ATTACK, attack_words(config, setup.stream.num_devices))
    cloud = train()
    notes.add(task, BASE, [*setup.task.base_notes(cloud), *cloud.diary.notes()])
    with Bars() as bars:
        grid = grid_of(config, setup) if grid is None else grid
        try:
            for name, kept in left.items():
                num_done = kept.num_done if kept else 0
                step = bars.bar(f"{name}: playing", setup.stream.num_segments, num_done)

                # A default binds this strategy's step, where the loop would give the last one.
                def collect(frame: pd.DataFrame, step: Callable[[], None] = step) -> None:
                    writer.append(frame)
                    step()

                rounds = kept.rounds if kept else Session.run
                own = TaskNotes(notes, task)
                play_strategy(name, config, setup, cloud, grid, collect, rounds, own)
                if state_folder is not None:
                    state = setup.strategies[name].state()
                    folder.save_state(state, state_folder / f"{name}.safetensors")
                if kept:
                    kept.end()
                log.info("%s: done", name)
        finally:
            if own_grid and hasattr(grid, "close"):
                grid.close()


def finish(out: Path, console: Console, *, with_report: bool = True) -> None:
    """Writes summary and report of whatever the run folder holds, and prints the table.

    Args:
        out: The run folder.
        console: Where the table is printed.
        with_report: Whether the report is written.

    Raises:
        CannotWrite: If the system refuses.
    """
    try:
        comparison = Comparison.of([read_folder(out)])
    # Nothing was finished: the folder holds the configuration and the log.
    except Exception as error:
        log.warning("no results to summarize: %s", error)
        return
    if comparison.results.cells.empty:
        return
    with whole_file(out / folder.SUMMARY) as half:
        write_summary(comparison.summary, half)
    for _, rows in comparison.summary.groupby("task", sort=False, observed=True):
        console.print(rich_table(rows))
        if words := adaptation_words(rows):
            console.print(words, highlight=False)
    for sentence in comparison.notes:
        console.print(sentence, soft_wrap=True, highlight=False, markup=False)
    if not with_report:
        return
    with whole_file(out / folder.REPORT) as half:
        write_report(comparison, half)
    console.print(f"{out / folder.REPORT}", soft_wrap=True, highlight=False)
