"""Devices on Ray workers that hold nothing.

A round is a set of tasks ``(app, messages, states) -> (replies, states)``, one a shard of devices. States
live in Ray's object store and this process keeps references only, which it replaces when the whole exchange
is done. A worker that dies is retried by Ray with the same inputs.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from cdc_flower.batch import MessageBatch
from cdc_flower.simulations.grids import BatchedGrid

#: Shards a worker gets in a round, so that a slow shard does not keep the others waiting.
SHARDS_PER_WORKER = 2
MAX_RETRIES = 3


def _play(handler: Any, batch: MessageBatch, shared: dict[str, Any], states: Any, rows: Any) -> tuple[Any, Any]:
    """One task: a pure function of its arguments."""
    batch = batch.with_records(shared=shared)
    whole = len(rows) == len(states)
    before = states if whole else states.select(rows)
    replies, after = handler.handle(batch, before)
    if after is not before:
        states = after if whole else states.update(rows, after)
    return replies, states


class RayGrid(BatchedGrid):
    """Devices in shards over Ray workers, on this machine or on a cluster.

    Args:
        app: As in ``InlineGrid``.
        device_ids: ``[n]``, ascending.
        num_workers: Tasks at a time, each on one CPU.
        address: Of a running Ray cluster; None starts one here and ends it with :meth:`close`.

    Raises:
        ValueError: If ``num_workers < 1``.
    """

    def __init__(
        self,
        app: ClientApp,
        device_ids: Sequence[int] | NDArray[np.int64],
        *,
        num_workers: int = 2,
        address: str | None = None,
    ) -> None:
        super().__init__(app, device_ids)
        if num_workers < 1:
            raise ValueError(f"num_workers must be >= 1, got {num_workers}")
        self._started = not ray.is_initialized()
        if self._started:
            start_ray(num_workers, address)
        self.num_workers = num_workers
        self._task = ray.remote(_play).options(num_cpus=1, num_returns=2, max_retries=MAX_RETRIES)
        self._handler_ref = ray.put(self.handler)
        num_shards = min(len(self.device_ids), SHARDS_PER_WORKER * num_workers)
        self._shards = np.array_split(np.arange(len(self.device_ids)), num_shards)
        self._states = [ray.put(self.fresh_states(self.device_ids[shard])) for shard in self._shards]

    def _exchange(self, batches: list[tuple[MessageBatch, NDArray[np.int64]]]) -> list[MessageBatch]:
        states, pending = list(self._states), []
        for batch, rows in batches:
            shared, rest = ray.put(batch.shared), batch.with_records(shared={})
            parts = []
            for index, shard in enumerate(self._shards):
                place = np.flatnonzero((rows >= shard[0]) & (rows <= shard[-1]))
                if len(place):
                    reply, states[index] = self._task.remote(
                        self._handler_ref, rest.select(place), shared, states[index], rows[place] - shard[0]
                    )
                    parts.append((place, reply))
            pending.append(parts)
        replies = []
        for parts in pending:
            order = np.argsort(np.concatenate([place for place, _ in parts]), kind="stable")
            replies.append(MessageBatch.concat(ray.get([reply for _, reply in parts])).select(order))
        ray.wait(states, num_returns=len(states), fetch_local=False)
        self._states = states
        return replies

    def close(self) -> None:
        """Let go of the states, and of Ray if this grid started it."""
        self._states = []
        if self._started and ray.is_initialized():
            ray.shutdown()


def start_ray(num_workers: int, address: str | None = None) -> None:
    """Start Ray quietly, without its dashboard, or join the cluster at an address."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    if address is not None:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        return
    ray.init(num_cpus=num_workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
