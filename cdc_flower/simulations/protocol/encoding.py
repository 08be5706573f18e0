"""Codecs one after the other, for a batch of messages: real bytes out, and the arrays back."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cdc_flower.core.errors import UserError, unknown_name
from cdc_flower.core.options import Option, checked_values, option, options_of
from cdc_flower.core.registry import Entry
from cdc_flower.simulations.network.rates import Ints
from cdc_flower.simulations.protocol.codecs import (
    STAGES,
    About,
    ArrayCodec,
    BytesCodec,
    CodecFacts,
    Parts,
    codecs,
)

#: Part of an array -> its shape in one message, and its type.
Layout = dict[str, tuple[tuple[int, ...], np.dtype]]


@dataclass(frozen=True)
class ProtocolOptions:
    """The list of codecs; the options of each codec are beside it, with its name before theirs."""

    codecs: tuple[str, ...] = option(
        (), neutral=None, doc="in order; [] sends payloads as they are"
    )


class Codecs:
    """Encodes and decodes arrays with some codecs, in the order of their stages.

    ``blob`` is the name under which the compressed bytes of a record travel; None where no codec
    compresses bytes.

    Args:
        names: Registered names. None of them: arrays are sent as they are, bit by bit.
        options: Of codecs, each with the codec's name before its own, such as ``top_k_share=0.1``.

    Raises:
        UserError: If a name is unknown, named twice or out of order, two codecs have one stage, or
            an option is unknown or out of its range.
    """

    def __init__(self, names: Sequence[str] = (), **options: object) -> None:
        self.names = tuple(names)
        entries = _in_order(self.names)
        self._options = checked_values(protocol_options(), options, "protocol")
        made = [(entry.facts, _made(entry, self._options)) for entry in entries]
        self._arrays = [(facts, codec) for facts, codec in made if isinstance(codec, ArrayCodec)]
        self._packer = next((codec for _, codec in made if isinstance(codec, BytesCodec)), None)
        self.blob = self.names[-1] if self._packer is not None else None
        self._layouts: dict[tuple[tuple[int, ...], np.dtype, bool], Layout] = {}
        self._inputs: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        self.is_lossy = any(entry.facts.is_lossy for entry in entries)
        self.takes_difference = any(entry.facts.stage == "difference" for entry in entries)

    def only(self, stages: Iterable[str]) -> "Codecs":
        """Makes the codecs of some stages alone."""
        wanted = set(stages)
        names = [name for name in self.names if codecs[name].facts.stage in wanted]
        return Codecs(names, **self._options)

    def encode(self, value: NDArray, reference: NDArray | None) -> Parts:
        """Encodes an array as parts; numbers that are not float32 stay as they are.

        Args:
            value: ``[k, ...]``, one row a message.
            reference: What each receiver holds, of the same shape; None: nothing, so there is no
                difference to take.

        Returns:
            Parts ``[k, ...]`` by name, before the bytes are compressed; the last is named "".
        """
        if value.dtype != np.float32:
            return {"": value}
        parts: Parts = {}
        encoded = value
        for facts, codec in self._arrays:
            encoded, beside = codec.encode(
                encoded, self._about(facts, encoded.shape[1:], reference)
            )
            if twice := parts.keys() & beside.keys():
                raise ValueError(
                    f"parts of codecs must have names of their own, got {min(twice)} twice"
                )
            parts |= beside
        return {**parts, "": encoded}

    def decode(
        self, parts: Parts, shape: tuple[int, ...], dtype: DTypeLike, reference: NDArray | None
    ) -> NDArray:
        """Makes the array ``[k, *shape]`` again.

        Args:
            parts: Of :meth:`encode`.
            shape: Of the array, without ``k``.
            dtype: Of the array before.
            reference: As in :meth:`encode`.
        """
        value = parts[""]
        if np.dtype(dtype) != np.float32:
            return value
        steps = zip(self._arrays, self._inputs_of(shape), strict=True)
        for (facts, codec), before in reversed(list(steps)):
            about = replace(self._about(facts, before, reference), parts=parts)
            value = codec.decode(value, about).reshape(len(value), *before)
        return value.reshape(len(value), *shape)

    def layout(self, shape: tuple[int, ...], dtype: DTypeLike, has_reference: bool) -> Layout:
        """Lays out the parts of an array, as a receiver knows them beforehand.

        Args:
            shape: Of the array in one message.
            dtype: Of the array.
            has_reference: Whether it goes as a difference.
        """
        key = (shape, np.dtype(dtype), has_reference)
        if key not in self._layouts:
            one = np.zeros((1, *shape), dtype)
            parts = self.encode(one, one if has_reference else None)
            self._layouts[key] = {
                name: (part.shape[1:], part.dtype) for name, part in parts.items()
            }
        return self._layouts[key]

    def compress(self, parts: Sequence[NDArray]) -> tuple[NDArray[np.uint8], Ints]:
        """Compresses all parts of each message: padded ``[k, longest]``, and lengths ``[k]``."""
        assert self._packer is not None
        k = len(parts[0])
        raw = np.concatenate(
            [np.ascontiguousarray(part).reshape(k, -1).view(np.uint8) for part in parts], 1
        )
        blobs = self._packer.compress(raw)
        lengths = np.array([len(blob) for blob in blobs], np.int64)
        padded = np.zeros((k, int(lengths.max(initial=0))), np.uint8)
        for row, blob in enumerate(blobs):
            padded[row, : len(blob)] = np.frombuffer(blob, np.uint8)
        return padded, lengths

    def expand(
        self,
        blobs: NDArray[np.uint8],
        lengths: Ints,
        layout: Mapping[str, tuple[tuple[int, ...], np.dtype]],
    ) -> Parts:
        """Makes the parts ``[k, ...]`` again.

        Args:
            blobs: ``[k, longest]``, of :meth:`compress`.
            lengths: ``[k]``.
            layout: Of the parts, in their order.
        """
        assert self._packer is not None
        sizes = {
            name: int(np.prod(shape)) * dtype.itemsize for name, (shape, dtype) in layout.items()
        }
        total = sum(sizes.values())
        cut = [blob[:length].tobytes() for blob, length in zip(blobs, lengths, strict=True)]
        rows = b"".join(self._packer.expand(cut, total))
        raw = np.frombuffer(rows, np.uint8).reshape(len(blobs), total)
        parts: Parts = {}
        start = 0
        for name, (shape, dtype) in layout.items():
            part = np.ascontiguousarray(raw[:, start : start + sizes[name]])
            parts[name] = part.view(dtype).reshape(len(blobs), *shape)
            start += sizes[name]
        return parts

    def _about(self, facts: CodecFacts, shape: tuple[int, ...], reference: NDArray | None) -> About:
        return About(shape, reference if facts.stage == "difference" else None, self.is_lossy)

    def _inputs_of(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Lists the shapes in which each codec is given an array."""
        if shape not in self._inputs:
            value = np.zeros((1, *shape), np.float32)
            found = []
            for facts, codec in self._arrays:
                found.append(value.shape[1:])
                value, _ = codec.encode(value, self._about(facts, value.shape[1:], None))
            self._inputs[shape] = found
        return self._inputs[shape]


def protocol_options() -> dict[str, Option]:
    """Lists the options: the codecs, and those of each, with its name before theirs."""
    own = {
        _key(entry, name): replace(each, name=_key(entry, name))
        for entry in codecs.entries()
        for name, each in options_of(entry.value).items()
    }
    return {**options_of(ProtocolOptions), **own}


def codecs_of(config: Mapping[str, object]) -> Codecs:
    """Makes the codecs of a configured ``protocol``.

    Raises:
        UserError: As :class:`Codecs`, or if the codecs are no list.
    """
    names = config["codecs"]
    is_list = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    if not is_list:
        raise UserError(f"protocol.codecs must be a list such as [float16,zstd], got {names}")
    options = {key: value for key, value in config.items() if key != "codecs"}
    return Codecs(names, **options)  # type: ignore[arg-type]


def ordered_codecs() -> list[str]:
    """Lists the names of all codecs in the order of their stages."""
    entries = sorted(codecs.entries(), key=lambda entry: STAGES.index(entry.facts.stage))
    return [entry.name for entry in entries]


_CodecEntry = Entry[type[ArrayCodec] | type[BytesCodec], CodecFacts]


def _in_order(names: Sequence[str]) -> list[_CodecEntry]:
    """Finds the entries of names that are in the order of their stages, one of each."""
    known = ordered_codecs()
    for name in names:
        if name not in known:
            raise unknown_name("codec", name, known, "protocol.codecs")
    if list(names) != [name for name in known if name in names]:
        raise UserError(
            f"protocol.codecs must be in the order {', '.join(known)}, got {', '.join(names)}"
        )
    entries = [codecs[name] for name in names]
    for one, other in pairwise(entries):
        if one.facts.stage == other.facts.stage:
            raise UserError(
                f"protocol.codecs must have one of {one.name} and {other.name}, got both"
            )
    return entries


def _made(entry: _CodecEntry, options: Mapping[str, object]) -> ArrayCodec | BytesCodec:
    """Makes a codec with those of the options that are its own."""
    make: Callable[..., ArrayCodec | BytesCodec] = entry.value
    own = {
        name: options.get(_key(entry, name), each.default)
        for name, each in options_of(entry.value).items()
    }
    return make(**{name: value for name, value in own.items() if value is not MISSING})


def _key(entry: _CodecEntry, name: str) -> str:
    """The key of a codec's option."""
    return f"{entry.name}_{name}"
