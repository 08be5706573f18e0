"""Prepares and plays one strategy of a run, with all that stands between it and its devices."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
from flwr.serverapp import Grid

from cdc_flower.core.options import checked_values, options_of
from cdc_flower.simulations.attacks.setup import hostile_devices, marked, with_attack
from cdc_flower.simulations.grids.codecs import WithCodecs
from cdc_flower.simulations.grids.requests import WithRequests
from cdc_flower.simulations.protocol.encoding import codecs_of
from cdc_flower.simulations.quarantine.bounds import Known
from cdc_flower.simulations.quarantine.link import WithQuarantine
from cdc_flower.simulations.quarantine.options import QuarantineOptions
from cdc_flower.simulations.requests.setup import requests_of
from cdc_flower.study.check import result_values
from cdc_flower.study.cloud import with_own_code
from cdc_flower.study.notes import Notes, TaskNotes
from cdc_flower.study.play import play
from cdc_flower.study.session import Session
from cdc_flower.study.setup import NO_EXPERIMENT, Setup
from cdc_flower.study.trees import Config
from cdc_flower.training.cloud import Cloud
from cdc_flower.training.diary import Diary

_RUN_ID_DIGITS = 12


def run_id_of(config: Config) -> str:
    """Names a run: digits of a hash over the part of its configuration that counts."""
    text = json.dumps(result_values(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_RUN_ID_DIGITS]


def labels_of(config: Config) -> dict[str, str | float]:
    """Makes the labels that all rows of a run share."""
    return {
        "run_id": run_id_of(config),
        "experiment": config.get("experiment_name") or NO_EXPERIMENT,
        "seed": config["seed"],
        "task": config["task"],
    }


def quarantine_of(config: Config, setup: Setup) -> WithQuarantine:
    """Makes the quarantine of a run; runs of before have none."""
    given = config.get("quarantine") or {"enabled": False}
    checked: Mapping[str, Any] = checked_values(options_of(QuarantineOptions), given, "quarantine")
    return WithQuarantine(QuarantineOptions(**checked), Known.of(setup.task, setup.stream))


def play_strategy(
    name: str,
    config: Config,
    setup: Setup,
    cloud: Cloud,
    grid: Grid,
    collect: Callable[[pd.DataFrame], None],
    rounds: Callable[[Session], object] = Session.run,
    notes: TaskNotes | None = None,
) -> None:
    """Trains the cloud side of a strategy, then plays it.

    Args:
        name: Of the strategy in the setup.
        config: Resolved and checked.
        setup: Made from it.
        cloud: Trained.
        grid: Where to play.
        collect: Given the rows of each segment when it is done.
        rounds: Plays the rounds of a deployed session; all by default.
        notes: Takes sentences on its training, and what was left out; None keeps none.
    """
    notes = notes or TaskNotes(Notes(), str(config["task"]))
    strategy = setup.strategies[name]
    own = replace(with_own_code(cloud, strategy), diary=Diary())
    strategy.prepare(own)
    notes.add(name, own.diary.notes())
    quarantine = quarantine_of(config, setup)
    requests = requests_of(config["policy"], setup.task, setup.stream, cloud, strategy)
    hostile = hostile_devices(config, setup.stream.num_devices)
    play(
        strategy,
        grid,
        setup.fleet,
        setup.stream.segment_starts_s,
        labels={**labels_of(config), "strategy": name},
        collect=lambda frame: collect(marked(frame, hostile)),
        task=setup.task,
        chain=[
            with_attack(config, setup.stream),
            quarantine,
            WithCodecs(codecs_of(config["protocol"])),
            WithRequests(requests),
        ],
        rounds=rounds,
        controls=bool(config.get("controls", False)),  # runs of before had none
    )
    if said := quarantine.notes():
        notes.add(name, [*own.diary.notes(), *said])
    notes.leave_out(name, quarantine.left_out())
