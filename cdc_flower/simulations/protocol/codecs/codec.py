"""The two bases of codecs, for arrays and for bytes, and their registry."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.options import check_options
from cdc_flower.core.registry import Registry
from cdc_flower.core.targets import Shape

#: What becomes of an array, in this order; a protocol has at most one codec of each stage.
STAGES = ("difference", "selection", "numbers", "bytes")

#: Arrays ``[k, ...]`` that a receiver needs beside the encoded one, by name.
Parts = dict[str, NDArray]


@dataclass(frozen=True)
class CodecFacts:
    """Facts of a codec that are known before it is used.

    Attributes:
        stage: One of ``STAGES``.
        is_lossy: Whether what comes out may differ from what went in.

    Raises:
        ValueError: If there is no such stage.
    """

    stage: str
    is_lossy: bool = False

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ValueError(f"stage must be one of {', '.join(STAGES)}, got {self.stage!r}")


@dataclass(frozen=True)
class About:
    """Facts of an array that both ends know.

    Attributes:
        shape: Of what a codec is given of one message, ``[k, *shape]``.
        reference: ``[k, *shape]``, what each receiver holds; None: nothing that is known.
        is_lossy: Whether any codec of the protocol is.
        parts: Where it is decoded, what came beside the array, of all codecs.
    """

    shape: tuple[int, ...]
    reference: NDArray | None = None
    is_lossy: bool = False
    parts: Parts = field(default_factory=dict)


class ArrayCodec(ABC):
    """Turns float32 arrays into others, message by message.

    The shapes and types of what it makes may depend on those of what it is given and on nothing
    else, for a receiver must know them beforehand. Its fields are its options: ``share`` of
    ``top_k`` is the key ``protocol.top_k_share``.

    Raises:
        ValueError: If an option is out of its range.
    """

    def __post_init__(self) -> None:
        check_options(self)

    @abstractmethod
    def encode(self, value: NDArray, about: About) -> tuple[NDArray, Parts]:
        """Encodes an array of each message.

        Args:
            value: ``[k, *about.shape]``; the result of the codec of the stage before.
            about: What both ends know.

        Returns:
            The encoded array ``[k, ...]``, and what the receiver needs beside it.
        """

    @abstractmethod
    def decode(self, value: NDArray, about: About) -> NDArray:
        """Makes the array ``[k, *about.shape]`` again.

        Args:
            value: ``[k, ...]``, of :meth:`encode`.
            about: What both ends know, and what came beside it.
        """


class BytesCodec(ABC):
    """Turns the bytes of a message into fewer.

    Raises:
        ValueError: If an option is out of its range.
    """

    def __post_init__(self) -> None:
        check_options(self)

    @abstractmethod
    def compress(self, raw: NDArray[np.uint8]) -> list[bytes]:
        """Compresses the bytes of each message, ``[k, size]``."""

    @abstractmethod
    def expand(self, blobs: list[bytes], size: int) -> list[bytes]:
        """Makes the ``size`` bytes of each message again."""


codecs: Registry[type[ArrayCodec] | type[BytesCodec], CodecFacts] = Registry(
    "codec",
    "codecs",
    CodecFacts,
    "cdc_flower.simulations.protocol.codecs",
    Shape(
        "a class that derives from ArrayCodec or BytesCodec",
        lambda value: isinstance(value, type) and issubclass(value, ArrayCodec | BytesCodec),
    ),
)
