"""Plays a comparison from Python: what the command ``cdc-flower`` does, without the command."""

import logging
import os
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from types import MappingProxyType

import pandas as pd
import torch
from rich.console import Console

from cdc_flower.api.composing import composed, flat
from cdc_flower.api.data import data_node, num_segments_of
from cdc_flower.api.filed import filed_name, registered_name
from cdc_flower.api.models import model_node
from cdc_flower.api.networks import network_node
from cdc_flower.api.policies import policy_node
from cdc_flower.api.results import Run, load
from cdc_flower.api.strategies import GROUP, Arms
from cdc_flower.core.errors import UserError
from cdc_flower.core.held import Held
from cdc_flower.models.registry import models
from cdc_flower.simulations.requests.policies import policies
from cdc_flower.study.folder import LOGGERS
from cdc_flower.study.notes import Notes
from cdc_flower.study.run import link_facts, play_all, run
from cdc_flower.study.setup import prepare
from cdc_flower.study.trees import Tree
from cdc_flower.tables.summary import BASELINE
from cdc_flower.tasks.protocol import Task
from cdc_flower.tasks.registry import tasks

#: Groups for which an object may stand in place of a name.
MAKERS: Mapping[str, Callable[[object, Mapping[str, object]], Held]] = {
    "data": data_node,
    "model": model_node,
    "network": network_node,
    "policy": policy_node,
}
#: Arguments of :func:`compare` that are called otherwise than their keys.
KEYS = {"devices": "fleet.num_devices", "segments": "num_segments"}
#: Data that suggest neither a window nor a report length, as an object does not.
NO_SUGGESTIONS = "shifting_interests"
#: Held by the comparison that plays. Hydra, loggers, and the generators that Flower's strategies
#: draw from are one for the whole process.
_ALONE = threading.RLock()


def compare(
    strategies: object,
    *,
    task: str | type[Task] | None = None,
    data: object = None,
    model: object = None,
    network: object = None,
    policy: object = None,
    devices: int | None = None,
    segments: int | None = None,
    seed: int = 0,
    controls: bool | None = None,
    config: Mapping[str, object] = MappingProxyType({}),
    out: str | os.PathLike[str] | None = None,
    baseline: str = BASELINE,
) -> Run:
    """Plays strategies on the same fleet, streams and links, and returns the results.

    A name stands for a file of the configuration, as on the command line; what is left out is as
    there. Objects are copied: one that is played twice starts afresh. Comparisons in several
    threads wait for one another.

    Args:
        strategies: Names, classes and objects (of :class:`~cdc_flower.CloudStrategy`, or of one of
            Flower's, as it is or behind :class:`~cdc_flower.FederatedOnDevices`), or a mapping of
            names to them. An object is called as its class, in snake case.
        task: A name, or a registered class of :class:`~cdc_flower.Task`; recommendation by default.
        data: A name; a DataFrame with the columns user, item and time, and perhaps context or
            drift; or a :class:`~cdc_flower.Stream` with ``historical()``.
        model: A name, a class of :class:`~cdc_flower.DeviceModel`, or one of them.
        network: A name, a :class:`~cdc_flower.Network`, an object or class whose ``network()``
            makes one, a :class:`~cdc_flower.Trace` for both directions, a pair (up, down) of them,
            or a list of such pairs.
        policy: A name, a class of :class:`~cdc_flower.Policy`, or one of them.
        devices: How many; None: all that the data have. The key ``fleet.num_devices``.
        segments: Of the stream. The key ``num_segments``.
        seed: Of everything that is drawn.
        controls: Whether strategies that make layers for each device are played with the mean of
            all and with those of another too, which tells adaptation from training. The default.
        config: Other keys by dotted names: ``{"cloud.epochs": 5, "references": ["auto"]}``.
        out: Run folder, as the command makes it; None: nothing is written.
        baseline: The strategy that others are compared with.

    Raises:
        UserError: If the input is wrong; then nothing was trained and nothing written.
    """
    given: dict[str, object] = {"data": data, "network": network, "devices": devices}
    given["task"] = registered_name(task, tasks, "task")
    given |= {"segments": segments, "seed": seed, "controls": controls, "out": _home(out)}
    given["model"] = filed_name(model, models, "model")
    given["policy"] = filed_name(policy, policies, "policy")
    arms = Arms.of(strategies)
    if baseline not in (*arms.names, BASELINE):
        raise UserError(f"baseline must be one of {', '.join(arms.names)}, got {baseline!r}")
    with _ALONE, _process_as_it_was():
        resolved = _configured(arms, given, {"references": [], **flat(config)})
        if resolved["out"] is None:
            return _played(resolved, baseline)
        folder = run(resolved, console=Console(file=StringIO()))
    return load(folder, baseline=baseline)


def _home(out: object) -> str | None:
    """Reads a folder, in which ``~`` is the home of the user.

    Raises:
        UserError: If it is no path.
    """
    if not isinstance(out, str | os.PathLike | None):
        raise UserError(f"out must be a folder, got {out!r}")
    return None if out is None else os.path.expanduser(os.fspath(out))


def _configured(arms: Arms, given: Mapping[str, object], config: Mapping[str, object]) -> Tree:
    """Composes the configuration, and puts objects in the place of their nodes.

    Args:
        arms: Strategies.
        given: Arguments by name; None where one is left out.
        config: Further keys.
    """
    objects = {
        name: value
        for name, value in given.items()
        if name in MAKERS and not isinstance(value, str | None)
    }
    keys = {
        KEYS.get(name, name): value
        for name, value in given.items()
        if value is not None or name == "seed"  # of which there is no other than the one given
    }
    keys |= arms.keys()
    for key in (key for key in config if key in keys):
        name = next((name for name, other in KEYS.items() if other == key), key)
        raise UserError(f"config: {key} must be given once, got it as the argument {name} too")
    own = {name: _below(config, name) for name in objects}
    nodes = {name: MAKERS[name](value, own[name]) for name, value in objects.items()}
    aside = (*arms.values, *arms.odd)
    settings = {name: _below(config, f"{GROUP}.{name}") for name in aside}
    held_strategies = arms.nodes(settings)
    num_segments = num_segments_of(nodes["data"]) if "data" in nodes else None
    if num_segments is not None:
        keys = {"num_segments": num_segments, **keys}
    prefixes = (*(f"{name}." for name in objects), *(f"{GROUP}.{name}." for name in aside))
    named = {name: value for name, value in keys.items() if name not in objects}
    if "data" in objects:
        named["data"] = NO_SUGGESTIONS
    others = {key: value for key, value in config.items() if not key.startswith(prefixes)}
    resolved, overrides = composed({**named, **others})
    resolved |= nodes
    resolved[GROUP] = {**resolved[GROUP], **held_strategies}
    resolved["also"] = []
    shown = [text for text in overrides if not text.startswith("out=")]
    is_plain = not nodes and not held_strategies
    resolved["command"] = shlex.join(["cdc-flower", *shown]) if is_plain else ""
    return resolved


def _below(config: Mapping[str, object], place: str) -> dict[str, object]:
    """Takes the keys below a place under their own names."""
    start = f"{place}."
    return {
        key.removeprefix(start): value for key, value in config.items() if key.startswith(start)
    }


class _Rows:
    """Collects the rows of a run, as a writer of results does."""

    def __init__(self) -> None:
        self.frames: list[pd.DataFrame] = []

    def append(self, frame: pd.DataFrame) -> None:
        """Keeps the rows of a segment."""
        self.frames.append(frame)


def _played(config: Tree, baseline: str) -> Run:
    """Plays a configuration and writes nothing."""
    setup = prepare(config)
    rows, notes = _Rows(), Notes()
    play_all(config, setup, None, rows, notes=notes)
    return Run.of_rows(rows.frames, config, link_facts(setup), baseline, notes.found)


@contextmanager
def _process_as_it_was() -> Iterator[None]:
    """Keeps logs away from the caller's output, and gives back threads and loggers at the end."""
    threads = torch.get_num_threads()
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(each.level, each.propagate, list(each.handlers)) for each in loggers]
    for logger in loggers:
        logger.propagate = False
        logger.handlers = [logging.NullHandler()]
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.propagate = propagate
            logger.handlers = handlers
