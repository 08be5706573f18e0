"""Times and bytes by hand. ``size(batch)`` is what a batch's messages take on the wire;
test_wire.py holds that.
"""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message
from flwr.serverapp.strategy import FedAvg
from tiny import Around, app, counting_app, fleet, inline, same, strategy, stream, table

from cdc_flower.simulations.deployment import deploy
from cdc_flower.simulations.fleet import Fleet
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.simulations.grids.links import LinkGrid
from cdc_flower.simulations.grids.strategy import StrategyGrid
from cdc_flower.simulations.links.accounting import work_of
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.protobuf import envelope_bytes

STARTS_S = np.array([0.0, 100.0, 200.0, 300.0])


def size(batch: MessageBatch) -> np.ndarray:
    return batch.without(records.INSTRUMENTS).wire_bytes()


def ask(segment: int, nodes: Iterable[int] = (2, 3), kind: str = "train.report") -> MessageBatch:
    return MessageBatch(
        kind, np.array([*nodes]), configs={records.CLOCK: {records.SEGMENT: segment}}
    )


def hand_out(
    segment: int, nodes: Iterable[int] = (2, 3), flops: float = 0.0, value: float = 0.0
) -> MessageBatch:
    nodes = np.array([*nodes])
    return MessageBatch(
        "evaluate",
        nodes,
        arrays={records.PARAMETERS: {"w": np.full((len(nodes), 50), value, np.float32)}},
        configs={records.CLOCK: {records.SEGMENT: segment}, records.WORK: {records.FLOPS: flops}},
    )


def answer(batch: MessageBatch, up_flops: float = 0.0, num_numbers: int = 10) -> MessageBatch:
    """A device that reports ten numbers when it is asked, and scores when it evaluates."""
    if batch.message_type == "evaluate":
        return batch.reply(
            metrics={records.SCORES: {records.NUM_EXAMPLES: np.ones(len(batch), np.int64)}}
        )
    work = {
        records.WORK: {
            records.FLOPS: np.full(len(batch), up_flops),
            records.NUM_LABELS: np.full(len(batch), 3),
        }
    }
    return batch.reply(
        arrays={records.REPORT: {"x": np.zeros((len(batch), num_numbers), np.float32)}},
        configs=work if up_flops else {},
    )


def lonely(nodes: int = 2) -> InlineGrid:
    return InlineGrid(counting_app(), np.arange(nodes))


class Devices(Around):
    """Nodes 2, 3, ... that answer as a function says."""

    def __init__(
        self, reply: Callable[[MessageBatch], Iterable[Message]] = answer, nodes: int = 2
    ) -> None:
        super().__init__(lonely(nodes))
        self.reply = reply

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Iterable[Message]:
        self.sent.append(messages)
        return self.reply(messages)


UP = int(size(answer(ask(0)))[0])
DOWN = int(size(hand_out(0))[0])


def links_of(
    rates_up: list[float], rates_down: list[float], rtt_s: float = 0.0, cloud: float = 1.0
) -> Fleet:
    n = len(rates_up)
    return Fleet(np.array(rates_up), np.array(rates_down), np.full(n, rtt_s), np.ones(n), cloud)


def watched(
    inner: Any, links: Fleet, starts_s: Any = STARTS_S, **options: Any
) -> tuple[LinkGrid, list]:
    seen: list = []
    grid = LinkGrid(inner, links, starts_s, observer=lambda *args: seen.append(args), **options)
    return grid, seen


def test_latency_is_up_and_cloud_and_down_of_each_device() -> None:
    links = links_of(
        [8 * UP, 4 * UP], [8 * DOWN, 2 * DOWN], rtt_s=0.5
    )  # up 1 s and 2 s, down 1 s and 4 s
    grid, seen = watched(Devices(), links, waits_for_all=False)
    grid.send_and_receive(ask(0))
    grid.send_and_receive(hand_out(0, flops=3))  # 3 s in the cloud
    (segment, replies, usage) = seen[0]
    assert segment == 0
    assert [len(batch) for batch in replies] == [2]
    assert usage.latency_s.tolist() == [1 + 3 + 1 + 0.5, 2 + 3 + 4 + 0.5]
    assert usage.bytes_up.tolist() == [UP, UP]
    assert usage.bytes_down.tolist() == [DOWN, DOWN]
    assert usage.payload_bytes_up.tolist() == [40, 40]
    assert usage.payload_bytes_down.tolist() == [200, 200]
    assert usage.compute_cloud_s.tolist() == [3, 3]


def test_who_averages_waits_for_the_slowest() -> None:
    links = links_of([8 * UP, 4 * UP], [8 * DOWN, 2 * DOWN])
    grid, seen = watched(Devices(), links, waits_for_all=True)
    grid.send_and_receive(ask(0))
    grid.send_and_receive(hand_out(0))
    assert seen[0][2].latency_s.tolist() == [2 + 1, 2 + 4]


def test_results_of_an_evaluation_take_the_links_and_the_next_model_waits_for_the_slowest() -> None:
    def with_metrics(batch: MessageBatch) -> MessageBatch:
        return batch.reply(metrics={records.METRICS: {"x": np.ones(len(batch))}})

    up = int(size(with_metrics(ask(0, kind="evaluate")))[0])
    grid, seen = watched(Devices(with_metrics), links_of([8 * up, 8 * up / 130], [math.inf] * 2))
    grid.send_and_receive(ask(0, kind="evaluate"))
    grid.send_and_receive(hand_out(1))
    assert seen[0][2].bytes_up.tolist() == [up, up]
    assert seen[1][2].latency_s.tolist() == [30, 30]


def test_staleness_is_how_long_before_the_segment_the_parameters_in_use_were_asked_for() -> None:
    links = links_of(
        [math.inf] * 2, [0.8 * DOWN, math.inf]
    )  # device 0 waits 10 s of 100 s, device 1 not at all
    grid, seen = watched(Devices(), links)
    grid.send_and_receive(hand_out(0))
    grid.send_and_receive(hand_out(1))
    grid.send_and_receive(ask(2, kind="evaluate"))  # nothing new: all parameters are of segment 1
    staleness = [usage.staleness_s.tolist() for _, _, usage in seen]
    assert staleness == [
        [0, 0],
        [pytest.approx(10), 0],
        [100, 100],
    ]  # 10 % of the segment with those 100 s old


def test_the_device_is_told_the_arrival_and_its_speed() -> None:
    devices = Devices()
    grid, _ = watched(devices, links_of([math.inf] * 2, [8 * DOWN, 4 * DOWN]))
    grid.send_and_receive(hand_out(1))
    clock = devices.sent[0].configs[records.CLOCK]
    assert clock[records.ARRIVAL_S].tolist() == [101, 102]
    assert clock[records.SEGMENT] == 1
    assert clock[records.FLOPS_PER_S].tolist() == [1, 1]


def test_work_on_the_device_delays_the_report_and_is_counted_with_its_labels() -> None:
    grid, seen = watched(
        Devices(lambda batch: answer(batch, up_flops=5)), links_of([8 * UP] * 2, [8 * DOWN] * 2)
    )
    grid.send_and_receive(ask(0))
    grid.send_and_receive(hand_out(0))
    usage = seen[0][2]
    assert usage.latency_s.tolist() == [5 + 1 + 1] * 2
    assert usage.compute_device_s.tolist() == [5, 5]
    assert usage.num_labels.tolist() == [3, 3]


def test_late_parameters_come_in_the_segment_in_which_they_arrive_and_none_starve() -> None:
    devices = Devices()
    grid, seen = watched(
        devices, links_of([math.inf], [8 * DOWN / 150]), node_ids=[2]
    )  # 150 s a payload
    starts = np.arange(12) * 100.0
    grid.starts_s = starts
    for segment in range(11):
        grid.send_and_receive(hand_out(segment, nodes=[2], value=segment))
    got = [
        (
            float(batch.configs[records.CLOCK][records.ARRIVAL_S][0]),
            float(batch.array(records.PARAMETERS, "w")[0, 0]),
        )
        if records.PARAMETERS in batch.arrays
        else None
        for batch in devices.sent
    ]
    # Payload k arrives at 150 (k + 1) s; of two in one segment the newer counts, which never
    # happens here.
    expected = [None] * 11
    for k in range(11):
        if 150 * (k + 1) < 1100:
            expected[150 * (k + 1) // 100] = (150.0 * (k + 1), float(k))
    assert got == expected
    latency = [usage.latency_s[0] for _, _, usage in seen]
    assert [value for value in latency if not math.isnan(value)] == [
        150 * (k + 1) - 100 * k for k in range(7)
    ]


def test_of_two_payloads_in_one_segment_the_device_gets_the_newer() -> None:
    devices = Devices()
    grid, seen = watched(devices, links_of([math.inf], [8 * DOWN / 120]), node_ids=[2])
    for segment, batch in enumerate(
        [hand_out(0, nodes=[2], value=7), ask(1, [2], "evaluate"), hand_out(2, nodes=[2])]
    ):
        if (
            segment == 1
        ):  # a second, small payload that still arrives in segment 1, behind the first one
            batch = MessageBatch(
                "evaluate",
                np.array([2]),
                shared={records.PARAMETERS: {"w": np.zeros(1, np.float32)}},
                configs={records.CLOCK: {records.SEGMENT: 1}},
            )
            assert 120 * size(batch)[0] / DOWN < 80
        grid.send_and_receive(batch)
    assert len(devices.sent) == 3
    assert devices.sent[1].array(records.PARAMETERS, "w").shape == (1, 1)
    assert seen[1][2].latency_s[0] == pytest.approx(20 + 120 * size(devices.sent[1])[0] / DOWN)
    assert records.PARAMETERS not in devices.sent[2].record_names()


def test_the_cloud_does_not_send_a_model_before_it_has_averaged_it() -> None:
    trains = [
        ask(k).with_records(shared={records.ARRAYS: {"w": np.zeros(50, np.float32)}})
        for k in (0, 1)
    ]
    model_bytes = int(size(trains[0])[0])
    slow = links_of(
        [8 * UP / 130] * 2, [8 * model_bytes / 10] * 2
    )  # 10 s down, 130 s up: more than a segment
    grid, seen = watched(Devices(), slow)
    for segment, train in enumerate(trains):
        grid.send_and_receive(train)
        grid.send_and_receive(ask(segment, kind="evaluate"))
    grid.send_and_receive(hand_out(2))
    # The first reports are in at 140 s. Only then the second model leaves, not at 100 s: 140 + 10 +
    # 130 = 280.
    assert seen[2][2].latency_s == pytest.approx([80 + 10 * DOWN / model_bytes] * 2)


def test_what_a_device_makes_itself_is_used_when_its_work_is_done() -> None:
    def train_in_place(batch: MessageBatch) -> MessageBatch:
        if batch.message_type == "evaluate":
            return answer(batch)
        flops = np.array([20.0, 130.0]) * (batch.configs[records.CLOCK][records.SEGMENT] == 0)
        return batch.reply(configs={records.WORK: {records.FLOPS: flops, records.NUM_LABELS: 1}})

    devices = Devices(train_in_place)
    grid, seen = watched(devices, links_of([8.0] * 2, [8.0] * 2))
    for segment in range(2):
        grid.send_and_receive(ask(segment, kind="train.local"))
        grid.send_and_receive(ask(segment, kind="evaluate"))
    first, second = (usage for _, _, usage in seen)
    assert first.latency_s[0] == 20
    assert math.isnan(first.latency_s[1])
    assert second.latency_s[1] == 130
    assert second.staleness_s.tolist() == [100, pytest.approx(0.3 * 100 + 0.7 * 100)]
    assert first.bytes_up.sum() == first.bytes_down.sum() == 0
    told = [
        batch.configs[records.CLOCK][records.ARRIVAL_S].tolist() for batch in devices.sent[1::2]
    ]
    assert told == [[20, 130], [-math.inf, 130]]


@pytest.mark.parametrize("kind", ["static", "fine_tuning"])
def test_who_sends_nothing_pays_nothing(kind: str) -> None:
    rows = table(kind, links=fleet(up_bps=8, down_bps=8, rtt_s=1))
    for column in ("bytes_up", "bytes_down", "payload_bytes_up", "payload_bytes_down"):
        assert rows[column].sum() == 0


def test_duet_sends_ten_items_up_and_the_adaptive_layers_down() -> None:
    inner = Around(inline())
    rows = table("duet", grid=inner, links=fleet())
    first = rows[(rows.segment == 0) & (rows.metric == "log_loss")]
    assert first.payload_bytes_up.tolist() == [10 * 4] * 4
    assert first.payload_bytes_down.tolist() == [2 * (8 * 8 + 8) * 4] * 4
    reports = next(replies for replies in inner.replies if replies.message_type == "train.report")
    content = reports.without(records.INSTRUMENTS).content_bytes()
    expected = (
        envelope_bytes("train.report", True) + 1 + 2 + int(content[0])
    )  # tag and length around the content
    assert first.bytes_up.tolist() == [expected] * 4


@pytest.mark.parametrize("name", ["fedavg", "duet"])
def test_bytes_are_those_of_the_messages_without_instruments(name: str) -> None:
    outer: list[MessageBatch] = []

    class Watching(LinkGrid):
        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
            outer.extend(batch for batch, _ in MessageBatch.group(messages))
            replies = super().send_and_receive(messages, timeout=timeout)
            answers.extend(batch for batch, _ in MessageBatch.group(replies))
            return replies

    answers: list[MessageBatch] = []
    seen: list = []
    built, inner = strategy(name), inline()
    deploy(inner, built)
    grid = Watching(
        inner, fleet(), stream().segment_starts_s, observer=lambda *args: seen.append(args)
    )
    built.start(grid=StrategyGrid(grid), initial_arrays=built.initial_arrays(), num_rounds=6)
    assert sum(usage.bytes_down.sum() for _, _, usage in seen) == sum(
        size(batch).sum() for batch in outer
    )
    assert sum(usage.bytes_up.sum() for _, _, usage in seen) == sum(
        size(batch).sum() for batch in answers
    )


@pytest.mark.parametrize("name", ["static", "fine_tuning", "fedavg", "duet"])
def test_an_unlimited_network_changes_no_metric_against_no_links_at_all(name: str) -> None:
    rows = table(name)
    built, inner = strategy(name), Around(inline())
    deploy(inner, built)
    built.start(grid=StrategyGrid(inner), initial_arrays=built.initial_arrays(), num_rounds=6)
    plain = [
        r.metrics[records.SCORES]["value-sum"]
        for r in inner.replies
        if getattr(r, "message_type", "") == "evaluate"
    ]
    metrics = rows[rows.metric != "auc"].value_sum.to_numpy()
    np.testing.assert_allclose(metrics, np.concatenate(plain).ravel(), rtol=1e-5, atol=1e-6)


def test_the_order_of_strategies_changes_no_link() -> None:
    links, grid = fleet(up_bps=2e3, down_bps=5e3, rtt_s=0.2), inline()
    before, between = table("duet", grid, links), table("fedavg", grid, links)
    again_between, again = table("fedavg", grid, links), table("duet", grid, links)
    same(before, again)
    same(between, again_between)


def test_nothing_depends_on_the_clock_of_this_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    links = fleet(up_bps=2e3, down_bps=5e3)
    before = table("duet", links=links)
    ticks = iter(range(10**9, 2 * 10**9, 12345))
    monkeypatch.setattr(time, "time", lambda: float(next(ticks)))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    same(before, table("duet", links=links))


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


def flower_arrays() -> ArrayRecord:
    return ArrayRecord({"0": Array(np.zeros(25, np.float32))})


def test_in_rounds_time_goes_on_until_the_slowest_reply_is_in() -> None:
    inner = Around(lonely(2))
    links = links_of([800.0, 400.0], [1600.0, 800.0], rtt_s=0.5)
    grid = LinkGrid(inner, links)
    FedAvg().start(grid=grid, initial_arrays=flower_arrays(), num_rounds=2)
    batches = [
        (batch, MessageBatch.group(replies)[0][0])
        for batch, replies in zip(inner.sent, inner.replies, strict=True)
    ]
    now_s, ends_s, down, up = 0.0, [], np.zeros(2), np.zeros(2)
    for k, (sent, replies) in enumerate(batches):  # train, evaluate, train, evaluate
        row = np.argsort(sent.node_ids), np.argsort(replies.node_ids)
        seconds = (
            size(sent)[row[0]] * 8 / links.rate_down_bps
            + size(replies)[row[1]] * 8 / links.rate_up_bps
            + 0.5
        )
        now_s += float(seconds.max())
        down, up = down + size(sent)[row[0]], up + size(replies)[row[1]]
        if k % 2:
            ends_s.append(now_s)
    assert len(batches) == 4
    assert grid.now_s == pytest.approx(now_s)
    assert [round.end_s for round in grid.rounds] == pytest.approx(ends_s)
    assert [round.start_s for round in grid.rounds] == pytest.approx([0.0, ends_s[0]])
    np.testing.assert_array_equal(sum(round.usage.bytes_down for round in grid.rounds), down)
    np.testing.assert_array_equal(sum(round.usage.bytes_up for round in grid.rounds), up)
    assert (grid.rounds[0].usage.latency_s > 0).all()


def test_rounds_without_evaluation_are_rounds_too() -> None:
    grid = LinkGrid(lonely(2), links_of([800.0] * 2, [800.0] * 2))
    plan = FedAvg(fraction_evaluate=0.0)
    plan.start(grid=grid, initial_arrays=flower_arrays(), num_rounds=3)
    assert len(grid.rounds) == 3
    assert all(round.usage.bytes_up.all() for round in grid.rounds)
    assert grid.rounds[-1].end_s == grid.now_s


def test_links_change_no_result_of_an_ordinary_app_in_rounds() -> None:
    results = [
        FedAvg().start(grid=grid, initial_arrays=flower_arrays(), num_rounds=2)
        for grid in (lonely(3), LinkGrid(lonely(3), fleet(3, 1e3, 1e3)))
    ]
    values = [result.arrays["0"].numpy() for result in results]
    np.testing.assert_allclose(values[0], values[1])
    # Devices 0, 1, 2 add their number, weighted 1, 2, 3: (0 + 2 + 6) / 6 a round.
    np.testing.assert_allclose(values[0], 2 * 8 / 6, rtol=1e-6)


def test_an_ordinary_app_runs_in_segments_too_where_its_link_is_fast_enough() -> None:
    grid, seen = watched(lonely(3), fleet(3, 1e5, 1e5))
    result = FedAvg().start(grid=grid, initial_arrays=flower_arrays(), num_rounds=3)
    assert [segment for segment, _, _ in seen] == [0, 1, 2]
    assert len(result.evaluate_metrics_clientapp) == 3
    assert all((usage.bytes_up > 0).all() and (usage.bytes_down > 0).all() for _, _, usage in seen)


@pytest.mark.parametrize("starts_s", [STARTS_S, None], ids=["segments", "rounds"])
def test_with_an_observer_neither_memory_nor_the_state_grows_with_what_it_was_told(
    starts_s: Any,
) -> None:
    grid, seen = watched(Devices(), links_of([800.0] * 2, [800.0] * 2), starts_s)
    sizes = []
    for k in range(3):
        grid.send_and_receive(hand_out(k))
        sizes.append(sum(value.nbytes for value in grid._rounds.to_arrays().values()))
    assert [number for number, _, _ in seen] == [0, 1, 2]
    assert not grid.rounds and len(set(sizes)) == 1


def test_an_observer_sees_rounds_as_well() -> None:
    grid, seen = watched(lonely(2), fleet(2, 1e5, 1e5), None)
    FedAvg().start(grid=grid, initial_arrays=flower_arrays(), num_rounds=2)
    assert [number for number, _, _ in seen] == [0, 1]


def test_one_of_our_strategies_runs_in_rounds() -> None:
    built, inner = strategy("duet"), InlineGrid(app(), np.arange(4))
    deploy(inner, built)
    grid = LinkGrid(inner, fleet(up_bps=1e4, down_bps=1e4))
    built.start(grid=StrategyGrid(grid), initial_arrays=built.initial_arrays(), num_rounds=3)
    assert len(grid.rounds) == 3
    assert 0 < grid.rounds[0].end_s < grid.rounds[1].end_s < grid.now_s + 1e-9
