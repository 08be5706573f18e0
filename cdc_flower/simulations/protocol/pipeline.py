"""Encodes what goes between a strategy and its devices, and decodes it: what both ends remember."""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cdc_flower.core.packing import packed, unpacked
from cdc_flower.core.saveable import Saved, part_of, prefixed
from cdc_flower.simulations.network.rates import Ints
from cdc_flower.simulations.protocol.codecs import Parts
from cdc_flower.simulations.protocol.encoding import Codecs, Layout
from cdc_flower.simulations.protocol.told import ToldLayouts, layout_of
from cdc_flower.simulations.protocol.versions import Versions
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.finite import is_finite
from cdc_flower.wire.replies import Group

#: Records with a model, and with a report of a device.
MODELS = (records.PARAMETERS, records.ARRAYS)
ENCODED = (*MODELS, records.REPORT)
#: Between the name of an array and that of its part.
MARK = ":"
MADE, BASE = "made", "base"
#: Stages for what is no model: of it no number may be left out, and there is nothing to subtract.
WHOLE = ("numbers", "bytes")


class CodecPipeline:
    """Encodes what goes between a strategy and its devices, and decodes it at the other end.

    Args:
        codecs: At least one.
        node_ids: ``[n]``, the devices.
        deployed: The model that every device starts with.
    """

    def __init__(self, codecs: Codecs, node_ids: NDArray[np.uint64], deployed: Arrays) -> None:
        self.codecs, self._whole = codecs, codecs.only(WHOLE)
        self.versions = Versions(len(node_ids), deployed)
        self._row = {int(node_id): row for row, node_id in enumerate(node_ids)}
        self._shapes: dict[str, Layout] = {}  # record -> array, known to both ends
        self._deployed = {name: value.dtype for name, value in deployed.items()}
        self._told = ToldLayouts()  # of the exchange under way, known to both ends as well
        self._sent: Arrays = {}  # what devices train on, from which their updates differ

    def to_arrays(self) -> Arrays:
        """Takes what both ends remember: versions, shapes, and what devices train on."""
        shapes = {
            record: {name: (shape, dtype.str) for name, (shape, dtype) in arrays.items()}
            for record, arrays in self._shapes.items()
        }
        memory = prefixed("memory", packed((shapes, self._sent)))
        return {**prefixed("versions", self.versions.to_arrays()), **memory}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with saved memories, for the same codecs and devices."""
        self.versions.from_arrays(part_of(arrays, "versions"))
        shapes, self._sent = unpacked(part_of(arrays, "memory"))
        self._shapes = {
            record: {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in arrays.items()}
            for record, arrays in shapes.items()
        }

    def rows(self, batch: MessageBatch) -> Ints:
        """Finds the devices ``[k]`` of a batch."""
        return np.array([self._row[int(node_id)] for node_id in batch.node_ids], np.int64)

    def encode_down(self, batch: MessageBatch) -> list[MessageBatch]:
        """Encodes messages to devices, apart where a shared array differs from several versions."""
        if batch.message_type == records.DEPLOY:
            return [batch]
        batch = self._encode_others(batch)
        record = _first(MODELS, batch)
        if record is None:
            return [batch]
        base = self.versions.held[self.rows(batch)]
        if not self.codecs.takes_difference or not batch.shared.get(record):
            return [self._encode_model(batch, record, base)]
        groups = [np.flatnonzero(base == number) for number in np.unique(base)]
        return [self._encode_model(batch.select(where), record, base[where]) for where in groups]

    def decode_down(self, batch: MessageBatch) -> MessageBatch:
        """Decodes messages on their devices."""
        if batch.message_type == records.DEPLOY:
            return batch
        batch = self._decode_others(batch)
        record = _first(MODELS, batch)
        if record is None:
            return batch
        numbers, is_shared = batch.configs.get(records.VERSIONS), not batch.arrays.get(record)
        rows = self.rows(batch)
        count = 1 if is_shared else len(batch)
        arrays = {}
        shapes = self._shapes[record]
        for name, parts in self._unpacked(batch, record, shapes, self._down_differs).items():
            reference = None
            if numbers is not None and self._down_differs(name):
                base = each(numbers[BASE], len(batch))
                reference = self.versions.reference(name, rows[:count], base[:count])
            arrays[name] = self.codecs.decode(parts, *shapes[name], reference)
        if numbers is not None:
            self.versions.arrived(rows, each(numbers[MADE], len(batch)))
        plain = batch.without({record, records.VERSIONS, records.PADDING})
        if batch.message_type.split(".")[0] == records.TRAIN:
            self._sent = arrays if is_shared else {}
        return _with_arrays(plain, record, arrays, shared=is_shared)

    def begin(self) -> None:
        """Begins an exchange."""
        self._told.begin()

    def learn(self, replies: Iterable[MessageBatch]) -> None:
        """Takes the layout of most replies of an exchange, before they are encoded."""
        self._told.learn(replies, partial(_first, ENCODED), self._fits)

    def _fits(self, record: str, layout: Layout) -> bool:
        """Tells whether a model is laid out as it was sent, or deployed."""
        sent = self._shapes.get(record)
        if record not in MODELS or sent is None:
            return True
        return layout.keys() == sent.keys() and all(
            shape == sent[name][0] and dtype in (sent[name][1], self._deployed.get(name))
            for name, (shape, dtype) in layout.items()
        )

    def encode_up(self, batch: MessageBatch) -> list[Group]:
        """Encodes replies on their devices.

        One that is not laid out as most, or is not finite, stays as it is, for codecs are made for
        neither.
        """
        record = _first(ENCODED, batch)
        every = np.arange(len(batch))
        if record is None or batch.errors:
            return [(batch, every)]
        if not self._told.knows(batch, record):
            return [(batch.without({records.PADDING}), every)]
        finite = np.ones(len(batch), np.bool_)
        for name in self._told.of(record):
            finite &= is_finite(batch.array(record, name))
        if finite.all():
            return [(self._encoded_up(batch, record), every)]
        odd = batch.select(~finite).without({records.PADDING})
        fine = self._encoded_up(batch.select(finite), record) if finite.any() else odd.select([])
        return [(fine, every[finite]), (odd, every[~finite])]

    def _encoded_up(self, batch: MessageBatch, record: str) -> MessageBatch:
        parts = {}
        with np.errstate(over="ignore", invalid="ignore"):  # of numbers that are very large
            for name in self._told.of(record):
                value = batch.array(record, name)
                base = self._update_base(record, name, len(batch))
                parts[name] = self._for_up(record).encode(value, base)
        return self._packed(batch, record, parts, shared=False)

    def decode_up(self, batch: MessageBatch) -> MessageBatch:
        """Decodes replies in the cloud; one that is not encoded stays as it is."""
        record = _first(ENCODED, batch)
        if record is None or batch.errors or not self._is_encoded(batch, record):
            return batch
        arrays = {}
        shapes = self._told.of(record)
        with np.errstate(over="ignore", invalid="ignore"):
            differs = self._update_differs(record)
            for name, parts in self._unpacked(batch, record, shapes, differs).items():
                base = self._update_base(record, name, len(batch))
                arrays[name] = self._for_up(record).decode(parts, *shapes[name], base)
        return batch.without({record, records.PADDING}).with_records(arrays={record: arrays})

    def _is_encoded(self, batch: MessageBatch, record: str) -> bool:
        """Tells whether a reply is one of :meth:`encode_up`."""
        if self.codecs.blob is not None:
            lengths = batch.configs.get(records.PADDING, {})
            return record in lengths and [*batch.arrays.get(record, {})] == [self.codecs.blob]
        expected = self._layout(record, self._told.of(record), self._update_differs(record))
        return layout_of(batch, record) == expected

    def _encode_others(self, batch: MessageBatch) -> MessageBatch:
        """Encodes what goes down and is no model, such as an edit, without a difference."""
        for record in _others(batch):
            parts = {}
            for name in _names(batch, record):
                value = batch.array(record, name)
                self._know(record, name, value)
                parts[name] = self._whole.encode(value, None)
            batch = self._packed(batch, record, parts, shared=False)
        return batch

    def _decode_others(self, batch: MessageBatch) -> MessageBatch:
        """Decodes what came down and is no model."""
        for record in _others(batch):
            arrays = {}
            shapes = self._shapes[record]
            for name, parts in self._unpacked(batch, record, shapes, lambda _: False).items():
                arrays[name] = self._whole.decode(parts, *shapes[name], None)
            batch = batch.with_records(arrays={record: arrays})
        return batch if _first(MODELS, batch) else batch.without({records.PADDING})

    def _encode_model(self, batch: MessageBatch, record: str, base: Ints) -> MessageBatch:
        """Encodes one version for these devices, with its number where it is a difference."""
        rows = self.rows(batch)
        takes_difference = self.codecs.takes_difference
        shared = batch.shared.get(record, {})
        own = bool(batch.arrays.get(record))
        own = own or (takes_difference and not self.versions.is_shared(base))
        parts = {}
        decoded = {}
        for name in _names(batch, record):
            value = batch.array(record, name) if own else shared[name][None]
            self._know(record, name, value)
            reference = None
            if self._down_differs(name):
                reference = self.versions.reference(name, rows[: len(value)], base[: len(value)])
            parts[name] = self.codecs.encode(value, reference)
            decoded[name] = self.codecs.decode(parts[name], value.shape[1:], value.dtype, reference)
        encoded = self._packed(batch, record, parts, shared=not own)
        if not takes_difference:
            return encoded
        made = self.versions.add(rows, decoded, base)
        return encoded.with_records(
            configs={records.VERSIONS: {MADE: np.full(len(batch), made), BASE: base}}
        )

    def _for_up(self, record: str) -> Codecs:
        """Chooses the codecs of a reply: only of a model some numbers may be left out."""
        return self.codecs if record in MODELS else self._whole

    def _down_differs(self, name: str) -> bool:
        """Tells whether an array to devices is a difference."""
        return self.codecs.takes_difference and self.versions.knows(name)

    def _update_differs(self, record: str) -> Callable[[str], bool]:
        """Makes the test of an array's name: on its way up it differs if it came to be trained."""
        differs = record != records.REPORT and self.codecs.takes_difference
        return lambda name: differs and name in self._sent

    def _update_base(self, record: str, name: str, count: int) -> NDArray | None:
        """Finds what a trained array differs from, ``[count, ...]``."""
        if not self._update_differs(record)(name):
            return None
        return np.broadcast_to(self._sent[name], (count, *self._sent[name].shape[1:]))

    def _know(self, record: str, name: str, value: NDArray) -> None:
        """Keeps the shape and type of an array; they belong to the app, which both ends have."""
        self._shapes.setdefault(record, {})[name] = (value.shape[1:], value.dtype)

    def _packed(
        self, batch: MessageBatch, record: str, parts: dict[str, Parts], *, shared: bool
    ) -> MessageBatch:
        """Puts the parts in place of the record's arrays."""
        flat = {
            _part_key(name, part): value
            for name, of_array in parts.items()
            for part, value in of_array.items()
        }
        plain = batch.without({record})
        blob = self.codecs.blob
        if blob is None:
            return _with_arrays(plain, record, flat, shared=shared)
        blobs, lengths = self.codecs.compress(list(flat.values()))
        packed = _with_arrays(plain, record, {blob: blobs}, shared=shared)
        if shared:
            return packed
        padding = {**batch.configs.get(records.PADDING, {}), record: lengths}
        return packed.with_records(configs={records.PADDING: padding})

    def _unpacked(
        self, batch: MessageBatch, record: str, shapes: Layout, differs: Callable[[str], bool]
    ) -> dict[str, Parts]:
        """Takes a record apart: name -> parts ``[k, ...]``; ``[1, ...]`` where they are shared.

        Args:
            batch: Encoded messages.
            record: Of them.
            shapes: Of its arrays before they were encoded.
            differs: Tells by its name whether an array is a difference.
        """
        held = batch.arrays.get(record) or {
            name: value[None] for name, value in batch.shared[record].items()
        }
        blob = self.codecs.blob
        if blob is not None and blob in held:
            blobs = held[blob]
            lengths = batch.configs.get(records.PADDING, {}).get(record)
            lengths = blobs.shape[1] if lengths is None else lengths
            layout = self._layout(record, shapes, differs)
            held = self.codecs.expand(blobs, each(lengths, len(blobs)), layout)
        found: dict[str, Parts] = {}
        for key, value in held.items():
            name, _, part = key.partition(MARK)
            found.setdefault(name, {})[part] = value
        return found

    def _layout(self, record: str, shapes: Layout, differs: Callable[[str], bool]) -> Layout:
        """Lays out all parts of a record.

        Args:
            record: Of messages.
            shapes: Of its arrays.
            differs: Tells by its name whether an array is a difference.
        """
        codecs = self._for_up(record)
        return {
            _part_key(name, part): laid_out
            for name, (shape, dtype) in shapes.items()
            for part, laid_out in codecs.layout(shape, dtype, differs(name)).items()
        }


def each(value: ArrayLike, count: int) -> Ints:
    """Repeats a config that all messages of a batch have alike, ``[count]``."""
    return np.array(np.broadcast_to(np.asarray(value, np.int64), count))


def _first(wanted: Iterable[str], batch: MessageBatch) -> str | None:
    """Finds the first of these records that messages have."""
    held = batch.array_names()
    return next((name for name in wanted if name in held), None)


def _others(batch: MessageBatch) -> list[str]:
    """Lists the records of each message's own arrays that are no model and no instrument."""
    return [name for name in batch.arrays if name not in (*MODELS, *records.INSTRUMENTS)]


def _names(batch: MessageBatch, record: str) -> list[str]:
    """Lists the arrays of a record, first each message's own, then those that all share."""
    return [*batch.arrays.get(record, {}), *batch.shared.get(record, {})]


def _part_key(name: str, part: str) -> str:
    return f"{name}{MARK}{part}" if part else name


def _with_arrays(batch: MessageBatch, record: str, arrays: Parts, *, shared: bool) -> MessageBatch:
    """Adds a record of arrays ``[k, ...]``, or ``[1, ...]`` that all messages share."""
    if not shared:
        return batch.with_records(arrays={record: arrays})
    return batch.with_records(shared={record: {name: value[0] for name, value in arrays.items()}})
