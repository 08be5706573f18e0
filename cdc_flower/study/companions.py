"""Tasks of a command line: the one that it names, or the default comparison where it names none."""

from collections.abc import Sequence

from hydra import compose

from cdc_flower.study.check import is_for_every_task
from cdc_flower.study.setup import resolved
from cdc_flower.study.trees import Tree
from cdc_flower.tasks.registry import tasks


def companions(overrides: Sequence[str]) -> list[Tree]:
    """Resolves the configurations of further tasks, with the same overrides.

    There are none if an override concerns one task.

    Args:
        overrides: Of the command line, such as ``seed=1``. Hydra must be initialized.

    Raises:
        UserError: As :func:`~cdc_flower.study.setup.resolved`.
    """
    keys = [text.lstrip("+~").partition("=")[0].split(".")[0] for text in overrides]
    if not all(is_for_every_task(key) for key in keys):
        return []
    return [
        resolved(compose("config", overrides=[*overrides, f"task={entry.name}"]), overrides)
        for entry in tasks.entries()
        if entry.facts.is_companion
    ]
