"""Keeps a run in its folder while it is played, so that another process can go on with it.

Rows are kept by segment, finished strategies by a mark, and the state of the strategy under way by
:mod:`cdc_flower.study.saved_sessions`. Nothing of it is left when the run is finished.
"""

import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cdc_flower.core.errors import UserError
from cdc_flower.core.files import sealed, unsealed, write_whole
from cdc_flower.strategies.base import OnDevices
from cdc_flower.study.saved_sessions import CHECKPOINTS, SavedSession, SavedSessions
from cdc_flower.study.session import Session
from cdc_flower.tables.parts import PARTS, Order, Parts

log = logging.getLogger("cdc_flower")

#: Trained parameters of an unfinished run, which has no cache.
TRAINING = "training"
#: Beside the parts of a strategy: it is finished.
DONE = "_done.json"
AUTO = "auto"
#: With ``auto`` a state is saved after the segment in which so much time has passed since the last,
#: and so many times what saving took: it costs less than a thirtieth of a run.
AUTO_S = 60.0
AUTO_TIMES = 30.0


class Journal:
    """Keeps one run.

    Args:
        out: The run folder.
        facts: On which its rows depend; what was kept with others is not used.
    """

    def __init__(self, out: Path, facts: Mapping[str, object]) -> None:
        self.out, self.facts = out, dict(facts)
        self.parts = Parts(out / PARTS)
        self.sessions = SavedSessions(out / CHECKPOINTS)

    def begin(self, order: Order) -> None:
        """Writes what the run is, before it has any row."""
        self.parts.begin(order, self.facts)

    def append(self, frame: pd.DataFrame) -> None:
        """Keeps the rows of a segment."""
        self.parts.append(frame)

    def strategy(self, task: str, name: str, every: str | int | None) -> "StrategyJournal":
        """Opens what is kept of one strategy.

        Args:
            task: That it plays.
            name: Of the strategy.
            every: Segments between two states; ``auto`` goes by time, 0 and None keep none.
        """
        return StrategyJournal(self, task, name, every)

    def has_line(self, task: str, name: str, num_segments: int) -> bool:
        """Tells whether every segment of a reference line is kept.

        Args:
            task: That it plays.
            name: Of the line.
            num_segments: Of the stream.
        """
        names = self.parts.whole_names(task, name)
        return len(names) == num_segments and self.parts.hold(task, name, names)

    def cache(self, every: str | int | None) -> str | None:
        """Names the folder of trained parameters; None where no state is to be kept."""
        return str(self.out / TRAINING) if every else None

    def finish(self, path: Path, order: Order) -> None:
        """Joins all rows to the table of the run, and removes what was kept to go on with.

        Args:
            path: Of the table.
            order: Of tasks and strategies in it.
        """
        self.parts.join(path, order)
        self.clear()

    def clear(self) -> None:
        """Removes everything that is kept."""
        self.parts.clear()
        self.sessions.clear()
        shutil.rmtree(self.out / TRAINING, ignore_errors=True)


@dataclass
class StrategyJournal:
    """Keeps one strategy of a run, from its first segment to its end."""

    journal: Journal
    task: str
    name: str
    every: str | int | None

    def __post_init__(self) -> None:
        """Finds what is kept."""
        self._mark = self.journal.parts.of_strategy(self.task, self.name) / DONE
        mark = unsealed(self._mark)
        self.is_done = mark is not None and self._is_ours(mark) and self._holds(mark)
        if self._mark.exists() and not self.is_done:
            log.warning("%s was finished, but what is kept of it is damaged: again", self.name)
        self._found = None if self.is_done else self._newest()
        self._saved_s = time.monotonic()
        self._cost_s = 0.0

    @property
    def num_done(self) -> int:
        """Counts the segments that need not be played again."""
        return self._found.segment if self._found else 0

    def rounds(self, session: Session) -> None:
        """Plays the rounds that are not done, and saves the session between them."""
        if self._found:
            session.from_arrays(self._found.arrays)
            log.info("%s: goes on after segment %d", self.name, self._found.segment - 1)
            self._found = None  # its arrays are large
        saves = bool(self.every) and _can_be_saved(session)
        self._saved_s = time.monotonic()
        session.run(after_round=self._after if saves else None)

    def end(self) -> None:
        """Marks the strategy as finished: it is never played again."""
        rows = {"rows": self.journal.parts.whole_names(self.task, self.name)}
        write_whole(self._mark, sealed({**self.journal.facts, **rows}))
        self.journal.sessions.clear()

    def _newest(self) -> SavedSession | None:
        facts = {**self.journal.facts, "task": self.task, "strategy": self.name}
        return self.journal.sessions.newest(facts, self._holds)

    def _after(self, session: Session) -> None:
        if session.done < session.num_rounds and self._is_due(session.done):
            start_s = time.monotonic()
            names = {"task": self.task, "strategy": self.name, "segment": session.done}
            rows = {"rows": self.journal.parts.names(self.task, self.name, session.done)}
            facts = {**self.journal.facts, **names, **rows}
            self.journal.sessions.save(session.to_arrays(), facts)
            self._saved_s = time.monotonic()
            self._cost_s = self._saved_s - start_s

    def _is_due(self, num_done: int) -> bool:
        if isinstance(self.every, int):
            return num_done % self.every == 0
        return time.monotonic() - self._saved_s >= max(AUTO_S, AUTO_TIMES * self._cost_s)

    def _is_ours(self, kept: Mapping[str, object]) -> bool:
        return all(kept.get(name) == value for name, value in self.journal.facts.items())

    def _holds(self, kept: Mapping[str, object]) -> bool:
        rows = kept.get("rows")
        return isinstance(rows, list) and self.journal.parts.hold(self.task, self.name, rows)


def _can_be_saved(session: Session) -> bool:
    """Tells whether all parts of a session can be saved; says in the log which cannot."""
    try:
        session.parts()
    except UserError as error:
        log.info("states are not kept, so an interrupted strategy begins again: %s", error)
        return False
    strategy: object = session.strategy
    if isinstance(strategy, OnDevices) and type(strategy).state is not OnDevices.state:
        return type(strategy).set_state is not OnDevices.set_state
    return True
