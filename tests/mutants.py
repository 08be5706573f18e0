"""Counts changed files: each is read, or refused in a line, and soon."""

import resource
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from cdc_flower.core.errors import UserError

#: Name of the property that holds the counts of a test.
PROPERTY = "mutants"
#: Seconds for one file: thousands of times what a whole one takes.
LONGEST_S = 20
_LONGEST_LINE = 1_000


class TookTooLong(BaseException):
    """Ends a reader that hangs, which tells any other exception as damage of the file."""


@dataclass
class Mutants:
    """Counts the files of a test.

    Attributes:
        what: Words for them.
        num_read: That were read.
        num_refused: That were refused in a line.
        slowest_s: Seconds that the slowest took.
        peak_bytes: Resident memory of the process at its most, so far.
    """

    what: str = "changed files"
    num_read: int = 0
    num_refused: int = 0
    slowest_s: float = 0.0
    peak_bytes: int = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Reads one in the block; any other error than a line for the user is a fault."""
        start = time.monotonic()
        try:
            with _no_longer_than(LONGEST_S):
                yield
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < _LONGEST_LINE, str(error)
            self.num_refused += 1
        else:
            self.num_read += 1
        self.slowest_s = max(self.slowest_s, time.monotonic() - start)
        assert self.slowest_s < LONGEST_S
        self.peak_bytes = peak_bytes()

    def facts(self) -> dict[str, object]:
        """Gives the counts as a test's property."""
        return asdict(self)


def peak_bytes() -> int:
    """Gives the resident memory of this process at its most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def summary(found: Iterable[dict[str, Any]]) -> list[str]:
    """Sums up the counts of tests, in a line for each kind of files."""
    every = sorted((Mutants(**facts) for facts in found), key=attrgetter("what"))
    return [_line(what, list(group)) for what, group in groupby(every, attrgetter("what"))]


def _line(what: str, group: Sequence[Mutants]) -> str:
    num_read = sum(each.num_read for each in group)
    num_refused = sum(each.num_refused for each in group)
    slowest_s = max(each.slowest_s for each in group)
    peak_mib = max(each.peak_bytes for each in group) / 2**20
    return (
        f"{num_read + num_refused:,} {what}: {num_read:,} read, {num_refused:,} refused in a line, "
        f"slowest {slowest_s:.2f} s, peak memory {peak_mib:,.0f} MiB"
    )


@contextmanager
def _no_longer_than(seconds: float) -> Iterator[None]:
    """Ends what hangs."""

    def end(*_: object) -> None:
        raise TookTooLong(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
