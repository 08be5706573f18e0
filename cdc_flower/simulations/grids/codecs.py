"""Both ends of a lighter protocol: grids before and behind the links.

The strategy talks to the *cloud side*, which encodes what goes down and decodes what comes up; the
*device side*, behind the links, does the inverse. Between them are the bytes that a link moves, and
nothing else.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from cdc_flower.core.packing import packed, unpacked
from cdc_flower.core.saveable import Saveable, Saved, part_of, prefixed
from cdc_flower.simulations.grids.through import Through
from cdc_flower.simulations.network.rates import Ints
from cdc_flower.simulations.protocol.codecs import Codecs, Parts, compress, expand
from cdc_flower.simulations.protocol.versions import Versions
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import Group

#: Records with a model, and with a report of a device.
MODELS = (records.PARAMETERS, records.ARRAYS)
ENCODED = (*MODELS, records.REPORT)
#: Name of the compressed bytes of a record, and between the name of an array and that of its part.
BLOB, MARK = "zstd", ":"
MADE, BASE = "made", "base"

#: Messages -> what becomes of them, with their positions ``[k]``.
Coder = Callable[[MessageBatch], list[Group]]


class Lighter:
    """A protocol between a strategy and its devices.

    Args:
        codecs: What to do to payloads. Without any, both sides hand on what they get.
        node_ids: ``[n]``, the devices.
        deployed: The model that every device starts with.
    """

    def __init__(self, codecs: Codecs, node_ids: NDArray[np.uint64], deployed: Arrays) -> None:
        self.codecs = codecs
        self._whole = replace(
            codecs, names=tuple(n for n in codecs.names if n not in ("delta", "top_k"))
        )
        self.versions = Versions(len(node_ids), deployed)
        self._row = {int(node_id): row for row, node_id in enumerate(node_ids)}
        self._shapes: dict[
            str, dict[str, tuple[tuple[int, ...], np.dtype]]
        ] = {}  # record -> array, known to both ends
        self._sent: Arrays = {}  # what devices train on, from which their updates differ

    def cloud_side(self, grid: Grid) -> Grid:
        """What the strategy is given, around the links."""
        if not self.codecs.names:
            return grid
        return _Side(grid, self.encode_down, self.decode_up, memory=self)

    def device_side(self, grid: Grid) -> Grid:
        """What the links are around, around the devices."""
        return _Side(grid, self.decode_down, self.encode_up) if self.codecs.names else grid

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
        """The devices ``[k]`` of a batch."""
        return np.array([self._row[int(node_id)] for node_id in batch.node_ids], np.int64)

    def encode_down(self, batch: MessageBatch) -> list[Group]:
        """Messages as they go over the links, with their positions ``[k]``.

        Those that share an array but not what it differs from are apart.
        """
        everyone = np.arange(len(batch))
        if batch.message_type == records.DEPLOY:
            return [(batch, everyone)]
        batch = self._encode_others(batch)
        record = next((name for name in MODELS if name in batch.array_names()), None)
        if record is None:
            return [(batch, everyone)]
        base = self.versions.held[self.rows(batch)]
        if "delta" not in self.codecs or not batch.shared.get(record):
            return [(self._encode_model(batch, record, base), everyone)]
        groups = [np.flatnonzero(base == number) for number in np.unique(base)]
        return [
            (self._encode_model(batch.select(where), record, base[where]), where)
            for where in groups
        ]

    def _encode_others(self, batch: MessageBatch) -> MessageBatch:
        """What goes down and is no model, such as an edit: whole, without a difference."""
        for record in [
            name for name in batch.arrays if name not in (*MODELS, *records.INSTRUMENTS)
        ]:
            parts = {}
            for name in [*batch.arrays[record], *batch.shared.get(record, {})]:
                value = batch.array(record, name)
                self._know(record, name, value)
                parts[name] = self._whole.encode(value, None)
            batch = self._packed(batch, record, parts, shared=False)
        return batch

    def _decode_others(self, batch: MessageBatch) -> MessageBatch:
        """The inverse."""
        for record in [
            name for name in batch.arrays if name not in (*MODELS, *records.INSTRUMENTS)
        ]:
            arrays = {}
            for name, parts in self._unpacked(batch, record, lambda _: False).items():
                shape, dtype = self._shapes[record][name]
                arrays[name] = self._whole.decode(parts, shape, dtype, None)
            batch = batch.with_records(arrays={record: arrays})
        return batch if set(batch.array_names()) & set(MODELS) else batch.without({records.PADDING})

    def _encode_model(self, batch: MessageBatch, record: str, base: Ints) -> MessageBatch:
        """One version for these devices, with its number where it is a difference."""
        rows, uses_delta = self.rows(batch), "delta" in self.codecs
        shared = batch.shared.get(record, {})
        content = {
            **batch.arrays.get(record, {}),
            **{name: value[None] for name, value in shared.items()},
        }
        own = bool(batch.arrays.get(record)) or (uses_delta and not self.versions.is_shared(base))
        parts, decoded = {}, {}
        for name, value in content.items():
            self._know(record, name, value)
            value = np.repeat(value, len(batch), 0) if own and name in shared else value
            reference = None
            if self._down_differs(name):
                reference = self.versions.reference(name, rows[: len(value)], base[: len(value)])
            parts[name] = self.codecs.encode(value, reference)
            decoded[name] = self.codecs.decode(parts[name], value.shape[1:], value.dtype, reference)
        encoded = self._packed(batch, record, parts, shared=not own)
        if not uses_delta:
            return encoded
        made = self.versions.add(rows, decoded, base)
        return encoded.with_records(
            configs={records.VERSIONS: {MADE: np.full(len(batch), made), BASE: base}}
        )

    def decode_down(self, batch: MessageBatch) -> list[Group]:
        """Messages as the devices understand them, with their positions ``[k]``."""
        everyone = np.arange(len(batch))
        if batch.message_type == records.DEPLOY:
            return [(batch, everyone)]
        batch = self._decode_others(batch)
        record = next((name for name in MODELS if name in batch.array_names()), None)
        if record is None:
            return [(batch, everyone)]
        rows, numbers = self.rows(batch), batch.configs.get(records.VERSIONS)
        is_shared = not batch.arrays.get(record)
        count = 1 if is_shared else len(batch)
        arrays = {}
        for name, parts in self._unpacked(batch, record, self._down_differs).items():
            reference = None
            if numbers is not None and self._down_differs(name):
                reference = self.versions.reference(
                    name, rows[:count], each(numbers[BASE], len(batch))[:count]
                )
            shape, dtype = self._shapes[record][name]
            arrays[name] = self.codecs.decode(parts, shape, dtype, reference)
        if numbers is not None:
            self.versions.arrived(rows, each(numbers[MADE], len(batch)))
        plain = batch.without({record, records.VERSIONS, records.PADDING})
        if batch.message_type.split(".")[0] == records.TRAIN:
            self._sent = {name: value for name, value in arrays.items() if is_shared}
        if is_shared:
            return [
                (
                    plain.with_records(shared={record: {k: v[0] for k, v in arrays.items()}}),
                    everyone,
                )
            ]
        return [(plain.with_records(arrays={record: arrays}), everyone)]

    def encode_up(self, batch: MessageBatch) -> list[Group]:
        """Replies as they go over the links, with their positions ``[k]``."""
        everyone = np.arange(len(batch))
        record = next((name for name in ENCODED if name in batch.array_names()), None)
        if record is None or batch.errors:
            return [(batch, everyone)]
        content = {
            name: batch.array(record, name)
            for part in (batch.arrays, batch.shared)
            for name in part.get(record, {})
        }
        parts = {}
        for name, value in content.items():
            self._know(record, name, value)
            parts[name] = self._for_up(record).encode(
                value, self._update_base(record, name, len(batch))
            )
        return [(self._packed(batch, record, parts, shared=False), everyone)]

    def decode_up(self, batch: MessageBatch) -> list[Group]:
        """Replies as the strategy understands them, with their positions ``[k]``."""
        everyone = np.arange(len(batch))
        record = next((name for name in ENCODED if name in batch.array_names()), None)
        if record is None or batch.errors:
            return [(batch, everyone)]
        arrays = {}
        for name, parts in self._unpacked(batch, record, self._update_differs(record)).items():
            shape, dtype = self._shapes[record][name]
            reference = self._update_base(record, name, len(batch))
            arrays[name] = self._for_up(record).decode(parts, shape, dtype, reference)
        plain = batch.without({record, records.PADDING})
        return [(plain.with_records(arrays={record: arrays}), everyone)]

    def _for_up(self, record: str) -> Codecs:
        """Only of a model some numbers may be left out."""
        return self.codecs if record in MODELS else self._whole

    def _down_differs(self, name: str) -> bool:
        """Whether an array to devices is a difference."""
        return "delta" in self.codecs and self.versions.knows(name)

    def _update_differs(self, record: str) -> Callable[[str], bool]:
        """Array -> whether it is a difference on its way up: of those that came to be trained."""
        return lambda name: (
            record != records.REPORT and "delta" in self.codecs and name in self._sent
        )

    def _update_base(self, record: str, name: str, count: int) -> np.ndarray | None:
        """What a trained array differs from."""
        if not self._update_differs(record)(name):
            return None
        return np.broadcast_to(self._sent[name], (count, *self._sent[name].shape[1:]))

    def _know(self, record: str, name: str, value: np.ndarray) -> None:
        """Shapes and types belong to the app, which both ends have."""
        self._shapes.setdefault(record, {})[name] = (value.shape[1:], value.dtype)

    def _packed(
        self, batch: MessageBatch, record: str, parts: dict[str, Parts], *, shared: bool
    ) -> MessageBatch:
        """The batch with the parts in place of the record's arrays."""
        flat = {
            f"{name}{MARK}{part}" if part else name: value
            for name, p in parts.items()
            for part, value in p.items()
        }
        plain = batch.without({record})
        if "zstd" not in self.codecs:
            if shared:
                return plain.with_records(
                    shared={record: {name: value[0] for name, value in flat.items()}}
                )
            return plain.with_records(arrays={record: flat})
        blobs, lengths = compress(list(flat.values()))
        if shared:
            return plain.with_records(shared={record: {BLOB: blobs[0]}})
        padding = {records.PADDING: {**batch.configs.get(records.PADDING, {}), record: lengths}}
        return plain.with_records(arrays={record: {BLOB: blobs}}, configs=padding)

    def _unpacked(
        self, batch: MessageBatch, record: str, differs: Callable[[str], bool]
    ) -> dict[str, Parts]:
        """Name -> parts ``[k, ...]``, or ``[1, ...]`` where all messages share them."""
        held = batch.arrays.get(record) or {
            name: value[None] for name, value in batch.shared[record].items()
        }
        if BLOB in held:
            codecs = self._for_up(record)
            layout = {
                f"{name}{MARK}{part}" if part else name: (part_shape, part_dtype)
                for name, (shape, dtype) in self._shapes[record].items()
                for part, part_shape, part_dtype in codecs.layout(shape, dtype, differs(name))
            }
            blobs = held[BLOB]
            lengths = batch.configs.get(records.PADDING, {}).get(
                record, np.full(len(blobs), blobs.shape[1])
            )
            held = expand(blobs, np.broadcast_to(np.asarray(lengths), len(blobs)), layout)
        found: dict[str, Parts] = {}
        for key, value in held.items():
            name, _, part = key.partition(MARK)
            found.setdefault(name, {})[part] = value
        return found


def each(value: Any, count: int) -> Ints:
    """``[count]``: a config that all messages of a batch have alike is held as one value."""
    return np.array(np.broadcast_to(np.asarray(value, np.int64), count))


class _Side(Through):
    """One end: changes what goes through it. One of the two saves what both remember."""

    saved_as = "codecs"

    def __init__(
        self, inner: Grid, there: Coder, back: Coder, memory: Saveable | None = None
    ) -> None:
        super().__init__(inner)
        self._there, self._back, self._memory = there, back, memory

    def to_arrays(self) -> Arrays:
        memory = {} if self._memory is None else prefixed("memory", self._memory.to_arrays())
        return {**super().to_arrays(), **memory}

    def from_arrays(self, arrays: Saved) -> None:
        super().from_arrays(arrays)
        if self._memory is not None:
            self._memory.from_arrays(part_of(arrays, "memory"))

    def down(self, batch: MessageBatch) -> list[Group]:
        return self._there(batch)

    def up(self, batch: MessageBatch) -> list[Group]:
        return self._back(batch)
