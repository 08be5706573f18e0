"""Keeps the states of devices between messages: model, parameters, and decoders' slots.

Devices often hold the same parameters: all of them after a deployment, all of them with FedAvg. So
the parameters are a pool of distinct sets, and each device has an index into it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.saveable import (
    Saved,
    json_array,
    json_of,
    part_of,
    prefixed,
    taken,
)
from cdc_flower.devices.slots import Slot, flattened, restored, shifted
from cdc_flower.training.scoring import Arrays

#: Attributes that index the pool, beside the indices of slots.
_INDICES = ("in_use", "pending")

Settings = dict[str, bool | int | float | str]


@dataclass(frozen=True)
class DeviceStates:
    """Holds the states of ``n`` devices. A change makes new ones: a failed round leaves the old.

    Attributes:
        device_ids: ``[n]``.
        static: The deployed model, shared; empty before the deployment.
        pool: ``[P, ...]``, distinct sets of parameters that take the place of those in ``static``.
        in_use: ``[n]``, index into the pool; -1 before the deployment.
        pending: ``[n]``, index of parameters that the device has made but cannot use yet; -1 for
            none.
        settings: What was deployed beside the model, such as how to train.
        slots: What each decoder keeps on the devices, by the decoder's name.
    """

    device_ids: NDArray[np.int64]
    static: Arrays = field(default_factory=dict)
    pool: Arrays = field(default_factory=dict)
    in_use: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    pending: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    settings: Settings = field(default_factory=dict)
    slots: Mapping[str, Slot] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fills in what is not given: nobody has parameters."""
        for name in _INDICES:
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(len(self), -1))

    def __len__(self) -> int:
        return len(self.device_ids)

    @property
    def num_sets(self) -> int:
        """Counts the sets of parameters in the pool, ``P``."""
        return len(next(iter(self.pool.values()))) if self.pool else 0

    def deployed(
        self, model: Arrays, adaptive: tuple[str, ...], settings: Settings
    ) -> "DeviceStates":
        """Makes the states after a deployment: all devices use the adaptive layers that came.

        Slots are empty; see :func:`cdc_flower.devices.decoders.deployment.deploy`.

        Args:
            model: Static and adaptive layers.
            adaptive: Names of the adaptive layers.
            settings: Deployed beside the model.
        """
        return DeviceStates(
            self.device_ids,
            static=model,
            pool={name: model[name][None] for name in adaptive},
            in_use=np.zeros(len(self), np.int64),
            settings=settings,
        )

    def with_slots(self, slots: Mapping[str, Slot]) -> "DeviceStates":
        """Replaces the slots of these names."""
        return replace(self, slots={**self.slots, **slots})

    def select(self, rows: NDArray[np.int64]) -> "DeviceStates":
        """Takes the states of some devices; the pool is still whole."""
        return replace(
            self,
            device_ids=self.device_ids[rows],
            in_use=self.in_use[rows],
            pending=self.pending[rows],
            slots={name: slot.select(rows) for name, slot in self.slots.items()},
        )

    def update(self, rows: NDArray[np.int64], changed: "DeviceStates") -> "DeviceStates":
        """Replaces the states of some devices; settings and decoders are the changed ones.

        If a part of the devices got another model, every set of the pool holds a whole model from
        then on.
        """
        if len(rows) == len(self):  # everyone changed, so nothing of the old states is left
            return changed.select(np.argsort(rows)).compact()
        # Indices of another pool count after those of this one.
        offset = 0 if changed.pool is self.pool else self.num_sets
        in_use = self.in_use.copy()
        in_use[rows] = shifted(changed.in_use, offset)
        pending = self.pending.copy()
        pending[rows] = shifted(changed.pending, offset)
        slots = {
            name: self.slots.get(name, slot.empty(len(self))).update(rows, slot, offset)
            for name, slot in changed.slots.items()
        }
        if changed.pool is self.pool:
            return replace(self, in_use=in_use, pending=pending, slots=slots)
        is_same_model = changed.static is self.static or not self.static
        names = tuple({**self.pool, **changed.pool} if is_same_model else changed.static)
        mine = self.widen(names).pool
        theirs = changed.widen(names).pool
        pool = (
            {name: np.concatenate([mine[name], theirs[name]]) for name in names} if mine else theirs
        )
        merged = replace(
            changed,
            device_ids=self.device_ids,
            pool=pool,
            in_use=in_use,
            pending=pending,
            slots=slots,
        )
        return merged.compact()

    def joined(self, others: Sequence["DeviceStates"]) -> "DeviceStates":
        """Puts the states of more devices after these. Models that are equal become one."""
        parts = [self, *others]
        whole = DeviceStates(np.concatenate([part.device_ids for part in parts]))
        ends = np.cumsum([len(part) for part in parts])
        for rows, part in zip(np.split(np.arange(ends[-1]), ends[:-1]), parts, strict=True):
            is_same = not part.static or _are_equal(part.static, whole.static)
            whole = whole.update(rows, replace(part, static=whole.static) if is_same else part)
        return whole

    def widen(self, names: Iterable[str]) -> "DeviceStates":
        """Makes the pool hold these names too, filled from the deployed model.

        Raises:
            ValueError: If the deployed model has no such name.
        """
        missing = [name for name in names if name not in self.pool]
        if not missing or not self.static:
            return self
        unknown = [name for name in missing if name not in self.static]
        if unknown:
            raise ValueError(
                f"parameters must be those of the deployed model, got {', '.join(unknown)}"
            )
        extra = {name: np.repeat(self.static[name][None], self.num_sets, 0) for name in missing}
        return replace(self, pool={**self.pool, **extra})

    def add(self, sets: Arrays) -> tuple["DeviceStates", int]:
        """Adds sets ``[Q, ...]`` to the pool, and returns the index of the first of them.

        Names that the sets lack are filled from the deployed model.

        Raises:
            ValueError: If the deployed model has no such name, or its shape is another.
        """
        widened, new = self.fitted(sets)
        pool = {name: np.concatenate([value, new[name]]) for name, value in widened.pool.items()}
        return replace(widened, pool=pool), self.num_sets

    def fitted(self, sets: Arrays) -> tuple["DeviceStates", Arrays]:
        """Makes the pool and more sets ``[Q, ...]`` hold the same names.

        Types are those of the deployed model.

        Raises:
            ValueError: As :meth:`add`.
        """
        widened = self.widen(sets)
        num_new = len(next(iter(sets.values())))
        fitted = {}
        for name, value in widened.pool.items():
            new = sets[name] if name in sets else np.repeat(self.static[name][None], num_new, 0)
            if new.shape[1:] != value.shape[1:]:
                raise ValueError(f"{name} must have shape {value.shape[1:]}, got {new.shape[1:]}")
            fitted[name] = new.astype(value.dtype, copy=False)
        return widened, fitted

    def adopt(
        self, sets: Arrays, in_use: NDArray[np.int64], pending: NDArray[np.int64]
    ) -> "DeviceStates":
        """Takes other indices, which count fitted ``sets`` after those of the pool.

        If nobody needs the pool any more the sets take its place without a copy.

        Args:
            sets: ``[Q, ...]``, from :meth:`fitted`; empty for none.
            in_use: ``[n]``.
            pending: ``[n]``.
        """
        pools = [self.pool, sets] if sets else [self.pool]
        return replace(self, in_use=in_use, pending=pending)._packed(pools)

    def compact(self) -> "DeviceStates":
        """Drops the sets that nobody uses."""
        return self._packed([self.pool])

    def _packed(self, pools: list[Arrays]) -> "DeviceStates":
        """Keeps those sets of some pools, numbered through, that somebody uses."""
        ends = np.cumsum([len(next(iter(pool.values()))) if pool else 0 for pool in pools])
        indices = np.concatenate([self.in_use, self.pending, *self._slot_indices()])
        used = np.zeros(ends[-1], bool)
        used[indices[indices >= 0]] = True
        if used.all() and len(pools) == 1:
            return self  # as it is in most rounds: no copy of the pool
        masks = np.split(used, ends[:-1])
        parts = [(pool, mask) for pool, mask in zip(pools, masks, strict=True) if mask.any()] or [
            (pools[0], masks[0])
        ]
        pool = {
            name: _concatenated(
                [sets[name] if mask.all() else sets[name][mask] for sets, mask in parts]
            )
            for name in pools[0]
        }
        index = np.append(np.cumsum(used) - 1, -1)  # -1 stays -1
        return replace(
            self,
            pool=pool,
            in_use=index[self.in_use],
            pending=index[self.pending],
            slots={name: slot.renumbered(index) for name, slot in self.slots.items()},
        )

    def _slot_indices(self) -> list[NDArray[np.int64]]:
        """Lists every index of every slot."""
        return list(chain.from_iterable(slot.index.values() for slot in self.slots.values()))

    @property
    def nbytes(self) -> int:
        """Adds up the memory of the arrays, in bytes."""
        rows = self.device_ids.nbytes + self.in_use.nbytes + self.pending.nbytes
        slots = sum(slot.nbytes for slot in self.slots.values())
        sets = (*self.static.values(), *self.pool.values())
        return rows + slots + sum(value.nbytes for value in sets)

    def to_arrays(self) -> Arrays:
        """Takes the states as plain arrays; see :meth:`from_arrays`."""
        return {
            **{name: getattr(self, name) for name in ("device_ids", *_INDICES)},
            **prefixed("static", self.static),
            **prefixed("pool", self.pool),
            **prefixed("slot_index", flattened(self.slots, "index")),
            **prefixed("slot_rows", flattened(self.slots, "rows")),
            "settings": json_array(dict(self.settings)),
        }

    def from_arrays(self, arrays: Saved) -> "DeviceStates":
        """Makes states of the same devices that :meth:`to_arrays` took.

        Raises:
            UserError: If they are of other devices, or something is missing.
        """
        ids = taken(arrays, "device_ids", np.int64, self.device_ids.shape)
        if (ids != self.device_ids).any():
            other = ids[ids != self.device_ids][0]
            raise UserError(f"a saved run must be of the same devices, got device {other}")
        parts = {
            name: {key: np.array(value) for key, value in part_of(arrays, name).items()}
            for name in ("static", "pool", "slot_index", "slot_rows")
        }
        index = {name: taken(arrays, name, np.int64, ids.shape) for name in _INDICES}
        settings = cast(Settings, json_of(arrays, "settings"))
        slots = restored(parts["slot_index"], parts["slot_rows"])
        static, pool = parts["static"], parts["pool"]
        return DeviceStates(self.device_ids, static, pool, **index, settings=settings, slots=slots)

    def to_record(self) -> RecordDict:
        """Writes the states as records, for Flower's ``context.state``."""
        groups: dict[str, dict[str, NDArray]] = {
            "static": self.static,
            "pool": self.pool,
            "index": {name: getattr(self, name) for name in _INDICES},
            "slot-index": flattened(self.slots, "index"),
            "slot-rows": flattened(self.slots, "rows"),
        }
        written = {
            name: ArrayRecord(
                {key: Array(np.ascontiguousarray(value)) for key, value in group.items()}
            )
            for name, group in groups.items()
        }
        return RecordDict({**written, "settings": ConfigRecord(dict(self.settings))})

    @staticmethod
    def from_record(device_ids: NDArray[np.int64], record: RecordDict) -> "DeviceStates":
        """Reads the states that :meth:`to_record` wrote; empty ones from an empty record."""
        if "index" not in record:
            return DeviceStates(device_ids)
        static, pool, index, slot_index, slot_rows = (
            {key: value.numpy() for key, value in record.array_records[name].items()}
            for name in ("static", "pool", "index", "slot-index", "slot-rows")
        )
        settings = cast(Settings, dict(record.config_records["settings"]))
        slots = restored(slot_index, slot_rows)
        return DeviceStates(
            device_ids, static, pool, index["in_use"], index["pending"], settings, slots
        )


def _are_equal(one: Arrays, other: Arrays) -> bool:
    """Tells whether two models have the same layers to the bit."""
    return list(one) == list(other) and all(
        np.array_equal(value, other[name]) for name, value in one.items()
    )


def _concatenated(parts: list[NDArray]) -> NDArray:
    """Puts arrays one after the other; a single one without a copy."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
