"""Links where replies are lost, fail, or come in another order or in parts."""

import numpy as np
import pytest
from flwr.app import Message
from link_cases import DOWN, STARTS_S, UP, Devices, answer, ask, hand_out, links_of, watched

from cdc_flower.simulations.grids.links import LinkGrid
from cdc_flower.simulations.links.accounting import work_of
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


def reversed_singles(batch: MessageBatch) -> list[Message]:
    return list(answer(batch))[::-1]


def test_single_replies_in_another_order_are_put_in_order() -> None:
    links = links_of([8 * UP, 4 * UP], [8 * DOWN, 2 * DOWN])
    grid, seen = watched(Devices(reversed_singles), links, waits_for_all=False)
    replies = list(grid.send_and_receive(ask(0)))
    assert [reply.metadata.src_node_id for reply in replies] == [2, 3]
    grid.send_and_receive(hand_out(0))
    assert seen[0][2].latency_s.tolist() == [2, 6]


def test_a_lost_reply_is_missing_and_the_others_are_as_they_were() -> None:
    links = links_of([8 * UP, 4 * UP], [8 * DOWN, 2 * DOWN])
    grid, seen = watched(Devices(lambda batch: answer(batch).select([1])), links)
    replies = list(grid.send_and_receive(ask(0)))
    assert [reply.metadata.src_node_id for reply in replies] == [3]
    grid.send_and_receive(hand_out(0))
    usage = seen[0][2]
    assert usage.bytes_up.tolist() == [0, UP]
    assert [batch.node_ids.tolist() for batch in seen[0][1]] == [[3]]


def test_when_no_reply_comes_nobody_waits() -> None:
    grid, seen = watched(Devices(lambda batch: []), links_of([8 * UP] * 2, [8 * DOWN] * 2))
    assert list(grid.send_and_receive(ask(0))) == []
    assert list(grid.send_and_receive(hand_out(0))) == []
    assert seen[0][1] == []


def test_an_error_reaches_the_strategy_costs_its_bytes_and_spoils_no_other() -> None:
    def failing(batch: MessageBatch) -> MessageBatch:
        bad = batch.node_ids == 3
        parts = [batch.select(bad).reply(errors={0: (2, "no battery")})] if bad.any() else []
        return MessageBatch.concat(
            [*([answer(batch.select(~bad))] if (~bad).any() else []), *parts]
        )

    grid, seen = watched(
        Devices(failing), links_of([8 * UP, 8.0], [8 * DOWN] * 2), waits_for_all=False
    )
    replies = list(grid.send_and_receive(ask(0)))
    assert [reply.has_error() for reply in replies] == [False, True]
    grid.send_and_receive(hand_out(0))
    usage = seen[0][2]
    error_size = int(
        MessageBatch(
            "train.report", np.array([3]), is_reply=True, errors={0: (2, "no battery")}
        ).wire_bytes()[0]
    )
    assert usage.bytes_up[0] == UP
    assert usage.bytes_up[1] >= error_size
    assert usage.latency_s[0] == 2
    assert [batch.node_ids.tolist() for batch in seen[0][1]] == [[2]]


def test_a_device_that_failed_has_done_no_work_and_used_no_label() -> None:
    work = {records.WORK: {records.FLOPS: 7.0, records.NUM_LABELS: 3}}  # one value for all
    replies = MessageBatch(
        "train", np.array([2, 3]), configs=work, is_reply=True, errors={1: (2, "x")}
    )
    assert [column.tolist() for column in work_of(replies)] == [[7, 0], [3, 0], [0, 0]]


def test_several_batches_of_one_segment_are_one_segment() -> None:
    grid, seen = watched(Devices(), links_of([8 * UP] * 2, [8 * DOWN] * 2), waits_for_all=False)
    grid.send_and_receive(ask(0))
    replies = grid.send_and_receive([hand_out(0, nodes=[3]), ask(0, [2], "evaluate")])  # type: ignore[list-item]
    assert [reply.metadata.src_node_id for reply in replies] == [3, 2]
    assert len(seen) == 1
    assert seen[0][2].bytes_up.tolist() == [UP, UP]
    assert seen[0][2].latency_s[1] == 2


def test_pushed_messages_take_the_links_too() -> None:
    grid, seen = watched(Devices(), links_of([8 * UP] * 2, [8 * DOWN] * 2))
    ids = list(grid.push_messages(ask(0)))
    replies = list(grid.pull_messages(ids))
    assert [reply.metadata.reply_to_message_id for reply in replies] == ids
    assert list(grid.pull_messages(ids)) == []
    grid.send_and_receive(hand_out(0))
    assert seen[0][2].latency_s.tolist() == [2, 2]


def test_an_unknown_node_a_wrong_fleet_and_a_segment_that_is_not_there_are_refused() -> None:
    links = links_of([8.0] * 2, [8.0] * 2)
    with pytest.raises(ValueError, match="got 2 links for 3 nodes"):
        LinkGrid(Devices(nodes=3), links, STARTS_S)
    grid = LinkGrid(Devices(), links, STARTS_S)
    with pytest.raises(ValueError, match="got 9"):
        grid.send_and_receive(ask(0, nodes=[2, 9]))
    with pytest.raises(ValueError, match=r"segment must be in 0\.\.2, got 3"):
        grid.send_and_receive(ask(3))
