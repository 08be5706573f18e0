"""Formats of recorded links: a reader of one file's text each, found by scanning this folder.

Each turns the text of one file into the two directions of a link, of which one may be missing, or
into several links. Every mistake in a file is one error with the file and the line.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cdc_flower.core.registry import Registry
from cdc_flower.simulations.network.trace import Trace

#: A direction, ``up`` or ``down``, and its rates.
Directions = Mapping[str, Trace]


@dataclass(frozen=True)
class Recorded:
    """Holds a link as a file has it.

    Attributes:
        up: Rates from the device to the cloud; None if they were not recorded. Likewise ``down``.
        name: Of the link among several in its file; "" if it is the only one.
        rtt_s: Mean round-trip time; None if it was not recorded.
        loss: Share of packets that were lost, in [0, 1]; None if it was not recorded.
        num_repeated: Rows with the time of the row before, which were merged.
        line: Number of the first of them.
    """

    up: Trace | None = None
    down: Trace | None = None
    name: str = ""
    rtt_s: float | None = None
    loss: float | None = None
    num_repeated: int = 0
    line: int = 0


Read = Directions | Recorded | Sequence[Recorded]


@dataclass(frozen=True)
class FormatFacts:
    """Tells of a format what has to be known before a file is read.

    Attributes:
        takes_columns: Whether the reader takes ``network.columns`` as a third argument.
    """

    takes_columns: bool = False


#: Text and name of a file -> the link or links that it holds.
trace_formats: Registry[Callable[..., Read], FormatFacts] = Registry(
    "trace format", "trace_formats", FormatFacts, __name__
)
