"""Devices on Ray workers that hold nothing.

A round is a set of tasks ``(app, messages, states) -> (replies, states)``, one a shard of devices.
States live in Ray's object store and this process keeps references only, which it replaces when the
whole exchange is done. A worker that dies is retried by Ray with the same inputs.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from cdc_flower.simulations.grids.base import BatchedGrid, Handler, Held, States, play_rows
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import Group, Replies, joined

MAX_RETRIES = 3


def _play(
    handler: Handler[Held],
    batch: MessageBatch,
    shared: dict[str, Arrays],
    states: Held,
    rows: NDArray[np.int64],
) -> tuple[Replies, Held]:
    """Plays one shard: its messages, and beside them what those of all shards share."""
    return play_rows(handler, replace(batch, shared=shared), states, rows)


class RayGrid(BatchedGrid):
    """Plays devices in shards over Ray workers, on this machine or on a cluster.

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
        self._task: Any = ray.remote(_play).options(
            num_cpus=1, num_returns=2, max_retries=MAX_RETRIES
        )
        self._handler_ref = ray.put(self.handler)
        num_shards = min(len(self.device_ids), num_workers)  # more would cost a task each
        self._shards = np.array_split(np.arange(len(self.device_ids)), num_shards)
        self._states = [
            ray.put(self.fresh_states(self.device_ids[shard])) for shard in self._shards
        ]

    def _exchange(self, batches: list[Group]) -> list[Replies]:
        states, pending = list(self._states), []
        for batch, rows in batches:
            shared, rest = ray.put(batch.shared), replace(batch, shared={})
            parts = []
            for index, shard in enumerate(self._shards):
                place = np.flatnonzero((rows >= shard[0]) & (rows <= shard[-1]))
                if len(place):
                    reply, states[index] = self._task.remote(
                        self._handler_ref,
                        rest.select(place),
                        shared,
                        states[index],
                        rows[place] - shard[0],
                    )
                    parts.append((reply, place))
            pending.append(parts)
        replies = [joined([(ray.get(reply), place) for reply, place in parts]) for parts in pending]
        self._states = states
        return replies

    def _shard_states(self) -> list[States]:
        return list(ray.get(self._states))

    def _set_shard_states(self, shards: list[States]) -> None:
        self._states = [ray.put(states) for states in shards]

    def close(self) -> None:
        """Lets go of the states, and of Ray if this grid started it."""
        self._states = []
        if self._started and ray.is_initialized():
            ray.shutdown()


def start_ray(num_workers: int, address: str | None = None) -> None:
    """Starts Ray quietly, without its dashboard, or joins the cluster at an address.

    Workers that are started here import from the folders that this process does, such as a user's
    own decoder.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    with _kept_signals():
        _init(num_workers, address)


@contextmanager
def _kept_signals() -> Iterator[None]:
    """Keeps how this process ends at SIGTERM, which Ray would change."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _init(num_workers: int, address: str | None) -> None:
    if address is not None:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        return
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(_own_folders())
    try:
        ray.init(
            num_cpus=num_workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _own_folders() -> list[str]:
    """Lists the folders of ``sys.path`` beside those of Python itself, and those of PYTHONPATH."""
    python = {Path(prefix) for prefix in (sys.prefix, sys.base_prefix)}
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = [folder for folder in (*sys.path, *inherited) if folder]
    return [f for f in dict.fromkeys(folders) if python.isdisjoint(Path(f).parents)]
