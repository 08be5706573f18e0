"""What we rely on inside Flower; a failure here means that Flower has moved it."""

from collections.abc import Iterator

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from cdc_flower.wire.identity import (
    CLOUD_NODE_ID,
    Envelope,
    Identity,
    current_identity,
    ensure_identity,
    make_flower_message,
)


@pytest.fixture(autouse=True)
def fresh_identity() -> Iterator[None]:
    """A process that Flower has not touched, and the old state afterwards."""
    names = ("_run_id", "_node_id", "_task_id")
    before = [getattr(TaskIdentity, name) for name in names]
    for name in names:
        setattr(TaskIdentity, name, None)
    yield
    for name, value in zip(names, before, strict=True):
        setattr(TaskIdentity, name, value)


def test_flower_refuses_a_message_until_the_identity_is_set() -> None:
    with pytest.raises(RuntimeError, match="is not set"):
        Message(RecordDict(), 7, "train")
    ensure_identity(run_id=5, node_id=6, task_id=8)
    metadata = Message(RecordDict(), 7, "train").metadata
    assert (metadata.run_id, metadata.src_node_id, metadata.src_task_id, metadata.dst_node_id) == (
        5,
        6,
        8,
        7,
    )


def test_an_identity_that_flower_has_set_stays() -> None:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 11, 12, 0
    ensure_identity()
    assert current_identity() == Identity(11, 12, 0)


def test_asking_for_the_identity_sets_nothing() -> None:
    assert current_identity() == Identity(run_id=1, node_id=CLOUD_NODE_ID, task_id=1)
    with pytest.raises(RuntimeError):
        _ = TaskIdentity.run_id


def test_the_cloud_has_node_id_1() -> None:
    assert CLOUD_NODE_ID == 1


@pytest.mark.parametrize("is_reply", [False, True])
def test_our_message_has_the_metadata_that_flower_would_give_it(is_reply: bool) -> None:
    ensure_identity()
    content = RecordDict({"config": ConfigRecord({"lr": 0.5})})
    expected = Message(content, 7, "train", ttl=60.0, group_id="g")
    expected.metadata.__dict__["_message_id"] = "abc"
    if is_reply:
        expected = Message(content, reply_to=expected, ttl=50.0)
    envelope = Envelope(
        cloud=current_identity(),
        node_id=7,
        message_type="train",
        is_reply=is_reply,
        message_id="" if is_reply else "abc",
        reply_to="abc" if is_reply else "",
        group_id="g",
        ttl_s=50.0 if is_reply else 60.0,
        created_at_s=expected.metadata.created_at,
    )
    ours = make_flower_message(envelope, content)
    assert ours.metadata == expected.metadata
    assert ours.content == content


def test_an_error_has_no_content() -> None:
    envelope = Envelope(Identity(), node_id=7, message_type="train", is_reply=True, ttl_s=1.0)
    message = make_flower_message(envelope, None, error=(3, "broken"))
    assert not message.has_content()
    assert (message.error.code, message.error.reason) == (3, "broken")
