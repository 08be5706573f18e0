"""Ends a command in order after Ctrl-C, a request to end (SIGTERM) or a lost terminal (SIGHUP)."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

#: Signals that end a command; a system may lack one.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")

#: The signal that came last: code beneath Python, such as Ray's, raises a plain KeyboardInterrupt
#: in the place of what the handler raised.
_came = signal.SIGINT


class Stopped(KeyboardInterrupt):
    """Tells that a signal ended a command, and in which run folder what was finished is.

    Args:
        signum: Of the signal; None: the one that came.
        folder: Of the run; None before there is one.
    """

    def __init__(self, signum: int | None = None, folder: Path | None = None) -> None:
        self.signum = int(_came) if signum is None else signum
        super().__init__(self.signum)
        self.folder = folder

    @property
    def exit_code(self) -> int:
        """Gives the exit code that shells give to a command that a signal ended."""
        return 128 + self.signum


def stopped_in(folder: Path, error: KeyboardInterrupt) -> Stopped:
    """Makes the exception that knows the run folder out of the one that ended the run."""
    return Stopped(error.signum if isinstance(error, Stopped) else None, folder)


@contextmanager
def stopping() -> Iterator[None]:
    """Lets the first of :data:`NAMES` raise :class:`Stopped`; a second one ends at once.

    A signal that is ignored, as under ``nohup``, stays so. Python allows it in the main thread
    only; elsewhere nothing is changed.
    """
    global _came
    _came = signal.SIGINT
    known = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.getsignal(each) for each in known}
    handled = [each for each in known if before[each] is not signal.SIG_IGN]

    def stop(signum: int, frame: FrameType | None) -> None:
        global _came
        _came = signal.Signals(signum)
        for each in handled:
            is_ctrl_c = each == signal.SIGINT
            signal.signal(each, signal.default_int_handler if is_ctrl_c else signal.SIG_DFL)
        raise Stopped(signum)

    for each in handled:
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each in handled:
            signal.signal(each, before[each])
