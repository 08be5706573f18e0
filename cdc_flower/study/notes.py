"""Keeps sentences on the trainings of a run beside its results, for terminal, report and Python."""

import logging
from collections.abc import Sequence
from pathlib import Path

import yaml

from cdc_flower.core.files import CannotWrite, write_whole

log = logging.getLogger("cdc_flower")

#: Stands for the base model among the strategies.
BASE = "base model"
#: Stands for the data: what was left out or assumed in reading them.
DATA = "data"
#: Stands for hostile devices.
ATTACK = "attack"


class Notes:
    """Keeps notes by task and strategy, in a file that a run which goes on finds again.

    Args:
        path: Of a YAML file, which is made with the first note; None keeps them in memory alone.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.found: dict[str, dict[str, list[str]]] = {}
        if path is not None and path.is_file():
            self.found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}

    def add(self, task: str, name: str, sentences: Sequence[str]) -> None:
        """Notes sentences on a strategy, in place of earlier ones, and writes them to the log.

        Args:
            task: That it plays.
            name: Of the strategy.
            sentences: Without its name and a full stop.
        """
        for words in sentences:
            log.warning("%s: %s", name, words)
        before = self.found.get(task, {})
        if list(sentences) == before.get(name, []):
            return
        own = {**before, name: list(sentences)}
        self.found[task] = {key: value for key, value in own.items() if value}
        if self.path is not None:
            try:
                text = yaml.safe_dump(self.found, sort_keys=False, allow_unicode=True)
                write_whole(self.path, text.encode())
            except CannotWrite as error:
                log.warning("%s is not written: %s", self.path, error)
