"""Formats of recorded links: a reader of one file's text each, found by scanning this folder.

Each turns the text of one file into the two directions of a link, of which one may be missing.
Every mistake in a file is one error with the file and the line.
"""

from collections.abc import Callable

from cdc_flower.core.registry import NoFacts, Registry
from cdc_flower.simulations.network.trace import Trace

Directions = dict[str, Trace]

#: Text and name of a file -> the directions that it holds, ``up``, ``down`` or both.
trace_formats: Registry[Callable[[str, str], Directions], NoFacts] = Registry(
    "trace format", "trace_formats", NoFacts, __name__
)
