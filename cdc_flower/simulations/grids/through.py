"""A grid around another: Flower's verbs are handed on, once for all that stand in between."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from cdc_flower.simulations.grids.base import BlockingGrid, without_repeats
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import Group, groups_of, joined


class Forwarding(Grid):
    """Hands on Flower's small verbs to the grid inside.

    Args:
        inner: The grid inside.
    """

    def __init__(self, inner: Grid) -> None:
        self._inner = inner

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
        """Flower's; the inner grid's.

        Args:
            content: Records.
            message_type: Such as ``train``.
            dst_node_id: The node.
            group_id: Flower's.
            ttl: Flower's time to live, in seconds.
        """
        return self._inner.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """Flower's; the inner grid's."""
        return self._inner.get_node_ids()


class Through(Forwarding, BlockingGrid):
    """Hands everything on to the grid inside. A subclass says what becomes of messages on the way.

    A chain link is one, or a pair of them; see :mod:`cdc_flower.simulations.chain`.

    Args:
        inner: The grid inside.
    """

    def __init__(self, inner: Grid) -> None:
        BlockingGrid.__init__(self)
        Forwarding.__init__(self, inner)

    def down(self, batch: MessageBatch) -> list[MessageBatch]:
        """Makes the messages that go on, which are sent together; these by default."""
        return [batch]

    def up(self, batch: MessageBatch) -> list[Group]:
        """Makes the replies that go back, with their places in the batch; these by default."""
        return [(batch, np.arange(len(batch)))]

    def all_up(self, groups: Sequence[Group]) -> list[Group]:
        """Makes what goes back of all replies of an exchange, each batch by itself by default."""
        return [
            (part, positions[where])
            for batch, positions in groups
            for part, where in self.up(batch)
        ]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Sends what becomes of messages, and gives what becomes of the replies, in their order."""
        groups = without_repeats(groups_of(messages))
        sent = [part for batch, _ in groups for part in self.down(batch) if len(part)]
        if not sent:
            return []
        replies = self._inner.send_and_receive(all_of(sent), timeout=timeout)
        return joined(self.all_up(groups_of(replies)))


def all_of(batches: Sequence[MessageBatch]) -> Iterable[Message]:
    """Gives batches as a grid is given messages: one as it is."""
    return batches[0] if len(batches) == 1 else cast(Iterable[Message], batches)


def grids_inside(grid: Grid) -> Iterator[Grid]:
    """Goes from a grid to the one inside it, up to the one that has the devices.

    A strategy is given the outermost one, so no grid has a public attribute that leads inside.
    """
    inside: Grid | None = grid
    while inside is not None:
        yield inside
        inside = getattr(inside, "_inner", None)


def saved_name(grid: Grid) -> str:
    """Names the part of a saved run that holds the state of a grid."""
    return str(getattr(grid, "_saved_as", type(grid).__name__))
