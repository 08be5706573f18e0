"""The registry of data: embedded generators and readers of files, each with its options.

One is a dataclass of options that names the function which makes the stream, by its path: options
are checked before anything slow is imported, and that function may import them::

    @data.register("moving_digits", gives="clips")
    @dataclass(frozen=True, kw_only=True)
    class DigitsOptions(DataOptions):
        builder: ClassVar[str] = "cdc_flower.tasks.video.moving_digits:stream_of"
        period: int = option(4, least=1, doc="segments between two shifts")

A class of your own may have a method ``stream(shape)`` instead.
"""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.held import Held
from cdc_flower.core.options import check_options, option
from cdc_flower.core.registry import Entry, Registry
from cdc_flower.core.targets import TARGET, having

#: A stream of the kind that the task in question plays; the tasks say which.
OwnStream = Any
#: Kinds of shift of embedded data.
SHIFTS = ("abrupt", "gradual", "incremental", "none", "recurring")


@dataclass(frozen=True)
class StreamShape:
    """The size of a run, beside the options of its data.

    Attributes:
        num_segments: Of the stream.
        seed: Of the run.
        num_devices: None: all that the data have.
        history_length: Items that a model sees before an event.
        num_negatives: Candidates beside the true one.
        captions: Whether clips are searched by captions.
    """

    num_segments: int
    seed: int
    num_devices: int | None = None
    history_length: int = 10
    num_negatives: int = 99
    captions: bool = False


class DataSource(Protocol):
    """Makes streams."""

    def stream(self, shape: StreamShape) -> OwnStream:
        """Reads or draws the stream of all devices.

        Raises:
            UserError: If a file is missing or malformed, or the data do not fit the shape.
        """


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options that all data have. Values are checked when they are made.

    Attributes:
        builder: Path ``module:function`` of the function of options and shape that makes the
            stream; it is imported when a stream is asked for.

    Raises:
        UserError: If one is out of its range.
    """

    builder: ClassVar[str] = ""
    name: str = option("", doc="of the data, as results call them")
    segment_s: float = option(60.0, above=0, doc="virtual seconds that a segment lasts")

    def __post_init__(self) -> None:
        check_options(self, "data")

    def stream(self, shape: StreamShape) -> OwnStream:
        """Reads or draws the stream of all devices by the builder.

        Raises:
            TypeError: If the class names none.
            UserError: If a file is missing or malformed, or the data do not fit the shape.
        """
        if not self.builder:
            raise TypeError(f"{type(self).__name__} must have a builder or a method stream")
        return pkgutil.resolve_name(self.builder)(self, shape)


@dataclass(frozen=True)
class DataFacts:
    """Facts of data.

    Attributes:
        gives: What their streams are made of: ``items`` or ``clips``, or a word that a task of
            your own takes.
        key: The key by which files of any name are known to be of this kind; "" for data that are
            known by their name.
        knows_law: Whether their streams know the law by which they were drawn.
    """

    gives: str
    key: str = ""
    knows_law: bool = False


data: Registry[type[DataSource], DataFacts] = Registry(
    "data", "data", DataFacts, "cdc_flower.tasks.data", having("stream")
)


def find_data(node: Mapping[str, object]) -> Entry[type[DataSource], DataFacts]:
    """Finds the kind of configured data: by path or name, or by the key that says where files are.

    Args:
        node: The configured ``data``.

    Raises:
        UserError: If there is no such kind.
    """
    name = node.get("name")
    if TARGET in node:
        return data.of_target(node[TARGET], f"data.{TARGET}")
    if name in data:
        return data[str(name)]
    for entry in data.entries():
        if entry.facts.key and entry.facts.key in node:
            return entry
    raise unknown_name("data", str(name), data, "data.name")


def checked_data(node: Mapping[str, object]) -> dict[str, object]:
    """Checks configured data: every key, and every value in its range. No file is opened.

    Raises:
        UserError: If something is wrong.
    """
    kind = find_data(node)
    checked = kind.checked(node, "data")
    _made(kind, checked)  # what concerns two values at once
    return checked


def data_of(node: Mapping[str, object]) -> DataSource:
    """Makes the source of configured data.

    Raises:
        UserError: If a key or a value is wrong.
    """
    if isinstance(node, Held):
        return cast(DataSource, node.value)
    kind = find_data(node)
    return _made(kind, kind.checked(node, "data"))


def gives_of(node: Mapping[str, object]) -> str:
    """Tells what the streams of configured data are made of.

    Raises:
        UserError: If there are no such data.
    """
    return node.fits if isinstance(node, Held) else find_data(node).facts.gives


def knows_law(node: Mapping[str, object]) -> bool:
    """Tells whether streams of configured data know the law by which they were drawn.

    Raises:
        UserError: If there are no such data.
    """
    return not isinstance(node, Held) and find_data(node).facts.knows_law


def _made(kind: Entry[type[DataSource], DataFacts], checked: Mapping[str, object]) -> DataSource:
    try:
        return kind.value(**kind.arguments(checked))
    except ValueError as error:
        raise UserError(f"data.{error}") from error
