"""Prints tables and progress on a terminal, and is silent where nobody watches.

Nobody watches a file, a pipe, or a machine that sets ``CI``.
"""

import os
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

#: Characters of a line of a table where no terminal says how many there are.
WIDTH = 120


def table_console() -> Console:
    """Opens standard output so wide that no table is folded.

    That is as wide as the terminal; in a file or pipe, ``WIDTH`` or more.
    """
    console = Console()
    return console if console.is_terminal else Console(width=max(WIDTH, console.width))


class Bars:
    """Draws progress bars, one after the other. A context manager.

    Args:
        console: Where to draw; standard error by default. It must be a terminal and ``CI`` unset,
            or nothing is.
    """

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<36}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal or bool(os.environ.get("CI")),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def bar(self, text: str, num_steps: int, num_done: int = 0) -> Callable[[], None]:
        """Starts a new bar, and returns the function that moves it by one step.

        Args:
            text: Before the bar.
            num_steps: At its end.
            num_done: At its start.
        """
        task = self._progress.add_task(text, total=num_steps, completed=num_done)
        return lambda: self._progress.advance(task)
