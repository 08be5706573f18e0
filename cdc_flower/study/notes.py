"""Keeps sentences on the trainings of a run beside its results, for terminal, report and Python."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from cdc_flower.core.files import CannotWrite, write_whole
from cdc_flower.report.folders import QUARANTINE_FILE
from cdc_flower.tables.quarantined import Left, frame_of, read_quarantined

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
        before = self.found.get(task, {})
        for words in sentences:
            if words not in before.get(name, []):
                log.warning("%s: %s", name, words)
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

    def leave_out(self, task: str, name: str, left: Sequence[Left]) -> None:
        """Lists replies that were left out beside the notes, in place of earlier ones.

        Args:
            task: That it plays.
            name: Of the strategy.
            left: What was left out; without any there is no file.
        """
        if self.path is None:
            return
        path = self.path.with_name(QUARANTINE_FILE)
        before = read_quarantined(path)
        is_own = (before["task"] == task) & (before["strategy"] == name)
        if not left and not is_own.any():
            return
        frame = pd.concat([before[~is_own], frame_of(task, name, left)], ignore_index=True)
        try:
            write_whole(path, frame.to_csv(index=False, lineterminator="\n").encode())
        except CannotWrite as error:
            log.warning("%s is not written: %s", path, error)


@dataclass(frozen=True)
class TaskNotes:
    """Keeps what there is to say of the strategies of one task."""

    notes: Notes
    task: str

    def add(self, name: str, sentences: Sequence[str]) -> None:
        """Notes sentences on a strategy; see :meth:`Notes.add`."""
        self.notes.add(self.task, name, sentences)

    def leave_out(self, name: str, left: Sequence[Left]) -> None:
        """Lists replies of a strategy that were left out; see :meth:`Notes.leave_out`."""
        self.notes.leave_out(self.task, name, left)
