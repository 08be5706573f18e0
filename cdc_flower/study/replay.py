"""Plays some strategies of a run again from its configuration, up to a segment."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import pandas as pd
import torch

from cdc_flower.core.errors import UserError
from cdc_flower.core.progress import Bars
from cdc_flower.study.cloud import train_cloud
from cdc_flower.study.provenance import THREADS
from cdc_flower.study.session import Session
from cdc_flower.study.setup import Setup, grid_of, prepare
from cdc_flower.study.strategy_play import play_strategy
from cdc_flower.study.trees import Config


class Played(NamedTuple):
    """One strategy of one task, and how many of its segments are in the table."""

    task: str
    strategy: str
    segments: int


def replayed(config: Config, chosen: Sequence[Played]) -> Iterator[tuple[Played, pd.DataFrame]]:
    """Trains and plays strategies of one task from the start, and gives the rows of each.

    Raises:
        UserError: If the configuration cannot be played.
    """
    setup = _prepared(config)
    torch.set_num_threads(THREADS)
    with _quiet(), Bars() as bars:
        cloud = train_cloud(config, setup.stream, setup.model, bars.bar)
        grid = grid_of(config, setup)
        try:
            for played in chosen:
                frames: list[pd.DataFrame] = []
                rounds = partial(Session.run, until=played.segments)
                play_strategy(played.strategy, config, setup, cloud, grid, frames.append, rounds)
                yield played, pd.concat(frames, ignore_index=True)
        finally:
            if hasattr(grid, "close"):
                grid.close()


def _prepared(config: Config) -> Setup:
    try:
        return prepare(config)
    except KeyError as error:
        raise UserError(f"config.yaml must have the key {error.args[0]}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Flower's lines on rounds from the terminal."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
