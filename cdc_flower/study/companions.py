"""Which tasks a command line plays: the one that it names, or all of the default comparison where it names none."""

from collections.abc import Sequence
from typing import Any

from hydra import compose

from cdc_flower.study.setup import resolved

#: Played beside recommendation where the command line says nothing that concerns one task alone.
COMPANIONS = ("video_qa",)
#: Keys that mean the same for every task.
SHARED_KEYS = ("seed", "out", "cache", "num_segments", "network", "fleet", "grid")


def companions(overrides: Sequence[str]) -> list[dict[str, Any]]:
    """The resolved configurations of further tasks, with the same overrides; none if an override concerns one task.

    Args:
        overrides: Of the command line, such as ``seed=1``. Hydra must be initialized.

    Raises:
        UserError: As :func:`~cdc_flower.study.setup.resolved`.
    """
    keys = [text.lstrip("+~").partition("=")[0].split(".")[0] for text in overrides]
    if not all(key in SHARED_KEYS for key in keys):
        return []
    return [
        resolved(compose("config", overrides=[*overrides, f"task={task}"]), overrides)
        for task in COMPANIONS
    ]
