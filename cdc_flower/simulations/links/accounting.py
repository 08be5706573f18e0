"""Counts what links and devices did in a segment, or in a round of a synchronous app."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.errors import unknown_name
from cdc_flower.core.saveable import (
    ANY,
    Arrays,
    Saved,
    part_of,
    prefixed,
    restore_fields,
    saved_fields,
    taken,
)
from cdc_flower.tables.columns import COLUMNS
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Usage:
    """Counts of one segment, one array ``[n]`` for each counted column of the results table.

    ``usage.num_late`` is the array of the column ``num_late``; see
    :mod:`cdc_flower.tables.columns`. It begins neutral and is filled in place.

    Args:
        num_devices: ``n``.
    """

    def __init__(self, num_devices: int) -> None:
        for column in COLUMNS.counted:
            vars(self)[column.name] = np.full(num_devices, column.neutral, column.dtype)

    def __getattr__(self, name: str) -> np.ndarray:
        """Tells that there is no such column. Arrays are plain attributes and do not come here."""
        raise AttributeError(str(unknown_name("counted column", name, vars(self), "Usage")))

    @staticmethod
    def zeros(num_devices: int) -> "Usage":
        """Makes one with nothing sent and nothing arrived."""
        return Usage(num_devices)

    def facts(self, rows: Ints) -> dict[str, np.ndarray]:
        """Selects what was counted for some devices, ``[k]``, by column."""
        return {name: array[rows] for name, array in vars(self).items()}

    def add_bytes(self, way: str, rows: Ints, payload: MessageBatch) -> Ints:
        """Counts the messages of these rows, and returns their bytes on the wire ``[k]``.

        Args:
            way: ``up`` or ``down``.
            rows: ``[k]``, without repeats.
            payload: The messages without instrument records.
        """
        wire_bytes, payload_bytes = sizes_of(payload)
        getattr(self, f"bytes_{way}")[rows] += wire_bytes
        getattr(self, f"payload_bytes_{way}")[rows] += payload_bytes
        return wire_bytes

    def to_arrays(self) -> Arrays:
        """Takes all columns."""
        return saved_fields(self, list(vars(self)))

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on counting from saved columns of as many devices."""
        restore_fields(self, list(vars(self)), arrays)


#: Attributes of rounds that change, beside their usages.
_CHANGING = ("start_s", "num_done", "_has_trained")


@dataclass(frozen=True)
class Round:
    """Holds the virtual time and the usage of a segment, or of a round of a synchronous app."""

    start_s: float
    end_s: float
    usage: Usage


class Rounds:
    """Counts rounds one after the other, each with a usage of its own.

    Args:
        num_devices: ``n``.
        start_s: When the first round begins.
        keeps: Whether those that are done are kept. Where somebody takes each when it ends, memory
            and saved states must not grow with their number.
    """

    def __init__(self, num_devices: int, start_s: float, *, keeps: bool = True) -> None:
        self.done: list[Round] = []
        self.keeps, self.num_done = keeps, 0
        self.start_s, self.usage = start_s, Usage.zeros(num_devices)
        self._num_devices, self._has_trained = num_devices, False

    def train(self, now_s: float, one_follows_another: bool) -> None:
        """Notes a training.

        Args:
            now_s: Virtual time.
            one_follows_another: Whether a second one without an evaluation between begins a round.
        """
        if self._has_trained and one_follows_another:
            self.close(now_s)
        self._has_trained = True

    def close(self, now_s: float) -> Round:
        """Ends the round, and begins the next."""
        ended = Round(self.start_s, now_s, self.usage)
        self.num_done += 1
        if self.keeps:
            self.done.append(ended)
        self.start_s, self.usage, self._has_trained = now_s, Usage.zeros(self._num_devices), False
        return ended

    def so_far(self, now_s: float) -> list[Round]:
        """Lists the rounds that are done, and the one under way if anything was sent in it."""
        is_under_way = self._has_trained or bool(self.usage.bytes_down.any())
        return (
            [*self.done, Round(self.start_s, now_s, self.usage)] if is_under_way else [*self.done]
        )

    def to_arrays(self) -> Arrays:
        """Takes the rounds that are done, each column ``[rounds, n]``, and the one under way."""
        times_s = np.array([(one.start_s, one.end_s) for one in self.done], np.float64)
        columns = {
            name: np.array([vars(one.usage)[name] for one in self.done], now.dtype).reshape(
                len(self.done), *now.shape
            )
            for name, now in vars(self.usage).items()
        }
        return {
            "done_s": times_s.reshape(-1, 2),
            **prefixed("done", columns),
            **prefixed("usage", self.usage.to_arrays()),
            **saved_fields(self, _CHANGING),
        }

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on after saved rounds of as many devices."""
        columns, done = part_of(arrays, "done"), []
        for row, (start_s, end_s) in enumerate(taken(arrays, "done_s", np.float64, (ANY, 2))):
            usage = Usage.zeros(self._num_devices)
            usage.from_arrays({name: column[row] for name, column in columns.items()})
            done.append(Round(float(start_s), float(end_s), usage))
        self.done, self.usage = done, Usage.zeros(self._num_devices)
        self.usage.from_arrays(part_of(arrays, "usage"))
        restore_fields(self, _CHANGING, arrays)


class Declared(NamedTuple):
    """Holds the work that ``n`` messages declare.

    Attributes:
        flops: ``[n]``, floating-point operations.
        num_labels: ``[n]``, labelled examples that were trained on.
        num_told: ``[n]``, events that the message tells of.
    """

    flops: Floats
    num_labels: Ints
    num_told: Ints


def work_of(batch: MessageBatch) -> Declared:
    """Reads the work that messages declare; 0 for none or an error."""
    work = batch.configs.get(records.WORK, {})
    failed = list(batch.errors)

    def column(key: str, dtype: type[np.float64] | type[np.int64]) -> NDArray:
        found = np.array(np.broadcast_to(np.asarray(work.get(key, 0), dtype), len(batch)))
        found[failed] = 0
        return found

    return Declared(
        column(records.FLOPS, np.float64),
        column(records.NUM_LABELS, np.int64),
        column(records.NUM_TOLD, np.int64),
    )


def sizes_of(payload: MessageBatch) -> tuple[Ints, Ints]:
    """Counts bytes on the wire and raw bytes, ``[n]``; compressed payloads without padding."""
    padding = payload.configs.get(records.PADDING)
    payload = payload.without({records.PADDING})
    if padding is None:
        return payload.wire_bytes(), payload.payload_bytes()
    wire_bytes, payload_bytes = np.zeros((2, len(payload)), np.int64)
    # One value where all are alike; a column for each record that is compressed.
    each = np.column_stack(
        [np.broadcast_to(np.asarray(lengths), len(payload)) for lengths in padding.values()]
    )
    kinds, kind_of = np.unique(each, axis=0, return_inverse=True)
    for kind, lengths in enumerate(kinds.tolist()):
        rows = np.flatnonzero(kind_of == kind)
        whole = payload.select(rows[:1])
        cut = {
            record: {name: blob[:, :length] for name, blob in whole.arrays[record].items()}
            for record, length in zip(padding, lengths, strict=True)
        }
        one = whole.with_records(arrays=cut)
        wire_bytes[rows], payload_bytes[rows] = one.wire_bytes(), one.payload_bytes()
    return wire_bytes, payload_bytes
