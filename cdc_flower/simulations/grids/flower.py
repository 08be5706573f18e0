"""Flower's own grid for strategies that think in nodes: a reply belongs to a node that was asked.

For a node that is gone, and for a message that came too late, Flower answers itself, and signs with
the cloud's node id; only the id of the message says whom it was for.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid
from numpy.typing import NDArray

from cdc_flower.simulations.grids.base import BlockingGrid
from cdc_flower.simulations.grids.through import Forwarding
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.identity import answer_from, given_id


class FlowerGrid(Forwarding):
    """Hands messages to Flower's grid, for a fixed set of nodes.

    A message is made once, although Flower goes over them twice. An error that Flower answers with
    is given under the node that was asked, and an answer to anything that was not asked here is
    dropped. A node that joins later is not asked, as the streams and links of a run are those of
    its first nodes.

    Args:
        inner: Of a ``ServerApp``.
        node_ids: Of the run; those that are connected now by default.
    """

    def __init__(
        self, inner: Grid, node_ids: Sequence[int] | NDArray[np.uint64] | None = None
    ) -> None:
        super().__init__(inner)
        chosen = inner.get_node_ids() if node_ids is None else node_ids
        self.node_ids = [int(node_id) for node_id in chosen]

    def get_node_ids(self) -> list[int]:
        """Lists the nodes of the run that are connected now."""
        connected = set(self._inner.get_node_ids())
        return [node_id for node_id in self.node_ids if node_id in connected]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Flower's; the inner grid's, which does not wait for replies."""
        return self._inner.push_messages(_single(messages))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Flower's; the inner grid's."""
        return self._inner.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Gives the replies of the nodes in any order; a node that Flower does not know has none.

        Args:
            messages: Any messages, or batches of them.
            timeout: For how long to wait, in seconds; None waits for all.
        """
        sent = _single(messages)
        if not sent:
            return []
        replies = list(self._inner.send_and_receive(sent, timeout=timeout))
        asked = {given_id(message): message for message in sent}
        answered = [(asked.get(reply.metadata.reply_to_message_id), reply) for reply in replies]
        return [answer_from(message, reply) for message, reply in answered if message is not None]


def with_nodes(grid: Grid, node_ids: Sequence[int] | NDArray[np.uint64] | None = None) -> Grid:
    """Wraps Flower's own grid; one of ours is given back as it is.

    Args:
        grid: Any.
        node_ids: Of the run, for Flower's grid; those that are connected now by default.
    """
    is_ours = isinstance(grid, BlockingGrid | FlowerGrid)
    return grid if is_ours else FlowerGrid(grid, node_ids)


def _single(messages: Iterable[Message | MessageBatch]) -> list[Message]:
    """Makes each message of a batch, once."""
    return [
        message
        for item in messages
        for message in (item if isinstance(item, MessageBatch) else [item])
    ]
