from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from tiny import app, counting_app, inline, strategy

from cdc_flower.simulations.grids.base import play_rows, without_repeats
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.simulations.grids.message_loop import APP_RAISED, Contexts, MessageLoop
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


def deployed(**settings: Any) -> tuple[InlineGrid, MessageBatch]:
    grid = inline()
    model = strategy("static").deployment()
    batch = MessageBatch(
        records.DEPLOY,
        np.array(grid.get_node_ids()),
        shared={records.MODEL: model},
        configs={records.CONFIG: settings},
    )
    grid.send_and_receive(batch)
    return grid, batch


def evaluate(nodes: list[int], segment: int = 0) -> MessageBatch:
    return MessageBatch(
        "evaluate", np.array(nodes), configs={records.CLOCK: {records.SEGMENT: segment}}
    )


def arrays(value: float = 0.0) -> ArrayRecord:
    return ArrayRecord({"0": Array(np.full(3, value, np.float32))})


def train(nodes: list[int], value: float = 0.0) -> list[Message]:
    return [
        Message(RecordDict({"arrays": arrays(value)}), dst_node_id=node, message_type="train")
        for node in nodes
    ]


def ordinary(num_devices: int = 3) -> InlineGrid:
    return InlineGrid(counting_app(), np.arange(num_devices))


def calls(replies: Any) -> list[int]:
    return [int(reply.content["metrics"]["calls"]) for reply in replies]


def test_nodes_are_numbered_from_2_in_the_order_of_the_devices() -> None:
    assert InlineGrid(app(), [1, 3]).get_node_ids() == [3, 5]


def test_a_batch_comes_back_as_one_batch_in_the_order_of_the_messages() -> None:
    grid, _ = deployed()
    replies = grid.send_and_receive(evaluate([5, 2, 4]))
    assert isinstance(replies, MessageBatch)
    assert replies.node_ids.tolist() == [5, 2, 4]
    assert replies.metrics[records.SCORES][records.DEVICE_ID].tolist() == [3, 0, 2]


def test_a_permuted_batch_gives_each_device_what_it_gets_in_order() -> None:
    grid, _ = deployed()
    whole = grid.send_and_receive(evaluate([2, 3, 4, 5]))
    mixed = grid.send_and_receive(evaluate([4, 2, 5, 3]))
    assert isinstance(whole, MessageBatch) and isinstance(mixed, MessageBatch)
    sums = [batch.metrics[records.SCORES]["value-sum"] for batch in (whole, mixed)]
    np.testing.assert_allclose(sums[0][[2, 0, 3, 1]], sums[1], rtol=1e-6)


def test_single_messages_are_batched_on_the_way() -> None:
    grid, _ = deployed()
    replies = grid.send_and_receive(list(evaluate([3, 5])))
    assert isinstance(replies, MessageBatch)
    assert replies.node_ids.tolist() == [3, 5]


def test_a_subset_leaves_the_states_of_the_others_alone() -> None:
    grid, _ = deployed()
    part = evaluate([3, 4]).with_records(
        arrays={
            records.PARAMETERS: {
                name: np.ones((2, *shape), np.float32)
                for name, shape in app().model.adaptive.items()
            }
        }
    )
    before = {name: grid.states.pool[name][grid.states.in_use] for name in grid.states.pool}  # type: ignore[attr-defined]
    grid.send_and_receive(part)
    after = {name: grid.states.pool[name][grid.states.in_use] for name in grid.states.pool}  # type: ignore[attr-defined]
    for name in before:
        np.testing.assert_array_equal(before[name][[0, 3]], after[name][[0, 3]])
        assert (after[name][[1, 2]] == 1).all()


def test_an_unknown_node_is_refused() -> None:
    with pytest.raises(ValueError, match="dst_node_id must be one of the grid's nodes, got 99"):
        inline().send_and_receive(evaluate([2, 99]))


@pytest.mark.parametrize("ids", [[], [1, 0], [2, 2]])
def test_devices_must_ascend(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="device_ids must be at least one and ascend"):
        InlineGrid(app(), ids)


def test_no_messages_have_no_replies() -> None:
    assert list(inline().send_and_receive([])) == []
    assert list(inline().send_and_receive(evaluate([]))) == []


def test_an_exception_in_the_app_leaves_the_old_states() -> None:
    grid, deploy = deployed()
    states = grid.states
    wrong = evaluate([2, 3, 4, 5], segment=999)
    with pytest.raises(ValueError, match="segment"):
        grid.send_and_receive([deploy.select([0]), wrong])  # type: ignore[list-item]
    assert grid.states is states


def test_any_flower_app_runs_and_its_context_persists() -> None:
    grid = ordinary()
    first = list(grid.send_and_receive(train([2, 3, 4])))
    assert [reply.content["arrays"]["0"].numpy()[0] for reply in first] == [0, 1, 2]  # type: ignore[union-attr,call-overload]
    assert calls(first) == [1, 1, 1]
    assert calls(grid.send_and_receive(train([4, 2]))) == [2, 2]
    assert calls(grid.send_and_receive(train([2, 3, 4]))) == [3, 2, 3]


def test_an_exception_in_a_flower_app_is_an_error_reply_and_keeps_the_old_context() -> None:
    grid = ordinary()
    grid.send_and_receive(train([2, 3]))
    replies = list(grid.send_and_receive([*train([2], 100.0), *train([3])]))
    assert replies[0].has_error()
    assert replies[0].error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION == APP_RAISED
    assert "RuntimeError: too large" in str(replies[0].error.reason)
    assert calls(replies[1:]) == [2]
    assert calls(grid.send_and_receive(train([2, 3]))) == [2, 3]


def test_replies_of_different_schemas_come_as_single_messages_in_order() -> None:
    queries = [
        Message(RecordDict({"q": MetricRecord({"x": 1})}), dst_node_id=n, message_type="query")
        for n in (4, 2, 3)
    ]
    replies = ordinary().send_and_receive(queries)
    assert [len(reply.content["numbers"]["list"]) for reply in replies] == [3, 1, 2]  # type: ignore[arg-type,union-attr,call-overload,index]


def test_a_node_with_two_messages_answers_one_after_the_other() -> None:
    assert calls(ordinary().send_and_receive(train([2, 3, 2, 2]))) == [1, 1, 2, 3]
    batch = evaluate([2, 3, 2, 2])
    parts = without_repeats([(batch, np.arange(4))])
    assert [(part.node_ids.tolist(), where.tolist()) for part, where in parts] == [
        ([2, 3], [0, 1]),
        ([2], [2]),
        ([2], [3]),
    ]


def test_pushed_messages_have_their_replies_once_and_by_their_ids() -> None:
    grid = ordinary()
    ids = grid.push_messages(train([3, 2]))
    replies = grid.pull_messages([ids[1], "other"])
    assert [reply.metadata.src_node_id for reply in replies] == [2]
    assert replies[0].metadata.reply_to_message_id == ids[1]
    assert grid.pull_messages([ids[1]]) == []
    assert len(grid.pull_messages(ids)) == 1
    more = grid.push_messages(train([2]))
    assert not set(more) & set(ids)


def test_flowers_own_message_maker_works_on_the_grid() -> None:
    grid = ordinary()
    message = grid.create_message(RecordDict({"arrays": arrays()}), "train", 3, "1")
    assert [reply.metadata.src_node_id for reply in grid.send_and_receive([message])] == [3]
    grid.set_run("run")
    assert grid.run == "run"


def test_playing_rows_changes_nothing_that_it_is_given() -> None:
    contexts = Contexts.fresh(np.arange(3), 3)
    batch = MessageBatch.from_messages(train([3, 2]))
    replies, after = play_rows(MessageLoop(counting_app()), batch, contexts, np.array([1, 0]))
    assert [reply.metadata.src_node_id for reply in replies] == [3, 2]
    assert all(len(context.state) == 0 for context in contexts.contexts)
    assert ["calls" in context.state for context in after.contexts] == [True, True, False]
