"""Times and bytes of links by hand, device by device."""

import math

import numpy as np
import pytest
from link_cases import DOWN, UP, Devices, answer, ask, hand_out, links_of, size, watched

from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


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
