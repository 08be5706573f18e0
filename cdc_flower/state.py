"""What devices keep between messages: the deployed model, the parameters in use, and those not ready yet.

Devices often hold the same parameters: all of them after a deployment, all of them with FedAvg. So the
parameters are a pool of distinct sets, and each device has an index into it.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from cdc_flower.scoring import Arrays

Settings = dict[str, bool | int | float | str]


@dataclass(frozen=True)
class DeviceStates:
    """States of ``n`` devices. Immutable: a change makes a new one, so a failed round leaves the old.

    Attributes:
        device_ids: ``[n]``.
        static: The deployed model, shared; empty before the deployment.
        pool: ``[P, ...]``, distinct sets of parameters.
        in_use: ``[n]``, index into the pool.
        pending: ``[n]``, index of parameters that the device has made but cannot use yet; -1 for none.
        settings: What was deployed beside the model, such as how to train.
    """

    device_ids: NDArray[np.int64]
    static: Arrays = field(default_factory=dict)
    pool: Arrays = field(default_factory=dict)
    in_use: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    pending: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    settings: Settings = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.device_ids)

    def deployed(self, model: Arrays, adaptive: tuple[str, ...], settings: Settings) -> "DeviceStates":
        """The states after a deployment: every device uses the adaptive layers that came with the model."""
        return DeviceStates(
            self.device_ids,
            static=model,
            pool={name: model[name][None] for name in adaptive},
            in_use=np.zeros(len(self), np.int64),
            pending=np.full(len(self), -1),
            settings=settings,
        )

    def select(self, rows: NDArray[np.int64]) -> "DeviceStates":
        """The states of some devices; the pool is still whole."""
        return replace(self, device_ids=self.device_ids[rows], in_use=self.in_use[rows], pending=self.pending[rows])

    def update(self, rows: NDArray[np.int64], changed: "DeviceStates") -> "DeviceStates":
        """These states with those of some devices replaced."""
        if len(rows) == len(self):
            back = np.argsort(rows)
            return changed.select(back).compact()
        if changed.pool is self.pool:
            in_use, pending = self.in_use.copy(), self.pending.copy()
            in_use[rows], pending[rows] = changed.in_use, changed.pending
            return replace(self, in_use=in_use, pending=pending)
        widened = self.widen(tuple(changed.pool))
        offset = len(next(iter(widened.pool.values()))) if widened.pool else 0
        in_use, pending = widened.in_use.copy(), widened.pending.copy()
        in_use[rows] = changed.in_use + offset
        pending[rows] = np.where(changed.pending < 0, -1, changed.pending + offset)
        pool = {name: np.concatenate([widened.pool[name], value]) for name, value in changed.pool.items()}
        return replace(
            self, static=changed.static, settings=changed.settings, pool=pool, in_use=in_use, pending=pending
        ).compact()

    def widen(self, names: tuple[str, ...]) -> "DeviceStates":
        """The same states with a pool that holds these names too, filled from the deployed model."""
        missing = [name for name in names if name not in self.pool]
        if not missing:
            return self
        num_sets = len(next(iter(self.pool.values())))
        extra = {name: np.repeat(self.static[name][None], num_sets, 0) for name in missing}
        return replace(self, pool={**self.pool, **extra})

    def add(self, sets: Arrays) -> tuple["DeviceStates", int]:
        """The states with more sets ``[Q, ...]`` in the pool, and the index of the first of them.

        Names that the sets lack are filled from the deployed model.
        """
        widened = self.widen(tuple(sets))
        num_new = len(next(iter(sets.values())))
        offset = len(next(iter(widened.pool.values())))
        pool = {
            name: np.concatenate(
                [value, sets[name] if name in sets else np.repeat(self.static[name][None], num_new, 0)]
            )
            for name, value in widened.pool.items()
        }
        return replace(widened, pool=pool), offset

    def compact(self) -> "DeviceStates":
        """The same states without the sets that nobody uses."""
        if not self.pool:
            return self
        num_sets = len(next(iter(self.pool.values())))
        used = np.zeros(num_sets, bool)
        used[self.in_use] = True
        used[self.pending[self.pending >= 0]] = True
        if used.all():
            return self
        index = np.cumsum(used) - 1
        return replace(
            self,
            pool={name: value[used] for name, value in self.pool.items()},
            in_use=index[self.in_use],
            pending=np.where(self.pending < 0, -1, index[self.pending]),
        )

    @property
    def nbytes(self) -> int:
        """Memory of the arrays in bytes."""
        arrays = [*self.static.values(), *self.pool.values(), self.device_ids, self.in_use, self.pending]
        return sum(value.nbytes for value in arrays)

    def to_record(self) -> RecordDict:
        """The states as records, for Flower's ``context.state``."""
        groups = {"static": self.static, "pool": self.pool, "index": {"in_use": self.in_use, "pending": self.pending}}
        records = {
            name: ArrayRecord({key: Array(np.ascontiguousarray(value)) for key, value in group.items()})
            for name, group in groups.items()
        }
        return RecordDict({**records, "settings": ConfigRecord(dict(self.settings))})

    @staticmethod
    def from_record(device_ids: NDArray[np.int64], record: RecordDict) -> "DeviceStates":
        """The states that :meth:`to_record` wrote; empty ones from an empty record."""
        if "index" not in record:
            return DeviceStates(device_ids)
        groups = {
            name: {key: value.numpy() for key, value in record[name].items()} for name in ("static", "pool", "index")
        }
        settings = dict(record["settings"].items())
        return DeviceStates(device_ids, groups["static"], groups["pool"], **groups["index"], settings=settings)
