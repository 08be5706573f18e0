"""Readers of interaction files by the layout of the file, found by scanning this folder."""

from collections.abc import Callable
from dataclasses import dataclass

from cdc_flower.core.registry import Registry
from cdc_flower.tasks.recommendation.readers.options import ReaderOptions
from cdc_flower.tasks.recommendation.readers.rows import Rows


@dataclass(frozen=True)
class ReaderFacts:
    """Facts of a reader.

    Attributes:
        has_columns: Whether ``data.columns`` says what each field of a row is.
    """

    has_columns: bool = False


#: Reads a text: the text, the name of its file for errors, and its layout.
Reader = Callable[[str, str, ReaderOptions], Rows]
readers: Registry[Reader, ReaderFacts] = Registry(
    "format", "readers", ReaderFacts, "cdc_flower.tasks.recommendation.readers"
)
