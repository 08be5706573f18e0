"""Where tables are printed, and progress on a terminal; silence where nobody watches (no terminal, or CI)."""

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

#: Columns of a table where no terminal says how many there are.
WIDTH = 120


def table_console() -> Console:
    """Standard output: as wide as the terminal, or in a file or pipe wide enough that no table is folded."""
    console = Console()
    return console if console.is_terminal else Console(width=max(WIDTH, console.width))


class Bars:
    """Progress bars, one after the other. A context manager.

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

    def bar(self, text: str, num_steps: int) -> Callable[[], None]:
        """A new bar, and the function that moves it by one step."""
        task = self._progress.add_task(text, total=num_steps)
        return lambda: self._progress.advance(task)
