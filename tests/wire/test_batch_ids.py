"""Messages of a batch are whole: each has the id that Flower's grid gives it.

It is computed only when it is asked for.
"""

import copy
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import Message as InflatableMessage
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.server.utils.validator import validate_message

from cdc_flower.devices.app import DeviceApp
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.identity import Identity, ensure_identity, given_id


@pytest.fixture(autouse=True)
def _identity() -> None:
    ensure_identity()


def batch(**changes: Any) -> MessageBatch:
    """Instructions to devices 10 to 12 that no grid has named, with one record of each kind."""
    parts: dict[str, Any] = {
        "node_ids": np.arange(10, 13),
        "arrays": {"parameters": {"w": np.arange(6, dtype=np.float32).reshape(3, 2)}},
        "shared": {"parameters": {"b": np.array([7, 8], dtype=np.int32)}},
        "metrics": {"metrics": {"num-examples": np.arange(3)}},
        "configs": {"config": {"lr": 0.1, "segment": np.arange(3)}},
    }
    return MessageBatch("train", **{**parts, **changes})


def replies(**changes: Any) -> MessageBatch:
    """Their replies: two with content and one with an error."""
    asked = batch(message_ids=["a", "b", "c"])
    return replace(
        asked.reply(metrics={"metrics": {"loss": np.ones(3)}}, errors={1: (2, "disk full")}),
        **changes,
    )


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """The messages that were hashed so far."""
    seen: list[Message] = []
    deflate = InflatableMessage.deflate
    monkeypatch.setattr(
        InflatableMessage, "deflate", lambda self: (seen.append(self), deflate(self))[1]
    )
    return seen


@pytest.mark.parametrize("messages", [batch(), replies()], ids=["instructions", "replies"])
def test_each_message_has_the_id_that_flower_computes(messages: MessageBatch) -> None:
    for message in messages:
        message_id = message.metadata.message_id
        message.metadata.__dict__["_message_id"] = (
            "given"  # whatever a grid has given is no part of the hash
        )
        assert message_id == message.object_id != ""


@pytest.mark.parametrize("messages", [batch(), replies()], ids=["instructions", "replies"])
def test_ids_are_the_same_whenever_they_are_asked_for_and_differ_between_messages(
    messages: MessageBatch,
) -> None:
    ids = [message.metadata.message_id for message in messages]
    assert len(set(ids)) == len(messages)
    assert [message.metadata.message_id for message in messages] == ids
    assert messages[2].metadata.message_id == ids[2]
    assert (
        next(iter(messages)).metadata.message_id == ids[0]
    )  # the message is gone, its metadata are not


@pytest.mark.parametrize("messages", [batch(), replies()], ids=["instructions", "replies"])
def test_a_superlink_takes_each_message_also_after_protobuf(messages: MessageBatch) -> None:
    for message in messages:
        came = message_from_proto(message_to_proto(message))
        assert came.metadata.message_id == message.metadata.message_id
        assert came.object_id == message.object_id
        assert validate_message(came, is_reply_message=messages.is_reply) == []


def test_the_id_is_that_of_flowers_own_message_with_the_same_content() -> None:
    ours = batch(cloud=Identity(1, 1, 1))[0]
    flowers = Message(ours.content, 10, "train")
    flowers.metadata.created_at = ours.metadata.created_at
    assert ours.metadata.message_id == flowers.object_id
    ours.metadata.group_id = flowers.metadata.group_id = "4"
    assert ours.metadata == flowers.metadata and flowers.metadata == ours.metadata


def test_a_reply_names_the_id_of_its_instruction() -> None:
    instruction = batch()[1]
    answer = Message(RecordDict({"config": ConfigRecord({"x": 1})}), reply_to=instruction)
    assert answer.metadata.reply_to_message_id == instruction.object_id
    assert [reply.metadata.reply_to_message_id for reply in replies()] == ["a", "b", "c"]


def test_a_copy_of_a_message_has_its_id() -> None:
    message = batch()[1]
    for other in (copy.deepcopy(message), pickle.loads(pickle.dumps(message))):
        assert other.metadata.message_id == message.metadata.message_id


def test_an_id_that_a_grid_has_given_stays() -> None:
    assert [message.metadata.message_id for message in batch(message_ids=["x", "y", "z"])] == [
        "x",
        "y",
        "z",
    ]
    message = batch()[0]
    message.metadata.__dict__["_message_id"] = "given"  # as Flower's grids do
    assert message.metadata.message_id == given_id(message) == "given"


def test_nothing_is_hashed_until_an_id_is_asked_for(hashed: list[Message]) -> None:
    messages = list(batch())
    assert MessageBatch.from_messages(messages) == batch(
        created_at_s=messages[0].metadata.created_at
    )
    assert hashed == []
    _ = messages[0].metadata.message_id, messages[0].metadata.message_id
    assert len(hashed) == 1


def test_a_message_whose_id_was_asked_for_still_has_none_from_a_grid() -> None:
    messages = list(batch())
    assert all(message.metadata.message_id for message in messages)
    assert MessageBatch.from_messages(messages).message_ids is None


def test_the_inline_grid_hashes_nothing_and_names_what_an_app_replies_to(
    hashed: list[Message],
) -> None:
    app, names = ClientApp(), []

    @app.train()
    def train(message: Message, _: Any) -> Message:
        names.append(message.metadata.message_id)
        return Message(RecordDict({"config": ConfigRecord({"x": 1})}), reply_to=message)

    grid = InlineGrid(app, [8, 9, 10])
    answers = [*grid.send_and_receive(batch()), *grid.send_and_receive(list(batch()))]
    assert hashed == []
    assert len(set(names)) == 6
    assert [reply.metadata.reply_to_message_id for reply in answers] == names


def test_a_device_app_on_a_batch_hashes_nothing(hashed: list[Message]) -> None:
    asked: list[MessageBatch] = []

    class Silent(DeviceApp):
        def __init__(self) -> None:
            ClientApp.__init__(self)

        def handle(self, batch: MessageBatch, states: Any) -> Any:
            asked.append(batch)
            return batch.reply(), states

    list(InlineGrid(Silent(), [8, 9, 10]).send_and_receive(list(batch())))
    assert hashed == []
    assert asked[0].message_ids is None
