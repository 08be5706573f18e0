"""Grids that play devices: Flower's ``Grid``, for batches of messages.

A strategy starts on them as on Flower's own grid. What they move is a :class:`MessageBatch`; a strategy that
makes single messages, such as Flower's stock ones, has them batched on the way.
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from numpy.typing import NDArray

from cdc_flower.batch import MessageBatch
from cdc_flower.device import DeviceApp
from cdc_flower.identity import ensure_identity
from cdc_flower.state import DeviceStates

#: Flower keeps node ids 0 and 1 for itself.
FIRST_NODE_ID = 2


class States(Protocol):
    """States of some devices, which a handler turns into new ones."""

    def __len__(self) -> int: ...
    def select(self, rows: NDArray[np.int64]) -> Any: ...
    def update(self, rows: NDArray[np.int64], changed: Any) -> Any: ...


class MessageLoop:
    """Any ``ClientApp`` as a handler of batches: one message after the other, each with its own context."""

    def __init__(self, app: ClientApp) -> None:
        self.app = app

    def handle(self, batch: MessageBatch, states: "Contexts") -> tuple[MessageBatch, "Contexts"]:
        """Replies and contexts; a message that raises gets Flower's error reply."""
        ensure_identity()
        replies = []
        for message, context in zip(batch, states.contexts, strict=True):
            try:
                replies.append(self.app(message, context))
            except Exception as error:  # a device's failure is the strategy's to see, as in Flower
                replies.append(Message(Error(code=0, reason=f"{type(error).__name__}: {error}"), reply_to=message))
        return MessageBatch.from_messages(replies), states


class Contexts:
    """Flower contexts of devices."""

    def __init__(self, contexts: list[Context]) -> None:
        self.contexts = contexts

    @staticmethod
    def fresh(device_ids: NDArray[np.int64], num_devices: int) -> "Contexts":
        """Empty contexts with the ``partition-id`` and ``num-partitions`` of Flower's simulation."""
        return Contexts(
            [
                Context(
                    run_id=1,
                    node_id=int(device) + FIRST_NODE_ID,
                    node_config={"partition-id": int(device), "num-partitions": num_devices},
                    state=RecordDict(),
                    run_config={},
                )
                for device in device_ids
            ]
        )

    def __len__(self) -> int:
        return len(self.contexts)

    def select(self, rows: NDArray[np.int64]) -> "Contexts":
        """The contexts of some devices."""
        return Contexts([self.contexts[row] for row in rows])

    def update(self, rows: NDArray[np.int64], changed: "Contexts") -> "Contexts":
        """These contexts with some replaced."""
        contexts = list(self.contexts)
        for row, context in zip(rows, changed.contexts, strict=True):
            contexts[row] = context
        return Contexts(contexts)


class BatchedGrid(Grid):
    """What the grids share: node ids, Flower's verbs, and grouping of single messages.

    Args:
        app: A :class:`DeviceApp`, which is handed whole batches, or any ``ClientApp``, which is looped over.
        device_ids: ``[n]``, ascending. Their node ids are these plus 2.

    Raises:
        ValueError: If there is no device or their ids do not ascend.
    """

    def __init__(self, app: ClientApp, device_ids: Sequence[int] | NDArray[np.int64]) -> None:
        ensure_identity()
        self.device_ids = np.asarray(device_ids, np.int64)
        if not len(self.device_ids) or (np.diff(self.device_ids) <= 0).any():
            raise ValueError(f"device_ids must be at least one and ascend, got {self.device_ids}")
        self.handler: Any = app if isinstance(app, DeviceApp) or hasattr(app, "handle") else MessageLoop(app)
        self._run: Any = None
        self._replies: dict[str, Message] = {}
        self._num_pushed = 0

    def fresh_states(self, device_ids: NDArray[np.int64]) -> Any:
        """States before anything was deployed."""
        if isinstance(self.handler, MessageLoop):
            return Contexts.fresh(device_ids, len(self.device_ids))
        return DeviceStates(device_ids)

    @abstractmethod
    def _exchange(self, batches: list[tuple[MessageBatch, NDArray[np.int64]]]) -> list[MessageBatch]:
        """Play batches, each with the rows of its devices, and commit the states when all are done."""

    def set_run(self, run: Any) -> None:
        """Flower's: remembered and not used."""
        self._run = run

    @property
    def run(self) -> Any:
        """Flower's: what :meth:`set_run` was given."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Flower's: a message to a node."""
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> list[int]:
        """Node ids in the order of the devices."""
        return [int(node_id) for node_id in self.device_ids + FIRST_NODE_ID]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Play the messages now; :meth:`pull_messages` gives the replies."""
        ids = []
        for message in messages:
            ids.append(f"m{self._num_pushed}")
            self._num_pushed += 1
            self._replies[ids[-1]] = next(iter(self.send_and_receive([message])))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Replies to pushed messages; each is given once."""
        return [self._replies.pop(name) for name in message_ids if name in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Replies in the order of the messages: one :class:`MessageBatch` where they are alike.

        Args:
            messages: A :class:`MessageBatch`, several, or any messages.
            timeout: Flower's; nothing here waits.

        Raises:
            ValueError: If a message is for a node that the grid does not have.
        """
        groups = MessageBatch.group(messages)
        if not groups:
            return []
        replies = self._exchange([(batch, self.rows(batch.node_ids)) for batch, _ in groups])
        return in_order(replies, [positions for _, positions in groups])

    def rows(self, node_ids: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Rows of these nodes among the grid's devices."""
        wanted = np.asarray(node_ids).astype(np.int64) - FIRST_NODE_ID
        rows = np.searchsorted(self.device_ids, wanted)
        known = (rows < len(self.device_ids)) & (self.device_ids[np.minimum(rows, len(self.device_ids) - 1)] == wanted)
        if not known.all():
            raise ValueError(f"dst_node_id must be one of the grid's nodes, got {np.asarray(node_ids)[~known][0]}")
        return rows


def in_order(replies: list[MessageBatch], positions: list[NDArray[np.int64]]) -> Iterable[Message]:
    """Batches of replies in the order of the messages: one batch if they are alike, else single messages."""
    order = np.argsort(np.concatenate(positions), kind="stable")
    try:
        return MessageBatch.concat(replies).select(order)
    except ValueError:
        flat = [message for batch in replies for message in batch]
        return [flat[k] for k in order]


class InlineGrid(BatchedGrid):
    """All devices in this process: the readable twin of ``RayGrid``."""

    def __init__(self, app: ClientApp, device_ids: Sequence[int] | NDArray[np.int64]) -> None:
        super().__init__(app, device_ids)
        self.states: States = self.fresh_states(self.device_ids)

    def _exchange(self, batches: list[tuple[MessageBatch, NDArray[np.int64]]]) -> list[MessageBatch]:
        states, replies = self.states, []
        for batch, rows in batches:
            before = (
                states if len(rows) == len(states) and (rows == np.arange(len(rows))).all() else states.select(rows)
            )
            reply, after = self.handler.handle(batch, before)
            replies.append(reply)
            if after is not before:
                states = after if before is states else states.update(rows, after)
        self.states = states
        return replies
