"""Prints tables and progress on a terminal or in a notebook, and is silent where nobody watches.

Nobody watches a file, a pipe, or a machine that sets ``CI``.
"""

import importlib
import os
import sys
import time
from collections.abc import Callable
from html import escape
from types import TracebackType
from typing import Protocol, Self

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
#: Seconds between two changes of a bar in a notebook.
_REDRAW_S = 0.1


def table_console() -> Console:
    """Opens standard output so wide that no table is folded.

    That is as wide as the terminal; in a file or pipe, ``WIDTH`` or more.
    """
    console = Console()
    return console if console.is_terminal else Console(width=max(WIDTH, console.width))


class Display(Protocol):
    """A place in the output of a notebook's cell."""

    def update(self, shown: object) -> object:
        """Shows something else there."""


def notebook_display() -> Callable[[str], Display] | None:
    """Finds the function that shows HTML below a notebook's cell; None outside of notebooks."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if type(shell).__name__ in ("NoneType", "TerminalInteractiveShell"):
        return None
    tools = importlib.import_module("IPython.display")
    return lambda html: _NotebookPlace(tools, tools.display(tools.HTML(html), display_id=True))


class _NotebookPlace:
    """A place in a notebook that shows HTML."""

    def __init__(self, tools: object, handle: object) -> None:
        self._html: Callable[[str], object] = tools.HTML  # type: ignore[attr-defined]
        self._handle = handle

    def update(self, shown: object) -> object:
        # Old front ends give no handle, and then the bar stays as it was.
        update = getattr(self._handle, "update", None)
        return None if update is None else update(self._html(str(shown)))


class _NotebookBar:
    """One bar below a cell, which no widget has to be installed for."""

    def __init__(
        self, show: Callable[[str], Display], text: str, num_steps: int, num_done: int = 0
    ) -> None:
        self._text = escape(text)
        self._num_steps = num_steps
        self._done = num_done
        self._drawn_s = time.monotonic()
        self._place = show(self._html())

    def step(self) -> None:
        """Moves it by one, and draws it if it is time or the end."""
        self._done += 1
        now_s = time.monotonic()
        if now_s - self._drawn_s >= _REDRAW_S or self._done >= self._num_steps:
            self._drawn_s = now_s
            self._place.update(self._html())

    def _html(self) -> str:
        bar = f"<progress max='{self._num_steps}' value='{self._done}'></progress>"
        return f"<div>{bar} {self._done}/{self._num_steps} {self._text}</div>"


class Bars:
    """Draws progress bars, one after the other. A context manager.

    Args:
        console: Where to draw; by default below the cell in a notebook, else standard error. It
            must be a terminal and ``CI`` unset, or nothing is.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._notebook = notebook_display() if console is None else None
        console = console or Console(stderr=True, force_jupyter=False)
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
        if self._notebook is not None:
            return _NotebookBar(self._notebook, text, num_steps, num_done).step
        task = self._progress.add_task(text, total=num_steps, completed=num_done)
        return lambda: self._progress.advance(task)
