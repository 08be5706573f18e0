"""Tasks by name, found by scanning this folder."""

from dataclasses import dataclass

from cdc_flower.core.registry import Registry
from cdc_flower.core.targets import derived_from
from cdc_flower.tasks.protocol import Task


@dataclass(frozen=True)
class TaskFacts:
    """Facts of a task that are known before there are data.

    Attributes:
        reads: What its data give and its models read, such as ``items`` or ``clips``.
        is_companion: Whether it is played beside the configured task where the command line says
            nothing that concerns one task alone.
        shows_exchange: Whether a report draws its metrics against the bytes of one exchange.
    """

    reads: str
    is_companion: bool = False
    shows_exchange: bool = False


tasks: Registry[type[Task], TaskFacts] = Registry(
    "task", "tasks", TaskFacts, "cdc_flower.tasks", derived_from(Task)
)
