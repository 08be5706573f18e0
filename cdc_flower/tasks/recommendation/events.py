"""Interactions of all devices as arrays, whatever file they came from."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cdc_flower.core.errors import UserError

#: Longer digit strings count as text: Python refuses to turn more than 4,300 digits into an
#: integer.
_MAX_DIGITS = 4000
_MOST_DIGITS_OF_INT64 = 18


def _is_integer(name: str) -> bool:
    digits = name.removeprefix("-")
    return digits.isascii() and digits.isdecimal() and len(digits) <= _MAX_DIGITS


def _numbered(
    kind: str, ids: Sequence[str | int] | ArrayLike
) -> tuple[NDArray[np.int64], list[str]]:
    """Numbers the ids 0, 1, ..., and sorts the names that the numbers stand for.

    Names are in numeric order when all of them are integers, else in the order of their characters.
    """
    array = ids if isinstance(ids, np.ndarray) else np.array(ids, dtype=object)
    if array.ndim != 1:
        raise ValueError(f"{kind} ids must be a flat sequence, got {array.ndim} dimensions")
    if array.dtype == object and not all(type(value) is str for value in array):
        for value in array:
            if not isinstance(value, str | int | np.integer):
                raise ValueError(f"{kind} ids must be strings or integers, got {value!r}")
        array = np.array([str(value) for value in array], dtype=object)
    elif array.dtype.kind not in "OUiu":
        raise ValueError(f"{kind} ids must be strings or integers, got an array of {array.dtype}")
    codes, found = pd.factorize(array)
    names = [str(value) for value in found]
    order = name_order(names)
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    return rank[codes], [names[index] for index in order]


def name_order(names: Sequence[str]) -> list[int]:
    """Sorts names: by number when all of them are integers, else by their characters.

    Returns:
        The place of each in the order.
    """
    are_digits = all(map(str.isdecimal, names)) and all(map(str.isascii, names))
    if are_digits and max(map(len, names), default=0) <= _MOST_DIGITS_OF_INT64:
        numbers = np.array(list(map(int, names)), np.int64)
        order = np.argsort(numbers, kind="stable")
        if (np.diff(numbers[order]) > 0).all():
            return list(order.tolist())
    if all(map(_is_integer, names)):
        return sorted(range(len(names)), key=lambda index: (int(names[index]), names[index]))
    return sorted(range(len(names)), key=names.__getitem__)


def _ranks(names: Sequence[str]) -> tuple[NDArray[np.int32], list[str]]:
    """Ranks names, but for empty ones, which stand for no id; and lists them in order."""
    used = [code for code, name in enumerate(names) if name]
    order = [used[place] for place in name_order([names[code] for code in used])]
    rank = np.full(len(names), -1, np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return rank, [names[code] for code in order]


def _order(
    device: NDArray[np.int32], times_s: NDArray[np.float64] | None
) -> NDArray[np.int64] | None:
    """Sorts events by device, then time; ties keep their order. None: they are in it already."""
    if times_s is None:
        in_order = (device[1:] >= device[:-1]).all()
        return None if in_order else np.argsort(device, kind="stable")
    least = times_s.min(initial=np.inf)
    span = float(times_s.max(initial=-np.inf)) - float(least) + 1
    if (
        not len(device)
        or span * (int(device.max()) + 1) >= 2**52
        or (np.rint(times_s) != times_s).any()
    ):
        return np.lexsort((times_s, device))
    key = times_s - least  # whole numbers below 2**53 are exact
    key += device * span
    if (key[1:] >= key[:-1]).all():
        return None
    return np.argsort(key.astype(np.int64), kind="stable")


@dataclass(frozen=True)
class EventTable:
    """Holds ``M`` events of all devices sorted by device, then time.

    Ties keep the order of the file.

    Attributes:
        offsets: ``[num_devices + 1]``, the events of device d are ``offsets[d]:offsets[d + 1]``.
        items: ``[M]``, ids 1..num_items; 0 is padding.
        times_s: ``[M]``, seconds since the file's own origin; ``None`` where the file gives order
            only.
        device_names: The file's own user ids, in device order.
        item_names: The file's own item ids; ``item_names[k]`` belongs to item ``k + 1``.
        source: The path of the file.
        num_skipped: Malformed rows that were left out.
        contexts: ``[M]``, the hidden context of each event, -1 where nobody knows it; ``None``
            where nobody knows any.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    times_s: NDArray[np.float64] | None
    device_names: list[str]
    item_names: list[str]
    source: str
    num_skipped: int = 0
    contexts: NDArray[np.int64] | None = None

    @property
    def num_devices(self) -> int:
        """Counts the devices that have events."""
        return len(self.device_names)

    @property
    def num_items(self) -> int:
        """The size of the catalog; item ids are 1..num_items."""
        return len(self.item_names)

    @property
    def num_events(self) -> int:
        """``M``, the events of all devices."""
        return len(self.items)

    @classmethod
    def build(
        cls,
        users: Sequence[str | int] | ArrayLike,
        items: Sequence[str | int] | ArrayLike,
        times_s: ArrayLike | None,
        source: str,
        num_skipped: int = 0,
        contexts: NDArray[np.int64] | None = None,
    ) -> "EventTable":
        """Numbers the raw ids and sorts the events.

        Devices and items are numbered in numeric order when all their ids are integers, else in the
        order of their characters, so the numbers depend on which ids there are and not on the order
        of the rows.

        Args:
            users: ``[M]`` raw ids, strings or integers.
            items: ``[M]`` raw ids, strings or integers.
            times_s: ``[M]`` finite seconds, or ``None`` where the order of the rows is all that is
                known.
            source: The path of the file.
            num_skipped: Malformed rows that were left out. 0 means that every row is here.
            contexts: ``[M]``, the hidden context of each row, if any is known.

        Raises:
            ValueError: If the sequences differ in length, an id is no string or integer, or a time
                is not finite.
        """
        device, device_names = _numbered("user", users)
        item, item_names = _numbered("item", items)
        if len(item) != len(device):
            raise ValueError(f"items must be as many as users ({len(device)}), got {len(item)}")
        times = None if times_s is None else np.asarray(times_s, np.float64)
        if times is None:
            order = np.argsort(device, kind="stable")
        else:
            if times.shape != device.shape:
                raise ValueError(
                    f"times_s must be as many as users ({len(device)}), got shape {times.shape}"
                )
            if not np.isfinite(times).all():
                raise ValueError(f"times_s must be finite, got {times[~np.isfinite(times)][0]}")
            order = np.lexsort((times, device))
            times = times[order]
        counts = np.bincount(device, minlength=len(device_names))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
        return cls(
            offsets,
            (item[order] + 1).astype(np.int32),
            times,
            device_names,
            item_names,
            source,
            num_skipped,
            None if contexts is None else contexts[order],
        )

    @classmethod
    def of_codes(
        cls,
        users: tuple[NDArray[np.int32], Sequence[str]],
        items: tuple[NDArray[np.int32], Sequence[str]],
        times_s: NDArray[np.float64] | None,
        source: str,
        num_skipped: int = 0,
    ) -> "EventTable":
        """Sorts events whose ids are numbers already, in any order of the ids.

        Args:
            users: ``[M]`` codes, and the name of each code; "" stands for none. Users without
                events are left out.
            items: Likewise; items without events stay.
            times_s: ``[M]`` finite seconds, or ``None`` where the order of the rows is all that is
                known.
            source: The path of the file.
            num_skipped: Malformed rows that were left out.
        """
        rank, device_names = _ranks(users[1])
        device = rank[users[0]]
        counts = np.bincount(device, minlength=len(device_names))
        order = _order(device, times_s)
        times_s = times_s if times_s is None or order is None else times_s[order]
        del device
        rank, item_names = _ranks(items[1])
        have_events = counts > 0
        item = items[0] if order is None else items[0][order]
        return cls(
            np.concatenate([np.zeros(1, np.int64), np.cumsum(counts[have_events], dtype=np.int64)]),
            (rank + 1)[item],
            times_s,
            [name for name, has in zip(device_names, have_events, strict=True) if has],
            item_names,
            source,
            num_skipped,
        )

    def first_devices(self, num_devices: int) -> "EventTable":
        """Keeps the first devices. Items keep their numbers: the catalog stays whole.

        Args:
            num_devices: How many, in 1..``self.num_devices``. All of them gives an equal table.

        Raises:
            UserError: If there are not that many devices, or less than one is asked for.
        """
        if num_devices < 1:
            raise UserError(f"fleet.num_devices must be >= 1, got {num_devices}")
        if num_devices > self.num_devices:
            raise UserError(
                f"fleet.num_devices must be <= {self.num_devices}, the number of devices in "
                f"{self.source}, got {num_devices}"
            )
        end = self.offsets[num_devices]
        return replace(
            self,
            offsets=self.offsets[: num_devices + 1],
            items=self.items[:end],
            times_s=None if self.times_s is None else self.times_s[:end],
            contexts=None if self.contexts is None else self.contexts[:end],
            device_names=self.device_names[:num_devices],
        )

    def frequent(self, min_user_events: int = 1, min_item_events: int = 1) -> "EventTable":
        """Keeps devices and items with at least so many events, and numbers them anew without gaps.

        One pass: both are counted in this table as it is, so what is left of a device (or an item)
        may be less than its minimum, because its rare items (or devices) are gone. A device without
        any event left is gone too.

        Args:
            min_user_events: 1 keeps every device.
            min_item_events: 1 keeps every item.

        Raises:
            UserError: If a minimum is below 1, or nothing is left.
        """
        for key, value in (
            ("min_user_events", min_user_events),
            ("min_item_events", min_item_events),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"data.{key} must be a whole number >= 1, got {value}")
        if min_user_events == min_item_events == 1:
            return self
        device = np.repeat(np.arange(self.num_devices), np.diff(self.offsets))
        kept = (np.diff(self.offsets) >= min_user_events)[device]
        kept &= (np.bincount(self.items, minlength=self.num_items + 1) >= min_item_events)[
            self.items
        ]
        if not kept.any():
            raise UserError(
                f"data.min_user_events={min_user_events} and "
                f"data.min_item_events={min_item_events} leave no event of {self.source}"
            )
        devices, device = np.unique(device[kept], return_inverse=True)
        items, item = np.unique(self.items[kept], return_inverse=True)
        return replace(
            self,
            offsets=np.concatenate(
                [np.zeros(1, np.int64), np.cumsum(np.bincount(device), dtype=np.int64)]
            ),
            items=(item + 1).astype(np.int32),
            times_s=None if self.times_s is None else self.times_s[kept],
            contexts=None if self.contexts is None else self.contexts[kept],
            device_names=[self.device_names[index] for index in devices],
            item_names=[self.item_names[index - 1] for index in items],
        )

    def content_hash(self) -> str:
        """Hashes offsets, items and times in hexadecimal; names and the path do not matter."""
        digest = hashlib.sha256()
        for name, array, dtype in (
            ("offsets", self.offsets, "<i8"),
            ("items", self.items, "<i4"),
            ("times", self.times_s, "<f8"),
        ):
            digest.update(f"{name}:{'none' if array is None else len(array)};".encode())
            if array is not None:
                digest.update(np.ascontiguousarray(array, dtype).tobytes())
        return digest.hexdigest()
