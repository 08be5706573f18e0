"""Fits between a task, its data, its device model and the strategies that play it.

Devices tell something of their data, and a strategy reads it; data give items or clips, and a model
reads them. All of it is compared before data are read.
"""

from collections.abc import Mapping

from cdc_flower.core.errors import UserError
from cdc_flower.core.option_words import shown
from cdc_flower.core.options import argument_names
from cdc_flower.core.stream import Stream
from cdc_flower.devices.told import Told
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.registry import models, reads_of
from cdc_flower.strategies.base import OnDevices
from cdc_flower.strategies.registry import strategies as registered
from cdc_flower.study.trees import Config
from cdc_flower.tasks.data import data, gives_of
from cdc_flower.tasks.registry import tasks
from cdc_flower.wire import records


def plays(strategy: object, task: str) -> bool:
    """Tells whether a strategy, or a class of them, reads something that devices of a task tell.

    One that declares nothing, as Flower's own do, asks for no report and plays every task.
    """
    reads = _reads(strategy)
    return not reads or bool(reads & tells(task))


def _reads(strategy: object) -> frozenset[str]:
    return getattr(strategy, "reads", frozenset())


def tells(task: str) -> frozenset[str]:
    """Lists what devices of a task tell.

    Raises:
        UserError: If there is no such task.
    """
    return tasks.find(task, "task").value.tells


def strategies_that_play(task: str) -> list[str]:
    """Names the registered strategies that play a task."""
    return [entry.name for entry in registered.entries() if plays(entry.value, task)]


def check_plays(strategies: Mapping[str, object], task: str) -> None:
    """Refuses strategies that cannot read what devices of the task tell.

    Raises:
        UserError: If there is one. The text names the tasks and the strategies that would fit.
    """
    for name, strategy in strategies.items():
        if plays(strategy, task):
            continue
        fitting = ", ".join(other for other in tasks if plays(strategy, other)) or "no task"
        told, read = ", ".join(sorted(tells(task))), ", ".join(sorted(_reads(strategy)))
        raise UserError(
            f"strategies: {name} cannot play task={task}, whose devices tell {told}, for it reads "
            f"{read}; it plays {fitting}, and {task} is played by "
            f"{', '.join(strategies_that_play(task))}"
        )


def check_tells(strategies: Mapping[str, object], task: str) -> None:
    """Refuses reports of another part of a log where devices tell no items.

    Raises:
        UserError: If a strategy asks for one.
    """
    told = tells(task)
    if records.HISTORY in told:
        return
    for name, strategy in strategies.items():
        for key, neutral in (
            ("report_length", None),
            ("report_stride", 1),
            ("report_reads", "items"),
        ):
            value = getattr(strategy, key, neutral)
            if value != neutral:
                raise UserError(
                    f"strategy.{name}.{key} must be {shown(neutral)} with task={task}, whose "
                    f"devices tell {', '.join(sorted(told))} and no items, got {shown(value)}"
                )


def check_logs(strategies: Mapping[str, object], stream: Stream) -> None:
    """Refuses reports of another part of a log than a stream of the user's own tells.

    Raises:
        UserError: If a strategy asks for one.
    """
    for name, strategy in strategies.items():
        told = getattr(strategy, "told", None)
        if not isinstance(told, Told) or told.is_read(stream.history_length):
            continue
        if not {"length", "stride"} <= set(argument_names(stream.recent)):
            raise UserError(
                f"strategy.{name}.report_length must be null and report_stride 1, for recent() of "
                f"{type(stream).__name__} takes no length and stride"
            )


def check_counts(strategies: Mapping[str, object], num_devices: int) -> None:
    """Refuses strategies that need more devices in a round than there are.

    Raises:
        UserError: If there is one.
    """
    for name, strategy in strategies.items():
        if isinstance(strategy, OnDevices):
            try:
                strategy.check_count(num_devices)
            except UserError as error:
                raise UserError(f"strategy.{name}: {error}") from error


def check_generates(strategies: Mapping[str, object], model: DeviceModel) -> None:
    """Refuses strategies that generate layers where the model's are no chain of linear layers.

    Raises:
        UserError: If there is one. The text names the strategies that would fit.
    """
    if model.can_be_generated:
        return
    for name, strategy in strategies.items():
        if _generates(strategy):
            fitting = [each.name for each in registered.entries() if not _generates(each.value)]
            raise UserError(
                f"strategies: {name} generates adaptive layers, which must be a chain of linear "
                f"layers as in gru4rec; those of {model.word}, a plain nn.Module, are trained by "
                f"{', '.join(fitting)}"
            )


def _generates(strategy: object) -> bool:
    return bool(getattr(strategy, "generates", False))


def check_fits(config: Config) -> None:
    """Refuses data and a device model that are none for the task.

    Raises:
        UserError: If they are not. The text names some that would fit.
    """
    task = config["task"]
    wanted = tasks.find(task, "task").facts.reads
    given = gives_of(config["data"])
    if given != wanted:
        fitting = ", ".join(entry.name for entry in data.entries() if entry.facts.gives == wanted)
        raise UserError(
            f"data must give {wanted} with task={task}, such as {fitting}; "
            f"{config['data'].get('name')} gives {given}"
        )
    reads = reads_of(config["model"])
    if reads != wanted:
        fitting = ", ".join(entry.name for entry in models.entries() if entry.facts.reads == wanted)
        raise UserError(
            f"model must be one that reads {wanted} with task={task}, such as {fitting}; "
            f"{config['model'].get('name')} reads {reads}"
        )
