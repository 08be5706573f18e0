"""Grids that play devices: Flower's ``Grid``, for batches of messages.

A strategy starts on them as on Flower's own grid. What they move is a :class:`MessageBatch`; a
strategy that makes single messages, such as Flower's stock ones, has them batched on the way.
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast

import numpy as np
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.saveable import (
    ANY,
    Arrays,
    Saved,
    part_of,
    prefixed,
    restore_fields,
    saved_fields,
    taken,
)
from cdc_flower.core.words import counted
from cdc_flower.devices.state import DeviceStates
from cdc_flower.simulations.grids.message_loop import FIRST_NODE_ID, Contexts, MessageLoop
from cdc_flower.simulations.grids.shards import Shards
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.identity import ensure_identity
from cdc_flower.wire.replies import Group, Replies, groups_of, joined


class States(Protocol):
    """States of some devices, which a handler turns into new ones."""

    def __len__(self) -> int: ...
    def select(self, rows: NDArray[np.int64]) -> Self:
        """Selects the states of some devices."""

    def update(self, rows: NDArray[np.int64], changed: Self) -> Self:
        """Replaces the states of some devices."""

    def joined(self, others: Sequence[Self]) -> Self:
        """Puts the states of more devices after these."""

    def compact(self) -> Self:
        """Drops what no device needs."""

    def to_arrays(self) -> Arrays:
        """Takes the states as arrays."""

    def from_arrays(self, arrays: Saved) -> Self:
        """Makes the states that were saved."""


Held = TypeVar("Held", bound=States)


class Handler(Protocol[Held]):
    """An app that is handed whole batches."""

    def handle(self, batch: MessageBatch, states: Held) -> tuple[Replies, Held]:
        """Plays messages, one a device, and gives replies and the states after them."""


def without_repeats(groups: Iterable[Group]) -> list[Group]:
    """Splits groups in which a node has several messages: its second one comes in a later group."""
    parts: list[Group] = []
    for batch, positions in groups:
        _, first, place = np.unique(batch.node_ids, return_index=True, return_inverse=True)
        if len(first) == len(batch):
            parts += [(batch, positions)] if len(batch) else []
            continue
        order = np.argsort(place, kind="stable")
        turn = np.empty(len(batch), np.int64)
        turn[order] = np.arange(len(batch)) - np.searchsorted(place[order], place[order])
        parts += [
            (batch.select(turn == k), positions[turn == k]) for k in range(int(turn.max()) + 1)
        ]
    return parts


class BlockingGrid(Grid):
    """A grid that plays messages while they are sent, so a pushed message has its reply at once."""

    #: Name of its part of a saved run.
    _saved_as: ClassVar[str] = "grid"

    def __init__(self) -> None:
        self._pushed: dict[str, Message] = {}
        self._num_named = 0

    def to_arrays(self) -> Arrays:
        """Takes what has changed in this grid, and not in one that is inside it.

        Raises:
            RuntimeError: If replies to pushed messages have not been pulled.
        """
        if self._pushed:
            raise RuntimeError(
                f"pushed messages must be pulled before a run is saved, got {len(self._pushed)} "
                "that are not"
            )
        return saved_fields(self, ("_num_named",))

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on as the grid that was saved."""
        self._pushed = {}
        restore_fields(self, ("_num_named",), arrays)

    def _new_ids(self, count: int) -> list[str]:
        """Makes ids for messages that have none: numbers, which cost less than Flower's hashes."""
        start = self._num_named
        self._num_named += count
        return [f"message-{start + k}" for k in range(count)]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Plays the messages now; :meth:`pull_messages` gives the replies."""
        groups = groups_of(messages)
        ids = self._new_ids(sum(len(batch) for batch, _ in groups))
        named = [replace(batch, message_ids=[ids[k] for k in where]) for batch, where in groups]
        for reply in self.send_and_receive(cast(Iterable[Message], named)):
            self._pushed[reply.metadata.reply_to_message_id] = reply
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Gives the replies to pushed messages, each once."""
        return [self._pushed.pop(name) for name in message_ids if name in self._pushed]


class BatchedGrid(BlockingGrid):
    """Numbers nodes, groups single messages, and gives a subclass the batches to play.

    Args:
        app: A :class:`~cdc_flower.devices.app.DeviceApp` (or another app with ``handle``), which is
            handed whole batches, or any ``ClientApp``, which is looped over.
        device_ids: ``[n]``, ascending. Their node ids are these plus 2.
        shard_devices: How many devices are played together; None: one shard a worker.
        num_workers: That play shards.

    Raises:
        ValueError: If there is no device or their ids do not ascend, or ``shard_devices < 1``.
    """

    _saved_as = "devices"

    def __init__(
        self,
        app: ClientApp,
        device_ids: Sequence[int] | NDArray[np.int64],
        *,
        shard_devices: int | None = None,
        num_workers: int = 1,
    ) -> None:
        super().__init__()
        ensure_identity()
        self.device_ids = np.asarray(device_ids, np.int64)
        if not len(self.device_ids) or (np.diff(self.device_ids) <= 0).any():
            raise ValueError(f"device_ids must be at least one and ascend, got {self.device_ids}")
        batched = hasattr(app, "handle")
        self.handler: Handler = cast(Handler, app) if batched else MessageLoop(app)
        self._run: Any = None
        self.shards = Shards(len(self.device_ids), shard_devices, num_workers)
        self._num_replays = np.zeros(len(self.device_ids), np.int64)

    def fresh_states(self, device_ids: NDArray[np.int64]) -> States:
        """Makes the states before anything was deployed."""
        if isinstance(self.handler, MessageLoop):
            return Contexts.fresh(device_ids, len(self.device_ids))
        return DeviceStates(device_ids)

    @abstractmethod
    def _shard_states(self) -> list[States]:
        """The states of each shard of the devices, in their order."""

    @abstractmethod
    def _set_shard_states(self, shards: list[States]) -> None:
        """Replace the states of each shard."""

    def to_arrays(self) -> Arrays:
        """Takes the states of all devices, as they are held."""
        parts = [
            prefixed(f"shard.{number}", states.to_arrays())
            for number, states in enumerate(self._shard_states())
        ]
        states = {name: value for part in parts for name, value in part.items()}
        return {**super().to_arrays(), "shard_sizes": self.shards.sizes, **states}

    def from_arrays(self, arrays: Saved) -> None:
        """Lets the devices go on from saved states, whatever their shards were.

        Raises:
            UserError: If they are of other devices.
        """
        super().from_arrays(arrays)
        sizes = taken(arrays, "shard_sizes", np.int64, (ANY,))
        if sizes.sum() != len(self.device_ids):
            devices = counted(len(self.device_ids), "device")
            raise UserError(f"a saved run must be of {devices}, got {sizes.sum()}")
        states = [
            self.fresh_states(device_ids).from_arrays(part_of(arrays, f"shard.{number}"))
            for number, device_ids in enumerate(np.split(self.device_ids, np.cumsum(sizes)[:-1]))
        ]
        if not np.array_equal(sizes, self.shards.sizes):
            whole = states[0].joined(states[1:])
            states = [whole.select(rows).compact() for rows in self.shards.rows]
        self._set_shard_states(states)

    def take_replays(self) -> NDArray[np.int64]:
        """Counts how often each device ``[n]`` was played again, since this was last asked."""
        counted = self._num_replays
        self._num_replays = np.zeros_like(counted)
        return counted

    @abstractmethod
    def _exchange(self, batches: list[Group]) -> list[Replies]:
        """Plays batches, each with the rows of its devices; states change when all are done."""

    def set_run(self, run: Any) -> None:
        """Flower's: remembered and not used."""
        self._run = run

    @property
    def run(self) -> Any:
        """Flower's: what :meth:`set_run` was given."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Flower's: a message to a node.

        Args:
            content: Records.
            message_type: Such as ``train``.
            dst_node_id: The node.
            group_id: Flower's.
            ttl: Flower's; nothing here waits.
        """
        return Message(
            content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id, ttl=ttl
        )

    def get_node_ids(self) -> list[int]:
        """Lists node ids in the order of the devices."""
        return [int(node_id) for node_id in self.device_ids + FIRST_NODE_ID]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Plays messages, and gives the replies in their order: one batch where they are alike.

        A node that gets several messages answers one after the other.

        Args:
            messages: A :class:`MessageBatch`, several, or any messages.
            timeout: Flower's; nothing here waits.

        Raises:
            ValueError: If a message is for a node that the grid does not have.
        """
        groups = without_repeats(groups_of(messages))
        if isinstance(self.handler, MessageLoop):  # an app reads the id of what it replies to
            groups = [(self._named(batch), positions) for batch, positions in groups]
        replies = self._exchange([(batch, self.rows(batch.node_ids)) for batch, _ in groups])
        return joined(
            [(reply, positions) for reply, (_, positions) in zip(replies, groups, strict=True)]
        )

    def _named(self, batch: MessageBatch) -> MessageBatch:
        """Gives ids to messages that have none."""
        if batch.message_ids is not None:
            return batch
        return replace(batch, message_ids=self._new_ids(len(batch)))

    def rows(self, node_ids: NDArray[np.integer]) -> NDArray[np.int64]:
        """Finds the rows of these nodes among the grid's devices."""
        wanted = np.asarray(node_ids).astype(np.int64) - FIRST_NODE_ID
        rows = np.searchsorted(self.device_ids, wanted)
        known = (rows < len(self.device_ids)) & (
            self.device_ids[np.minimum(rows, len(self.device_ids) - 1)] == wanted
        )
        if not known.all():
            raise ValueError(
                "dst_node_id must be one of the grid's nodes, "
                f"got {np.asarray(node_ids)[~known][0]}"
            )
        return rows


def play_rows(
    handler: Handler[Held], batch: MessageBatch, states: Held, rows: NDArray[np.int64]
) -> tuple[Replies, Held]:
    """Hands messages to the devices of these rows. A pure function, which workers run as it is.

    Args:
        handler: Of the app.
        batch: One message for each of ``rows``, in their order, which may be any.
        states: Of all devices.
        rows: ``[k]``, without repeats.

    Returns:
        Replies ``[k]``, and the states of all devices after them.
    """
    whole = len(rows) == len(states) and bool((rows == np.arange(len(rows))).all())
    before = states if whole else states.select(rows)
    replies, after = handler.handle(batch, before)
    if after is before:
        return replies, states
    return replies, after if whole else states.update(rows, after)
