"""Keeps the versions that devices hold, as both ends know them, to take differences from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.packing import packed, unpacked
from cdc_flower.core.saveable import (
    Arrays,
    Saved,
    part_of,
    prefixed,
    restore_fields,
    saved_fields,
)
from cdc_flower.simulations.network.rates import Ints

DEPLOYED = 0
#: So many versions later a message that has not arrived is taken for lost.
LONGEST = 200


@dataclass
class Version:
    """Holds parameters that were sent to some devices.

    Attributes:
        arrays: ``[k, ...]``, or ``[1, ...]`` if all of them got the same.
        place: ``[n]``, row of each device in the arrays; -1 where it was not sent any.
    """

    arrays: Arrays
    place: Ints


class Versions:
    """Keeps versions by number, and which one each device holds.

    An acknowledged transport tells the cloud what has arrived.

    Args:
        num_devices: ``n``.
        deployed: The model that every device starts with.
    """

    def __init__(self, num_devices: int, deployed: Arrays) -> None:
        whole = {name: value[None] for name, value in deployed.items()}
        self._kept = {DEPLOYED: Version(whole, np.zeros(num_devices, np.int64))}
        self.held = np.full(num_devices, DEPLOYED)
        self._last = DEPLOYED
        # number, devices, and what it differs from on each
        self._under_way: list[tuple[int, Ints, Ints]] = []

    def to_arrays(self) -> Arrays:
        """Takes who holds which version, and all that are kept but the deployed one."""
        kept = {
            number: (version.arrays, version.place)
            for number, version in self._kept.items()
            if number != DEPLOYED
        }
        memory = prefixed("memory", packed((kept, self._under_way)))
        return {**saved_fields(self, ("held", "_last")), **memory}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with saved versions of the same deployed model."""
        restore_fields(self, ("held", "_last"), arrays)
        kept, self._under_way = unpacked(part_of(arrays, "memory"))
        versions = {number: Version(*parts) for number, parts in kept.items()}
        self._kept = {DEPLOYED: self._kept[DEPLOYED], **versions}

    def add(self, rows: Ints, arrays: Arrays, base: Ints) -> int:
        """Adds a version for some devices, and gives its number.

        Versions that nobody holds, and from which nothing that may still arrive differs, are
        forgotten.

        Args:
            rows: ``[k]``.
            arrays: ``[k, ...]``, or ``[1, ...]`` if all of them get the same.
            base: ``[k]``, the versions from which it differs.
        """
        self._last += 1
        first = next(iter(arrays.values()))
        place = np.full(len(self.held), -1)
        place[rows] = np.arange(len(rows)) if len(first) == len(rows) else 0
        self._kept[self._last] = Version(arrays, place)
        self._under_way.append((self._last, rows, base))
        needed = {DEPLOYED, *np.unique(self.held).tolist()}
        still = []
        for number, devices, bases in self._under_way:
            if len(devices) and number > self._last - LONGEST:
                still.append((number, devices, bases))
                needed |= {number, *np.unique(bases).tolist()}
        self._under_way = still
        self._kept = {number: version for number, version in self._kept.items() if number in needed}
        return self._last

    def arrived(self, rows: Ints, numbers: Ints) -> None:
        """Notes the versions that devices hold now; an older one than theirs changes nothing."""
        self.held[rows] = np.maximum(self.held[rows], numbers)
        for k, (number, devices, bases) in enumerate(self._under_way):
            here = np.isin(devices, rows[numbers == number])
            if here.any():
                self._under_way[k] = number, devices[~here], bases[~here]

    def reference(self, name: str, rows: Ints, numbers: Ints) -> NDArray:
        """Gives an array of versions ``[k, ...]``; of the deployed model where a version has none.

        Args:
            name: Of the array.
            rows: ``[k]``, devices.
            numbers: ``[k]``, the version of each.

        Raises:
            ValueError: If a version is not kept any more.
        """
        like = self._kept[DEPLOYED].arrays[name]
        out = np.empty((len(rows), *like.shape[1:]), like.dtype)
        for number in np.unique(numbers).tolist():
            if number not in self._kept:
                raise ValueError(f"version must be one that a device may hold, got {number}")
            version = self._kept[number]
            if name not in version.arrays:
                version = self._kept[DEPLOYED]
            which = np.flatnonzero(numbers == number)
            out[which] = version.arrays[name][version.place[rows[which]]]
        return out

    def is_shared(self, numbers: Ints) -> bool:
        """Tells whether these are one version, of which every device has the same."""
        first = self._kept[int(numbers[0])]
        return bool((numbers == numbers[0]).all()) and len(next(iter(first.arrays.values()))) == 1

    def knows(self, name: str) -> bool:
        """Tells whether the deployed model has such an array."""
        return name in self._kept[DEPLOYED].arrays
