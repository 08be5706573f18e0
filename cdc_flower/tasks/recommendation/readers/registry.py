"""Readers of interaction files by the layout of the file, found by scanning this folder."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cdc_flower.core.registry import Registry
from cdc_flower.tasks.recommendation.readers.options import ReaderOptions
from cdc_flower.tasks.recommendation.readers.rows import Rows


@dataclass(frozen=True)
class ReaderFacts:
    """Facts of a reader.

    Attributes:
        has_columns: Whether ``data.columns`` says what each field of a row is.
        reads: ``text`` takes the text of a whole file, the name of the file for errors, and its
            layout, and gives its rows. ``parts`` takes the path and the layout, and gives rows
            part by part, so that memory does not follow the file.
    """

    has_columns: bool = False
    reads: str = "text"


TextReader = Callable[[str, str, ReaderOptions], Rows]
PartsReader = Callable[[Path, ReaderOptions], Iterator[Rows]]
#: Reads a file as its facts say.
Reader = TextReader | PartsReader
readers: Registry[Reader, ReaderFacts] = Registry(
    "format", "readers", ReaderFacts, "cdc_flower.tasks.recommendation.readers"
)
