"""Keeps the arrays that a decoder holds on devices between messages, in slots."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Slot:
    """Holds what one decoder keeps on ``n`` devices. Immutable, as states are.

    Attributes:
        index: Name -> ``[n]``, indices into the states' pool of parameters; -1 for none. States
            keep the sets that somebody points at, and renumber the indices when sets go.
        rows: Name -> ``[n, ...]``, any other arrays; zeros on devices on which nothing was
            deployed.
    """

    index: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    rows: Mapping[str, NDArray] = field(default_factory=dict)

    def select(self, rows: NDArray[np.int64]) -> "Slot":
        """Takes the slot of some devices."""
        return Slot(
            {name: value[rows] for name, value in self.index.items()},
            {name: value[rows] for name, value in self.rows.items()},
        )

    def empty(self, num_devices: int) -> "Slot":
        """Makes a slot with the same names for devices that hold nothing."""
        return Slot(
            {name: np.full(num_devices, -1) for name in self.index},
            {
                name: np.zeros((num_devices, *value.shape[1:]), value.dtype)
                for name, value in self.rows.items()
            },
        )

    def update(self, rows: NDArray[np.int64], changed: "Slot", offset: int) -> "Slot":
        """Replaces the rows of some devices, whose indices count from ``offset`` on.

        Args:
            rows: ``[k]``, the devices.
            changed: Their slot.
            offset: Added to the indices of that slot; 0 leaves them as they are.
        """
        index = {name: value.copy() for name, value in self.index.items()}
        others = {name: value.copy() for name, value in self.rows.items()}
        for name, value in changed.index.items():
            index[name][rows] = shifted(value, offset)
        for name, value in changed.rows.items():
            others[name][rows] = value
        return Slot(index, others)

    def renumbered(self, new: NDArray[np.int64]) -> "Slot":
        """Replaces each index ``k`` by ``new[k]``; the last of ``new`` is -1."""
        return Slot({name: new[value] for name, value in self.index.items()}, self.rows)

    @property
    def nbytes(self) -> int:
        """Adds up the memory of the arrays, in bytes."""
        return sum(value.nbytes for value in (*self.index.values(), *self.rows.values()))


def shifted(index: NDArray[np.int64], offset: int) -> NDArray[np.int64]:
    """Adds an offset to indices, and leaves -1 as it is."""
    return np.where(index < 0, -1, index + offset)


def flattened(slots: Mapping[str, Slot], part: str) -> dict[str, NDArray]:
    """Names the arrays of slots ``slot/name``, for a record; ``part`` is ``index`` or ``rows``."""
    named: dict[str, NDArray] = {}
    for slot, held in slots.items():
        arrays: Mapping[str, NDArray] = getattr(held, part)
        named |= {f"{slot}/{name}": value for name, value in arrays.items()}
    return named


def restored(index: Mapping[str, NDArray], rows: Mapping[str, NDArray]) -> dict[str, Slot]:
    """Makes slots of the arrays that :func:`flattened` named."""
    slots = {key.partition("/")[0] for key in (*index, *rows)}
    return {slot: Slot(_named(index, slot), _named(rows, slot)) for slot in sorted(slots)}


def _named(arrays: Mapping[str, NDArray], slot: str) -> dict[str, NDArray]:
    prefix = f"{slot}/"
    return {
        key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)
    }
