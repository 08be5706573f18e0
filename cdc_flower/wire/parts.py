"""Holds the parts of a message batch, and looks them up.

A lower module than :mod:`cdc_flower.wire.batch`: building, measuring, parsing and joining messages
need no more than this, so none of them imports the batch that is made of them.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar, cast

import numpy as np
from flwr.app import DEFAULT_TTL
from numpy.typing import ArrayLike, NDArray

from cdc_flower.wire import check
from cdc_flower.wire.check import Configs, Records
from cdc_flower.wire.identity import Identity, current_identity

#: One kind of batch: functions give back the kind that they take.
Batch = TypeVar("Batch", bound="BatchParts")
Held = TypeVar("Held", Records, Configs)
#: Records as callers give them: record name -> key -> array of numbers.
GivenRecords = Mapping[str, Mapping[str, ArrayLike]]
#: Config records as callers give them: record name -> key -> one value, or numbers ``[n]``.
GivenConfigs = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, eq=False)
class BatchParts:
    """Holds ``n`` messages as stacked arrays; :class:`~cdc_flower.wire.batch.MessageBatch` is one.

    Attributes:
        message_type: Flower's type of all messages, such as ``"train"``.
        node_ids: ``[n]``, the device's end: destination of an instruction, source of a reply.
        arrays: Array record -> array -> ``[n, ...]``, one row a message.
        shared: Array record -> array -> ``[...]``, the same in all messages and held once.
        metrics: Metric record -> key -> ``[n]`` or ``[n, k]`` (a list each); int64 or float64, or
            uint64.
        configs: Config record -> key -> one value for all, or ``[n]`` numbers.
        is_reply: Whether the devices send them.
        message_ids: The id of each message; None before a grid has sent them.
        reply_to: The ids of the instructions that the replies answer.
        group_id: Flower's label for a group of messages.
        ttl_s: For how long a message is valid, in seconds: one number or ``[n]``.
        created_at_s: Unix time in seconds: one number or ``[n]``; now, unless given.
        errors: Row -> code and reason, for replies that carry an error and no content.
        cloud: The cloud's end of all messages; this process, unless given.

    Raises:
        ValueError: If row counts, types or names do not agree.
    """

    message_type: str
    node_ids: NDArray
    arrays: Records = field(default_factory=dict)
    shared: Records = field(default_factory=dict)
    metrics: Records = field(default_factory=dict)
    configs: Configs = field(default_factory=dict)
    is_reply: bool = False
    message_ids: list[str] | None = None
    reply_to: list[str] | None = None
    group_id: str = ""
    ttl_s: float | NDArray[np.float64] = float(DEFAULT_TTL)
    created_at_s: float | NDArray[np.float64] = field(default_factory=time.time)
    errors: dict[int, tuple[int, str]] = field(default_factory=dict)
    cloud: Identity = field(default_factory=current_identity)

    def __post_init__(self) -> None:
        node_ids = check.node_id_column(self.node_ids)
        n = len(node_ids)
        parts = {
            "node_ids": node_ids,
            "arrays": check.array_records(self.arrays, n),
            "shared": check.shared_records(self.shared),
            "metrics": check.metric_records(self.metrics, n),
            "configs": check.config_records(self.configs, n),
            "message_ids": check.id_list(self.message_ids, "message_ids", n),
            "reply_to": check.id_list(self.reply_to, "reply_to", n),
            "ttl_s": check.seconds(self.ttl_s, "ttl_s", n),
            "created_at_s": check.seconds(self.created_at_s, "created_at_s", n),
            "errors": check.error_rows(self.errors, n),
        }
        for name, value in parts.items():
            object.__setattr__(self, name, value)
        check.check_names(self.arrays, self.shared, self.metrics, self.configs)

    def __len__(self) -> int:
        return len(self.node_ids)

    def ok_rows(self) -> NDArray[np.int64]:
        """Lists the rows ``[k]`` that carry no error, ascending."""
        is_ok = np.ones(len(self), dtype=bool)
        is_ok[list(self.errors)] = False
        return np.flatnonzero(is_ok)

    def array_names(self) -> list[str]:
        """Names the array records: first those with rows of each device, then those all shared."""
        return list(dict.fromkeys((*self.arrays, *self.shared)))

    def record_names(self) -> list[str]:
        """Names all records."""
        return [*self.array_names(), *self.metrics, *self.configs]

    def array(self, record: str, name: str) -> NDArray:
        """Gives an array ``[n, ...]`` of each device; a shared one as a read-only view.

        Raises:
            KeyError: If there is no such array.
        """
        column = self.arrays.get(record, {}).get(name)
        if column is not None:
            return column
        shared = self.shared.get(record, {}).get(name)
        if shared is None:
            raise KeyError(f"{record}/{name}")
        return np.broadcast_to(shared, (len(self), *shared.shape))

    def only(self, names: Collection[str]) -> Self:
        """Keeps these records and no others; a name that is not there is no error."""
        return replace(
            self,
            arrays={name: record for name, record in self.arrays.items() if name in names},
            shared={name: record for name, record in self.shared.items() if name in names},
            metrics={name: record for name, record in self.metrics.items() if name in names},
            configs={name: record for name, record in self.configs.items() if name in names},
        )

    def without(self, names: Collection[str]) -> Self:
        """Drops these records; a name that is not there is no error."""
        return self.only([name for name in self.record_names() if name not in names])

    def with_records(
        self,
        *,
        arrays: GivenRecords | None = None,
        shared: GivenRecords | None = None,
        metrics: GivenRecords | None = None,
        configs: GivenConfigs | None = None,
    ) -> Self:
        """Adds records; each takes the place of one of its name in the same attribute.

        Args:
            arrays: As in the class; None adds none, likewise below.
            shared: Arrays that all messages have.
            metrics: Numbers of each message.
            configs: Values of all messages, or numbers of each.
        """
        return replace(
            self,
            arrays=_merged(self.arrays, arrays),
            shared=_merged(self.shared, shared),
            metrics=_merged(self.metrics, metrics),
            configs=_merged(self.configs, configs),
        )


def _merged(held: Held, more: Mapping[str, object] | None) -> Held:
    """Adds records; the constructor checks them and brings them into the types of attributes."""
    return cast(Held, {**held, **(more or {})})
