"""Devices on Ray workers that hold nothing.

An exchange is a chain of tasks ``(app, messages, states) -> (replies, states)`` for each shard of
devices. States live in Ray's object store and this process keeps references only, which it replaces
when the whole exchange is done. So a shard whose worker dies is played again from the states that
it began with, and nothing counts twice. Ray's own retries are off: they would not be told.
"""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import ray
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.grids.base import BatchedGrid, Handler, Held, States, play_rows
from cdc_flower.simulations.grids.ray_faults import fault_in
from cdc_flower.simulations.grids.ray_process import LOOK_S, Servers, end_ray, start_ray
from cdc_flower.simulations.grids.shards import Part
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import Group, Replies, joined

log = logging.getLogger("cdc_flower")

#: A shard is played again this often in one exchange, before the run ends.
MAX_REPLAYS = 3


def _play(
    handler: Handler[Held],
    batch: MessageBatch,
    shared: dict[str, Arrays],
    states: Held,
    rows: NDArray[np.int64],
) -> tuple[Replies, Held]:
    """Plays one shard: its messages, and beside them what those of all shards share."""
    return play_rows(handler, replace(batch, shared=shared), states, rows)


@dataclass(eq=False)
class _ShardPlay:
    """Holds what one shard has to play in an exchange, and what came of it.

    Attributes:
        shard: Its number.
        calls: Number of each batch that has messages for it, with their places and rows.
        replies: References, one a call; empty before it is played.
        states: After the last call.
        num_replays: How often it was played again.
    """

    shard: int
    calls: list[tuple[int, Part]] = field(default_factory=list)
    replies: list[ray.ObjectRef] = field(default_factory=list)
    states: ray.ObjectRef = field(init=False)
    num_replays: int = 0


class RayGrid(BatchedGrid):
    """Plays devices in shards over Ray workers, on this machine or on a cluster.

    Args:
        app: As in ``InlineGrid``.
        device_ids: ``[n]``, ascending.
        num_workers: Tasks at a time, each on one CPU.
        shard_devices: How many devices a task plays; None: one task a worker.
        address: Of a running Ray cluster; None starts one here and ends it with :meth:`close`.

    Raises:
        ValueError: If ``num_workers < 1`` or ``shard_devices < 1``.
        UserError: If there is no cluster at the address.
    """

    def __init__(
        self,
        app: ClientApp,
        device_ids: Sequence[int] | NDArray[np.int64],
        *,
        num_workers: int = 2,
        shard_devices: int | None = None,
        address: str | None = None,
    ) -> None:
        if num_workers < 1:
            raise ValueError(f"num_workers must be >= 1, got {num_workers}")
        super().__init__(app, device_ids, shard_devices=shard_devices, num_workers=num_workers)
        self._started = not ray.is_initialized()
        if self._started:
            start_ray(num_workers, address)
        self.num_workers = num_workers
        self._servers = Servers(is_own=self._started and address is None)
        self._task: Any = ray.remote(_play).options(num_cpus=1, num_returns=2, max_retries=0)
        self._handler_ref = ray.put(self.handler)
        self._set_shard_states(
            [self.fresh_states(self.device_ids[rows]) for rows in self.shards.rows]
        )

    def _exchange(self, batches: list[Group]) -> list[Replies]:
        plays = [_ShardPlay(shard) for shard in range(len(self.shards))]
        for number, (_, rows) in enumerate(batches):
            for part in self.shards.parts(rows):
                plays[part[0]].calls.append((number, part))
        plays = [play for play in plays if play.calls]
        self._servers.look()  # workers go on for a minute without a head, and then all ends
        try:
            replies = self._play_all(batches, plays)
        except ray.exceptions.RayTaskError:
            raise  # of the app
        except Exception as error:
            self._servers.check(error)  # Ray says many things when it is gone
            raise
        for play in plays:
            self._states[play.shard] = play.states
        return [joined(parts) for parts in replies]

    def _play_all(
        self, batches: list[Group], plays: list[_ShardPlay]
    ) -> list[list[tuple[Replies, NDArray[np.int64]]]]:
        """Plays all shards, each until it is done.

        Returns:
            For each batch, the replies of each shard with their places.
        """
        keeps = self._servers.has_other_nodes()
        shared = [ray.put(batch.shared) for batch, _ in batches]
        waiting = deque(plays)
        running: dict[ray.ObjectRef, _ShardPlay] = {}
        done: dict[int, list[Replies]] = {}
        while waiting or running:
            while waiting and len(running) < self.num_workers:
                play = waiting.popleft()
                self._submit(play, batches, shared)
                running[play.replies[-1]] = play
            for finished in self._wait(list(running), 1):
                play = running.pop(finished)
                got = self._replies_of(play, keeps)
                if got is None:
                    waiting.append(play)
                else:
                    done[play.shard] = got
        parts: list[list[tuple[Replies, NDArray[np.int64]]]] = [[] for _ in batches]
        for play in plays:
            for (number, (_, place, _)), reply in zip(play.calls, done[play.shard], strict=True):
                parts[number].append((reply, place))
        return parts

    def _submit(self, play: _ShardPlay, batches: list[Group], shared: list[ray.ObjectRef]) -> None:
        """Starts the tasks of a shard, each with the states after the one before."""
        kept = self._kept[play.shard]
        if play.num_replays and kept is not None:  # they may have been lost with a node
            self._states[play.shard] = ray.put(kept)
        states, play.replies = self._states[play.shard], []
        for number, (_, place, rows) in play.calls:
            batch = replace(batches[number][0], shared={}).select(place)
            reply, states = self._task.remote(
                self._handler_ref, batch, shared[number], states, rows
            )
            play.replies.append(reply)
        play.states = states

    def _replies_of(self, play: _ShardPlay, keeps: bool) -> list[Replies] | None:
        """Takes the replies of a shard whose tasks are done; None if it must be played again.

        Args:
            play: The shard.
            keeps: Whether its states are kept in this node's memory too.

        Raises:
            UserError: If it has been played too often.
        """
        try:
            wanted = [*play.replies, play.states] if keeps else play.replies
            self._wait(wanted, len(wanted))
            got = ray.get(wanted)
        except ray.exceptions.RayError as error:
            reason = fault_in(error)
            if reason is None:
                raise
            self._servers.check(error)
            self._count_replay(play, reason)
            return None
        self._kept[play.shard] = got.pop() if keeps else None
        return got

    def _count_replay(self, play: _ShardPlay, reason: str) -> None:
        """Tells a fault in the log and counts it; ends the run after too many."""
        rows = self.shards.rows[play.shard]
        first, last = self.device_ids[rows[[0, -1]]]
        play.num_replays += 1
        if play.num_replays > MAX_REPLAYS:
            raise UserError(
                f"devices {first} to {last} cannot be played: {play.num_replays} times one after "
                f"the other {reason}; Ray's logs of this session say more"
            )
        log.warning(
            "devices %d to %d are played again from the same states (%d of %d): %s",
            *(first, last, play.num_replays, MAX_REPLAYS, reason),
        )
        self._num_replays[rows] += 1

    def _wait(self, wanted: list[ray.ObjectRef], count: int) -> list[ray.ObjectRef]:
        """Waits until some of these are here, and asks meanwhile whether Ray is still there.

        Args:
            wanted: References.
            count: How many must be here.

        Raises:
            GridLost: If Ray is gone.
        """
        while True:
            ready, _ = ray.wait(wanted, num_returns=count, timeout=LOOK_S)
            if len(ready) >= count:
                return list(ready)
            self._servers.check()

    def _shard_states(self) -> list[States]:
        self._wait(self._states, len(self._states))
        return list(ray.get(self._states))

    def _set_shard_states(self, shards: list[States]) -> None:
        self._states = [ray.put(states) for states in shards]
        self._kept: list[States | None] = [None] * len(shards)

    def close(self) -> None:
        """Lets go of the states, and of Ray if this grid started it."""
        self._states, self._kept = [], []
        if self._started:
            end_ray(is_lost=self._servers.is_lost)
