"""A grid around another: Flower's verbs, handed on once for all that stands between a strategy and its devices."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from cdc_flower.simulations.grids.base import BlockingGrid, without_repeats
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import Group, groups_of, joined


class Through(BlockingGrid):
    """Hands everything on to the grid inside. A subclass says what becomes of messages on the way.

    Args:
        inner: The grid inside.
    """

    def __init__(self, inner: Grid) -> None:
        super().__init__()
        self._inner = inner

    @property
    def inner(self) -> Grid:
        """The grid inside."""
        return self._inner

    def set_run(self, run: Any) -> None:
        """Flower's; the inner grid's."""
        self._inner.set_run(run)

    @property
    def run(self) -> Any:
        """Flower's; the inner grid's."""
        return self._inner.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Flower's; the inner grid's."""
        return self._inner.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """Flower's; the inner grid's."""
        return self._inner.get_node_ids()

    def down(self, batch: MessageBatch) -> list[Group]:
        """Messages as they go on, with their positions ``[k]``; as they are by default."""
        return [(batch, np.arange(len(batch)))]

    def up(self, batch: MessageBatch) -> list[Group]:
        """Replies as they come back, with their positions ``[k]``; as they are by default."""
        return [(batch, np.arange(len(batch)))]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send what becomes of the messages, and give back what becomes of the replies, in the order they came in."""
        groups = without_repeats(groups_of(messages))
        sent: list[Any] = [part for batch, _ in groups for part, _ in self.down(batch) if len(part)]
        if not sent:
            return []
        replies = self._inner.send_and_receive(sent[0] if len(sent) == 1 else sent, timeout=timeout)
        parts = [
            (part, positions[where])
            for batch, positions in groups_of(replies)
            for part, where in self.up(batch)
        ]
        return joined(parts)
