import numpy as np
import pytest

from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import answers, concat, joined, unshared


def batch(nodes: list[int], key: str = "x", shared: float | None = None) -> MessageBatch:
    if shared is not None:
        return MessageBatch(
            "train", np.array(nodes), shared={"a": {key: np.full(2, shared)}}, is_reply=True
        )
    return MessageBatch(
        "train", np.array(nodes), arrays={"a": {key: np.array(nodes) * np.ones(1)}}, is_reply=True
    )


def test_replies_of_one_schema_are_one_batch_in_the_order_of_the_messages() -> None:
    whole = joined([(batch([4, 2]), np.array([2, 0])), (batch([3]), np.array([1]))])
    assert isinstance(whole, MessageBatch)
    assert whole.node_ids.tolist() == [2, 3, 4]


def test_replies_of_several_schemas_are_single_messages_in_the_order_of_the_messages() -> None:
    mixed = joined([(batch([2, 4]), np.array([0, 2])), (batch([3], key="y"), np.array([1]))])
    assert isinstance(mixed, list)
    assert [message.metadata.src_node_id for message in mixed] == [2, 3, 4]
    assert joined([(mixed, np.array([2, 1, 0]))])[0] is mixed[2]
    assert joined([]) == []


def test_batches_that_share_different_values_are_put_together() -> None:
    whole = concat([batch([2, 3], shared=1.0), batch([4], shared=5.0)])
    assert whole.array("a", "x")[:, 0].tolist() == [1, 1, 5]
    assert concat([batch([2], shared=1.0), batch([4], shared=1.0)]).shared
    with pytest.raises(ValueError, match="alike"):
        concat([batch([2]), batch([3], key="y")])


def test_unshared_messages_are_the_same_messages() -> None:
    held_once = batch([2, 3], shared=1.0)
    assert unshared(held_once) == held_once
    assert not unshared(held_once).shared


def test_answers_are_those_with_content() -> None:
    failed = MessageBatch("train", np.array([5]), is_reply=True, errors={0: (2, "x")})
    one = answers([*batch([2, 3]), *failed])
    assert one is not None
    assert one.node_ids.tolist() == [2, 3]
    assert not one.errors
    assert answers(failed) is None
    assert answers([]) is None
