"""Data by name: options and the door to the streams they make; found by scanning this folder.

Nothing slow is imported here: the keys of a command line are checked against these options before
anything else is done.
"""

from cdc_flower.tasks.data.registry import (
    DataSource,
    StreamShape,
    checked_data,
    data,
    data_of,
    find_data,
    gives_of,
    knows_law,
)

__all__ = [
    "DataSource",
    "StreamShape",
    "checked_data",
    "data",
    "data_of",
    "find_data",
    "gives_of",
    "knows_law",
]
