from collections.abc import Iterable

import numpy as np
import pytest
from flwr.app import Message
from hypothesis import given
from hypothesis import strategies as st

from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import MessageBatches, concat, joined, ok_replies, unshared


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


def nodes_of(messages: Iterable[Message]) -> list[int]:
    return [message.metadata.src_node_id for message in messages]


def test_replies_of_several_schemas_are_a_batch_each_and_messages_in_order() -> None:
    mixed = joined([(batch([2, 4]), np.array([0, 2])), (batch([3], key="y"), np.array([1]))])
    assert isinstance(mixed, MessageBatches)
    assert nodes_of(mixed) == [2, 3, 4]
    assert nodes_of(joined([(mixed, np.array([2, 1, 0]))])) == [4, 3, 2]
    assert nodes_of(joined([(mixed, np.array([7, 30, 8])), (batch([9]), np.array([10]))])) == [
        2,
        4,
        9,
        3,
    ]
    assert not joined([])


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.booleans()), max_size=8), st.data())
def test_batches_of_several_schemas_are_the_list_of_their_messages(
    kinds: list, data: st.DataObject
) -> None:
    plain: list[Message] = []
    for node, (key, fails) in enumerate(kinds, start=2):
        failed = MessageBatch("train", np.array([node]), is_reply=True, errors={0: (2, "x")})
        plain += failed if fails else batch([node], key)
    whole = MessageBatches.of(plain)
    assert len(whole) == len(plain) and nodes_of(whole) == nodes_of(plain)
    assert [nodes_of([whole[k]]) for k in range(-len(plain), 0)] == [
        nodes_of([message]) for message in plain
    ]
    assert nodes_of(whole.ok()) == [
        node for node, (_, fails) in enumerate(kinds, start=2) if not fails
    ]
    rows = data.draw(st.permutations(range(len(plain)))) if plain else []
    some = np.array(rows[: len(rows) // 2], np.int64)
    assert nodes_of(whole.select(some)) == [plain[row].metadata.src_node_id for row in some]
    assert nodes_of(whole[1:]) == nodes_of(plain[1:])
    bare = whole.map(lambda part: part.only(()))
    assert nodes_of(bare) == nodes_of(plain) and all(not message.content for message in bare.ok())
    assert nodes_of(joined([(bare, np.arange(len(plain)))])) == nodes_of(plain)


def test_an_error_that_is_not_about_schemas_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("out of memory")

    monkeypatch.setattr(MessageBatch, "concat", fail)
    with pytest.raises(ValueError, match="out of memory"):
        joined([(batch([2]), np.array([0])), (batch([3]), np.array([1]))])


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
    one = ok_replies([*batch([2, 3]), *failed])
    assert one is not None
    assert one.node_ids.tolist() == [2, 3]
    assert not one.errors
    assert ok_replies(failed) is None
    assert ok_replies([]) is None
