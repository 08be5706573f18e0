"""The book of the quarantine: what was left out, of whom and why, and who is set aside."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.saveable import (
    ANY,
    Arrays,
    Saveable,
    Saved,
    nested,
    restore_fields,
    restore_nested,
    saved_fields,
    taken,
)
from cdc_flower.simulations.links.accounting import Usage
from cdc_flower.simulations.quarantine.options import QuarantineOptions
from cdc_flower.simulations.quarantine.reasons import REASONS
from cdc_flower.tables.quarantined import Left

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: Row of a node that is none of the run.
NOBODY = -1
NEVER = -1
#: A loss of an event beyond which no model is one any more.
ENDLESS = 1e12
#: Attributes that change, beside the entries.
_CHANGING = ("num_new", "failures", "aside_until", "num_set_aside")


@dataclass
class Since:
    """The first segment in which devices had something, and how many had it then."""

    segment: int = NEVER
    num_devices: int = 0

    def note(self, segment: int, num_devices: int) -> None:
        """Notes that so many devices have it in a segment."""
        if self.segment == NEVER:
            self.segment = segment
        if self.segment == segment:
            self.num_devices = max(self.num_devices, num_devices)

    def to_arrays(self) -> Arrays:
        """Takes both numbers."""
        return saved_fields(self, list(vars(self)))

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with saved numbers."""
        restore_fields(self, list(vars(self)), arrays)


class Book:
    """Counts for one run of a strategy, which both ends of the quarantine share.

    Args:
        device_ids: ``[n]``, the devices; a row stands for one of them.
        options: Of the quarantine.

    Attributes:
        segment: The one that is played.
        marked: ``[n]``, whose answer of this exchange goes no further than the cloud end.
        failed: ``[n]``, of whom something was left out in this exchange.
    """

    def __init__(self, device_ids: Ints, options: QuarantineOptions) -> None:
        num_devices = len(device_ids)
        self._device_ids = device_ids
        self._options = options
        self.segment = 0
        self.marked = np.zeros(num_devices, np.bool_)
        self.failed = np.zeros(num_devices, np.bool_)
        self.num_new = np.zeros(num_devices, np.int64)  # since a segment was told last
        self.failures = np.zeros(num_devices, np.int64)  # answers in a row that were left out
        self.aside_until = np.full(num_devices, NEVER)  # the last segment of it
        self.num_set_aside = np.zeros(num_devices, np.int64)
        self.not_finite = Since()
        self.endless = Since()
        self._entries: Counter[tuple[int, int, str]] = Counter()

    def leave_out(self, rows: Iterable[int] | Ints, reason: str, *, marks: bool = True) -> None:
        """Counts replies that are left out, one for each row; :data:`NOBODY` for an unknown node.

        Args:
            rows: Of their devices.
            reason: One of :data:`~cdc_flower.simulations.quarantine.reasons.REASONS`.
            marks: Whether its answer is on its way to the cloud end, which lets it go no further.
        """
        for row in map(int, rows):
            self._entries[self.segment, row, reason] += 1
            if row != NOBODY:
                self.num_new[row] += 1
                self.failed[row] = True
                self.marked[row] |= marks

    def count(self, usage: Usage) -> None:
        """Adds what was left out since the last segment to the columns of the one that ends."""
        usage.num_quarantined[:] += self.num_new
        self.num_new[:] = 0

    def open(self) -> None:
        """Begins an exchange."""
        self.marked[:], self.failed[:] = False, False

    def judge(self, answered: Ints) -> None:
        """Ends an exchange that trains or reports: who failed too often in a row is set aside.

        Args:
            answered: ``[k]``, rows of devices whose answers were taken.
        """
        self.failures[answered] = 0
        self.failures[self.failed] += 1
        limit = self._options.max_failures
        if limit is None or not self._options.segments_aside:
            return
        often = self.failures >= limit
        self.aside_until[often] = self.segment + self._options.segments_aside
        self.num_set_aside[often] += 1
        self.failures[often] = 0

    def is_aside(self, rows: Ints) -> Bools:
        """Tells which devices ``[k]`` are set aside in this segment."""
        return self.aside_until[rows] >= self.segment

    def diverged(self) -> str:
        """Says from when on models were not finite, or losses without end; "" if they never were.

        Without a full stop.
        """
        for words, since in (
            ("the model is not finite", self.not_finite),
            (f"the loss is above {ENDLESS:.0e}", self.endless),
        ):
            if since.segment != NEVER:
                is_everyone = since.num_devices >= len(self._device_ids)
                where = f", of {since.num_devices} of {len(self._device_ids)} devices"
                return f"{words} from segment {since.segment} on{'' if is_everyone else where}"
        return ""

    def left_out(self) -> list[Left]:
        """Lists what was left out, by segment, device and reason; device -1 is an unknown node."""
        order = sorted(self._entries, key=lambda one: (one[0], one[1], REASONS.index(one[2])))
        return [
            Left(
                segment,
                NOBODY if row == NOBODY else int(self._device_ids[row]),
                reason,
                self._entries[segment, row, reason],
            )
            for segment, row, reason in order
        ]

    def _parts(self) -> dict[str, Saveable]:
        return {"not_finite": self.not_finite, "endless": self.endless}

    def to_arrays(self) -> Arrays:
        """Takes all counts."""
        entries = [
            (segment, row, REASONS.index(reason), count)
            for (segment, row, reason), count in self._entries.items()
        ]
        return {
            **saved_fields(self, _CHANGING),
            **nested(self._parts()),
            "entries": np.array(entries, np.int64).reshape(-1, 4),
        }

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with the counts of as many devices."""
        restore_fields(self, _CHANGING, arrays)
        restore_nested(self._parts(), arrays)
        self._entries = Counter()
        for segment, row, reason, count in taken(arrays, "entries", np.int64, (ANY, 4)).tolist():
            self._entries[segment, row, REASONS[reason]] = count
