"""Flower's own grid as a strategy sees it: every reply belongs to a node that was asked."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import Error, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.serverapp import Grid

from cdc_flower.simulations.fleet import Fleet
from cdc_flower.simulations.grids.flower import FlowerGrid
from cdc_flower.simulations.grids.links import LinkGrid
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.identity import CLOUD_NODE_ID, NAMED_OTHER, ensure_identity

#: Flower's code for a node that sends no heartbeats.
NODE_UNAVAILABLE = 8


class TwicePushed(Grid):
    """Does with messages what Flower's grid does: goes over them for their ids, and again to send
    them.
    """

    def __init__(
        self, answer: Callable[[Message], Message], nodes: tuple[int, ...] = (7, 8, 9)
    ) -> None:
        self.answer, self.nodes, self.sent = answer, nodes, []

    def get_node_ids(self) -> Iterable[int]:
        return list(self.nodes)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        for message in messages:
            message.metadata.__dict__["_message_id"] = message.object_id
        self.sent = list(messages)
        if any(not message.metadata.message_id for message in self.sent):
            raise RuntimeError("Malformed PushMessages: empty `metadata.message_id`")
        return [self.answer(message) for message in self.sent]

    def set_run(self, run: Any) -> None: ...
    def run(self) -> Any: ...  # type: ignore[override]
    def create_message(self, *args: Any, **kwargs: Any) -> Any: ...
    def push_messages(self, messages: Any) -> Any: ...
    def pull_messages(self, message_ids: Any) -> Any: ...


def echo(message: Message) -> Message:
    return Message(RecordDict(), reply_to=message)


def unavailable(message: Message, reply_to: str | None = None) -> Message:
    """The error that a SuperLink makes for a node that is gone: from the cloud, of Flower's own
    type.
    """
    metadata = Metadata(
        run_id=1,
        message_id="made-by-the-superlink",
        src_node_id=CLOUD_NODE_ID,
        dst_node_id=CLOUD_NODE_ID,
        reply_to_message_id=message.metadata.message_id if reply_to is None else reply_to,
        group_id="",
        created_at=message.metadata.created_at,
        ttl=0.0,
        message_type="system",
    )
    return make_message(metadata, error=Error(NODE_UNAVAILABLE, "no heartbeat"))


def batch(*nodes: int) -> MessageBatch:
    ensure_identity()
    weights = np.arange(2.0 * len(nodes)).reshape(len(nodes), 2)
    return MessageBatch(
        "train", np.array(nodes), arrays={"parameters": {"w": weights}}, group_id="3"
    )


def test_a_batch_can_be_sent_by_a_grid_that_goes_over_it_twice() -> None:
    inner = TwicePushed(echo)
    replies = list(inner.send_and_receive(batch(7, 8)))
    assert [reply.metadata.src_node_id for reply in replies] == [7, 8]
    assert [reply.metadata.reply_to_message_id for reply in replies] == [
        message.object_id for message in inner.sent
    ]


def test_an_error_that_flower_answers_with_is_given_under_the_node_that_was_asked() -> None:
    inner = TwicePushed(
        lambda message: (unavailable if message.metadata.dst_node_id == 8 else echo)(message)
    )
    groups = MessageBatch.group(FlowerGrid(inner).send_and_receive(batch(7, 8, 9)))
    assert [(group.message_type, group.group_id) for group, _ in groups] == [("train", "3")]
    replies = groups[0][0]
    assert replies.node_ids.tolist() == [7, 8, 9]
    assert replies.errors == {1: (NODE_UNAVAILABLE, "no heartbeat")}
    assert replies.reply_to == [message.object_id for message in inner.sent]


@pytest.mark.parametrize("reply_to", ["", "of-another-time"])
def test_an_answer_to_something_that_was_not_asked_is_dropped(reply_to: str) -> None:
    inner = TwicePushed(
        lambda message: (
            unavailable(message, reply_to) if message.metadata.dst_node_id == 7 else echo(message)
        )
    )
    replies = FlowerGrid(inner).send_and_receive(batch(7, 8))
    assert [reply.metadata.src_node_id for reply in replies] == [8]


def test_the_nodes_are_those_of_the_beginning_that_are_still_there() -> None:
    inner = TwicePushed(echo)
    grid = FlowerGrid(inner)
    inner.nodes = (11, 9, 7)
    assert grid.get_node_ids() == [7, 9]


def test_several_batches_and_single_messages_are_sent_as_messages() -> None:
    inner = TwicePushed(echo)
    replies = FlowerGrid(inner).send_and_receive([batch(7), *batch(8, 9)])  # type: ignore[list-item]
    assert [reply.metadata.src_node_id for reply in replies] == [7, 8, 9]
    assert FlowerGrid(inner).send_and_receive([]) == []


def test_links_take_flowers_own_grid_as_it_is() -> None:
    inner = TwicePushed(
        lambda message: (unavailable if message.metadata.dst_node_id == 8 else echo)(message)
    )
    rates = np.full(3, 8e3)
    grid = LinkGrid(inner, Fleet(rates, rates, np.zeros(3), np.ones(3), 1.0))
    ((replies, _),) = MessageBatch.group(grid.send_and_receive(batch(7, 8, 9)))
    assert replies.node_ids.tolist() == [7, 8, 9]
    assert list(replies.errors) == [1]
    assert (grid.rounds[0].usage.bytes_down > 0).all()
    inner.nodes = (7, 9, 11)
    assert grid.get_node_ids() == [7, 8, 9]  # those of the fleet


def test_an_answer_in_the_name_of_another_node_is_an_error_of_the_one_that_was_asked() -> None:
    def impostor(message: Message) -> Message:
        reply = echo(message)
        if message.metadata.dst_node_id == 8:
            reply.metadata.__dict__["_src_node_id"] = 9
        return reply

    replies = FlowerGrid(TwicePushed(impostor)).send_and_receive([*MessageBatch("train", [7, 8])])
    assert [reply.metadata.src_node_id for reply in replies] == [7, 8]
    assert not replies[0].has_error()
    assert replies[1].error.code == NAMED_OTHER and "node 9" in str(replies[1].error.reason)
