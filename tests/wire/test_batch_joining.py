"""Batches are joined, sorted by schema, and put back where their messages came from."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from batch_cases import small
from flwr.app import Error, Message

from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.identity import ensure_identity


@pytest.fixture(autouse=True, scope="module")
def _identity() -> None:
    ensure_identity()


def test_select_takes_a_mask_and_keeps_shared_arrays_as_they_are() -> None:
    batch = small(4)
    picked = batch.select(np.array([True, False, True, False]))
    assert picked.node_ids.tolist() == [10, 12]
    assert picked.message_ids == ["m0", "m2"]
    assert picked.configs["config"]["segment"].tolist() == [0, 2]
    assert picked.shared["parameters"]["b"] is batch.shared["parameters"]["b"]
    assert np.shares_memory(batch[1:3].arrays["parameters"]["w"], batch.arrays["parameters"]["w"])
    assert len(batch.select([])) == 0
    assert list(batch.select([])) == []
    with pytest.raises(ValueError, match="a mask must have 4 rows, got 2"):
        batch.select(np.array([True, False]))


def test_concat_keeps_what_is_equal_shared_and_refuses_what_is_not() -> None:
    one, two = small(2), small(3, shared={"parameters": {"b": np.array([7, 8], dtype=np.int32)}})
    joined = MessageBatch.concat([one, two])
    assert joined.shared["parameters"]["b"] is one.shared["parameters"]["b"]
    assert joined.message_ids == ["m0", "m1", "m0", "m1", "m2"]
    assert joined.configs["config"]["lr"] == 0.1
    with pytest.raises(ValueError, match="a shared array must be equal in all batches"):
        MessageBatch.concat(
            [one, small(3, shared={"parameters": {"b": np.array([7, 9], dtype=np.int32)}})]
        )
    with pytest.raises(ValueError, match="batches must not be empty"):
        MessageBatch.concat([])


def test_concat_meets_shared_and_per_device_arrays_as_per_device() -> None:
    mixed = small(
        2,
        arrays={"parameters": {k: np.ones((2, 2), "i4") for k in "b"}},
        shared={"parameters": {"w": [0, 1]}},
    )
    mixed = replace(mixed, shared={"parameters": {"w": np.array([0, 1], dtype=np.float32)}})
    joined = MessageBatch.concat([small(1), mixed])
    assert joined.shared == {}
    assert joined.array("parameters", "b").tolist() == [[7, 8], [1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (
            {"configs": {"config": {"lr": 0.1, "name": "y", "segment": np.arange(3)}}},
            r"configs\['config'\]\['name'\]",
        ),
        (
            {"configs": {"config": {"lr": 1, "name": "x", "segment": np.arange(3)}}},
            r"configs\['config'\]\['lr'\]",
        ),
        (
            {"metrics": {"metrics": {"num-examples": np.arange(3)}}},
            r"metrics\['metrics'\] must be alike",
        ),
        (
            {"arrays": {"parameters": {"w": np.zeros((3, 2))}}},
            r"arrays\['parameters'\]\['w'\] must be alike",
        ),
        ({"arrays": {}}, r"arrays\['parameters'\] must be alike"),
        ({"is_reply": True}, "one is_reply, got False and True"),
        ({"group_id": "2"}, "one group_id, got '' and '2'"),
    ],
)
def test_concat_refuses_another_schema(change: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        MessageBatch.concat([small(2), small(3, **change)])


def test_numbers_of_a_config_may_differ_between_batches() -> None:
    other = {"config": {"lr": 0.2, "name": "x", "segment": np.arange(1)}}
    assert MessageBatch.concat([small(2), small(1, configs=other)]).configs["config"][
        "lr"
    ].tolist() == [0.1, 0.1, 0.2]


def test_group_sorts_messages_by_schema_and_remembers_where_they_were() -> None:
    first, second = small(2), small(3)
    second = replace(second, message_type="evaluate")
    text = [small(1, configs={"config": {"name": name}})[0] for name in ("a", "b", "a")]
    groups = MessageBatch.group([first[0], text[0], second, text[1], first[1], text[2]])
    assert [positions.tolist() for _, positions in groups] == [[0, 6], [1, 7], [2, 3, 4], [5]]
    assert groups[0][0] == first
    assert groups[2][0] is second
    assert groups[3][0].configs == {"config": {"name": "b"}}
    assert MessageBatch.group([]) == []
    with pytest.raises(ValueError, match="messages must not be empty"):
        MessageBatch.from_messages([])
    with pytest.raises(ValueError, match="'name'"):
        MessageBatch.from_messages(text)


def test_messages_around_a_batch_keep_their_order() -> None:
    batch = small(4)
    assert (
        MessageBatch.from_messages([batch[0], batch[1:3], batch[3]]).message_ids
        == batch.message_ids
    )


def test_a_batch_alone_passes_through() -> None:
    batch = small()
    assert MessageBatch.from_messages(batch) is batch
    assert MessageBatch.from_messages([batch]) is batch


def test_replies_go_back_to_where_the_instructions_came_from() -> None:
    batch = small(3, ttl_s=50.0)
    replies = batch.reply(
        metrics={"metrics": {"loss": np.array([0.1, 0.2])}}, rows=[2, 0], created_at_s=110.0
    )
    assert replies.node_ids.tolist() == [12, 10]
    assert replies.reply_to == ["m2", "m0"]
    assert (replies.message_type, replies.is_reply, replies.message_ids, replies.ttl_s) == (
        "train",
        True,
        None,
        40.0,
    )
    message = replies[0]
    assert (message.metadata.src_node_id, message.metadata.dst_node_id) == (12, 1)
    assert message.metadata.dst_task_id == batch[2].metadata.src_task_id
    assert MessageBatch.from_messages(list(replies)) == replies
    assert MessageBatch.from_messages([Message(m.content, reply_to=m) for m in batch]).is_reply


def test_a_batch_of_errors_alone_joins_any_other() -> None:
    batch = small(2)
    failed = batch.reply(rows=[1], errors={0: (1, "")}, created_at_s=1.0)
    fine = batch.reply(metrics={"m": {"x": np.array([3])}}, rows=[0], created_at_s=1.0)
    assert MessageBatch.concat(
        [fine, MessageBatch("train", np.array([]), is_reply=True, created_at_s=1.0)]
    ).record_names() == ["m"]
    for joined in (
        MessageBatch.concat([failed, fine]),
        MessageBatch.from_messages([failed, *fine]),
    ):
        assert joined.errors == {0: (1, "")}
        assert joined.metrics["m"]["x"].tolist() == [0, 3]


def test_errors_have_zero_rows_and_the_others_are_ok() -> None:
    batch = small()
    messages = [Message(m.content, reply_to=m) for m in batch]
    messages[1] = Message(Error(4, "lost"), reply_to=batch[1])
    replies = MessageBatch.from_messages(messages)
    assert replies.errors == {1: (4, "lost")}
    assert replies.ok_rows().tolist() == [0, 2]
    assert replies.arrays["parameters"]["w"].tolist() == [[0, 1], [0, 0], [4, 5]]
    assert replies.metrics["metrics"]["num-examples"].tolist() == [0, 0, 2]
    assert replies.content_bytes()[1] == replies.payload_bytes()[1] == 0
    assert replies[1].has_error()
    assert replies.select([2, 1]).errors == {1: (4, "lost")}
    assert MessageBatch.concat([replies, replies]).errors == {1: (4, "lost"), 4: (4, "lost")}
