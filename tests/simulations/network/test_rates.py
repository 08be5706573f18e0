"""Transfers over traces: by hand, and laws."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdc_flower.simulations.network.channel import Channel, Fifo, Loss
from cdc_flower.simulations.network.formats.mahimahi import MAHIMAHI_BYTES, read_mahimahi
from cdc_flower.simulations.network.outages import Outages
from cdc_flower.simulations.network.rates import TraceBank
from cdc_flower.simulations.network.trace import Trace

lengths = st.floats(0.01, 100)
rates = st.one_of(st.just(0.0), st.floats(1, 1e8))
pieces = st.lists(st.tuples(lengths, rates), min_size=1, max_size=12).filter(
    lambda p: any(r for _, r in p)
)
times = st.floats(0, 1e5)
sizes = st.floats(1, 1e8)


def trace_of(parts: list[tuple[float, float]]) -> Trace:
    return Trace(
        np.append(0.0, np.cumsum([length for length, _ in parts])),
        np.array([rate for _, rate in parts]),
    )


def finish(trace: Trace, begin_s: float, num_bytes: float) -> float:
    return float(
        TraceBank([trace]).finish_s(
            np.array([0]), np.array([begin_s]), np.array([float(num_bytes)])
        )[0]
    )


def carried(trace: Trace, start_s: float, end_s: float) -> float:
    bank, row = TraceBank([trace]), np.array([0])
    return float(
        (bank.position(row, np.array([end_s])) - bank.position(row, np.array([start_s])))[0]
    )


def piece_by_piece(trace: Trace, begin_s: float, num_bytes: float) -> float:
    """Walks along the trace; as there, a millionth of a byte is not waited for."""
    _, phase = divmod(begin_s, trace.duration_s)
    k, now_s = int(np.searchsorted(trace.edges_s, phase, "right") - 1), begin_s
    per_lap = trace.mean_bps * trace.duration_s / 8
    while True:
        rate, room_s = trace.rates_bps[k] / 8, trace.edges_s[k + 1] - phase
        if rate * room_s >= num_bytes - 1e-6:
            return now_s + (min(room_s, num_bytes / rate) if rate else 0.0)
        num_bytes, now_s, k = num_bytes - rate * room_s, now_s + room_s, k + 1
        if k == len(trace.rates_bps):
            laps = max(0, int(num_bytes / per_lap) - 1)
            num_bytes, now_s, k = num_bytes - laps * per_lap, now_s + laps * trace.duration_s, 0
        phase = trace.edges_s[k]


def test_by_hand_over_a_gap_and_around_the_end() -> None:
    trace = Trace(
        np.array([0.0, 1.0, 3.0, 4.0]), np.array([8.0, 0.0, 80.0])
    )  # 1 byte, nothing, 10 bytes: 11 a lap
    assert finish(trace, 0.0, 1) == 1.0  # not at the end of the gap
    assert finish(trace, 0.0, 2) == pytest.approx(3.1)
    assert finish(trace, 2.0, 5) == pytest.approx(3.5)
    assert finish(trace, 3.5, 6) == pytest.approx(5.0)  # five, and one more in the next lap
    assert finish(trace, 0.0, 11) == 4.0
    assert finish(trace, 0.0, 11 * 100) == pytest.approx(400.0)


@given(pieces, times, sizes)
@example([(1.0, 0.0), (0.4, 1.0)], 0.0, 1.0)
def test_the_end_is_that_of_walking_along_the_trace(parts, begin_s, num_bytes) -> None:
    trace = trace_of(parts)
    if num_bytes / (trace.mean_bps * trace.duration_s / 8) > 1e6:
        return
    assert finish(trace, begin_s, num_bytes) == pytest.approx(
        piece_by_piece(trace, begin_s, num_bytes), rel=1e-9
    )


@given(pieces, times, st.floats(1, 1e6))
def test_what_goes_in_comes_out_and_never_before_it_began(parts, begin_s, num_bytes) -> None:
    trace = trace_of(parts)
    end_s = finish(trace, begin_s, num_bytes)
    assert end_s >= begin_s
    lap_bytes = trace.mean_bps * trace.duration_s / 8
    slack = 1e-6 * num_bytes + 1e-9 * lap_bytes + 1e-9 * trace.rates_bps.max() * end_s / 8
    assert carried(trace, begin_s, end_s) == pytest.approx(num_bytes, abs=slack)


@given(pieces, times, st.floats(1, 1e6), st.floats(1, 1e6))
def test_two_transfers_in_a_row_take_as_long_as_one_of_their_sizes(
    parts, begin_s, first, second
) -> None:
    trace = trace_of(parts)
    between_s = finish(trace, begin_s, first)
    whole_s = finish(trace, begin_s, first + second)
    # At a gap rounding may decide on which side of it a transfer ends, so the bytes are compared
    # there.
    apart = carried(trace, begin_s, finish(trace, between_s, second)) - carried(
        trace, begin_s, whole_s
    )
    assert abs(apart) <= 1e-6 * (first + second) + 1e-8 * trace.rates_bps.max() * whole_s


@given(pieces, times, st.floats(1, 1e6), st.floats(0, 1e6))
def test_more_bytes_never_arrive_earlier_and_a_later_start_never_helps(
    parts, begin_s, num_bytes, more
) -> None:
    trace = trace_of(parts)
    end_s = finish(trace, begin_s, num_bytes)
    assert finish(trace, begin_s, num_bytes + more) >= end_s - 1e-9 * (1 + end_s)
    assert finish(trace, begin_s + more, num_bytes) >= end_s - 1e-6 * (1 + end_s)


@given(st.floats(1, 1e9), times, sizes, lengths)
def test_on_a_constant_trace_it_takes_bytes_times_eight_over_the_rate(
    rate, begin_s, num_bytes, length
) -> None:
    expected = begin_s + num_bytes * 8 / rate
    assert finish(
        Trace(np.array([0.0, length]), np.array([rate])), begin_s, num_bytes
    ) == pytest.approx(expected)


def test_links_side_by_side_are_those_alone() -> None:
    rng = np.random.default_rng(0)
    traces = [
        trace_of(
            [(float(rng.uniform(0.1, 9)), float(rng.choice([0, 1e3, 1e5, 7e5]))) for _ in range(50)]
        )
        for _ in range(20)
    ]
    bank, which = TraceBank(traces), rng.integers(0, 20, 500)
    begin_s, num_bytes = rng.uniform(0, 1e4, 500), 10 ** rng.uniform(0, 8, 500)
    together = bank.finish_s(which, begin_s, num_bytes)
    alone = [finish(traces[which[k]], begin_s[k], num_bytes[k]) for k in range(500)]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=60).filter(lambda s: max(s) > 0),
    st.integers(0, 900),
    st.integers(1, 80),
)
def test_mahimahi_packet_by_packet(stamps, start_ms, num_packets) -> None:
    """Its rule: each stamp lets one packet through, unused ones are lost, and the last stamp begins
    a new lap.
    """
    stamps = sorted(stamps)
    stamps_from_1 = [max(1, stamp) for stamp in stamps]
    left, base = num_packets, 0
    while True:
        for stamp in stamps_from_1:
            if base + stamp > start_ms:
                left -= 1
                if not left:
                    break
        if not left:
            break
        base += stamps[-1] if stamps[-1] > 0 else 1
    trace = read_mahimahi("\n".join(map(str, stamps)), "x").down
    end_ms = finish(trace, start_ms / 1000, num_packets * MAHIMAHI_BYTES) * 1000
    assert base + stamp - 1 - 1e-6 < end_ms <= base + stamp + 1e-6


def ids(n: int) -> np.ndarray:
    return np.arange(n)


def test_an_outage_holds_a_transfer_up_and_the_rest_of_it_follows() -> None:
    outages = Outages(ids(50), every_s=30.0, outage_s=10.0, seed=1)
    link = Channel(np.full(50, 8.0), np.zeros(50), ids(50), outages=outages)
    begin_s, num_bytes = np.linspace(0, 500, 50), np.full(50, 40)
    end_s = link.finish_s(ids(50), begin_s, num_bytes)
    up_s = outages.up_time_s(ids(50), end_s) - outages.up_time_s(ids(50), begin_s)
    np.testing.assert_allclose(up_s, 40.0)  # one byte a second, while the link is up
    assert (end_s >= begin_s + 40 - 1e-9).all() and (end_s > begin_s + 41).any()


def test_a_link_without_a_limit_waits_for_the_end_of_an_outage() -> None:
    outages = Outages(ids(200), every_s=30.0, outage_s=30.0, seed=1)
    link = Channel(np.full(200, np.inf), np.zeros(200), ids(200), outages=outages)
    end_s = link.finish_s(ids(200), np.full(200, 5.0), np.full(200, 10))
    is_up = outages.resume_s(ids(200), np.full(200, 5.0)) == 5.0
    assert 60 < is_up.sum() < 140
    np.testing.assert_allclose(end_s[is_up], 5.0)
    assert (end_s[~is_up] > 5.0).all()


def test_outages_take_the_share_of_time_that_is_declared() -> None:
    outages = Outages(ids(100), every_s=30.0, outage_s=10.0, seed=2)
    share = outages.up_time_s(ids(100), np.full(100, 1e5)) - outages.up_time_s(
        ids(100), np.zeros(100)
    )
    assert (share / 1e5).mean() == pytest.approx(0.75, abs=0.02)


def lossy(n: int, chance: float, seed: int = 0, rtt_s: float = 0.5) -> Fifo:
    return Fifo(
        Channel(np.full(n, 8e3), np.full(n, rtt_s), ids(n), loss=Loss(chance, 100, seed, "up")), 0.0
    )


def send(
    fifo: Fifo, num_bytes: int, ready_s: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = len(fifo.channel)
    return fifo.send(ids(n), np.full(n, ready_s), np.full(n, num_bytes), np.full(n, np.inf))


def test_lost_packets_are_sent_again_after_a_round_trip_in_the_mean_as_often_as_they_are_lost() -> (
    None
):
    arrival_s, again, _ = send(lossy(4000, 0.2), 1000)
    rounds = np.round(
        (arrival_s - 0.25 - (1000 + again) / 1e3) / 0.5
    )  # beside the bytes only round trips
    np.testing.assert_allclose(arrival_s, 0.25 + (1000 + again) / 1e3 + rounds * 0.5)
    assert (rounds >= 0).all() and ((again > 0) == (rounds > 0)).all()
    assert again.mean() / 1000 == pytest.approx(0.2 / 0.8, rel=0.05)  # a geometric series


def test_without_loss_nothing_is_drawn_and_with_all_lost_nothing_ever_arrives() -> None:
    arrival_s, again, _ = send(lossy(3, 0.0), 1000)
    assert arrival_s.tolist() == [1.25] * 3 and not again.any()
    never = lossy(3, 1.0)
    assert np.isinf(send(never, 1000)[0]).all()
    assert np.isinf(send(never, 1, ready_s=1e9)[0]).all()


def test_what_is_lost_on_a_link_does_not_depend_on_the_others() -> None:
    np.testing.assert_array_equal(send(lossy(5, 0.3), 5000)[0], send(lossy(50, 0.3), 5000)[0][:5])
    assert (send(lossy(50, 0.3, seed=1), 5000)[0] != send(lossy(50, 0.3), 5000)[0]).any()


def test_a_message_that_could_not_begin_before_it_expires_is_not_sent() -> None:
    fifo = lossy(2, 0.0)
    arrival_s, _, sent = fifo.send(ids(2), np.zeros(2), np.full(2, 1000), np.array([0.0, 0.1]))
    assert sent.tolist() == [False, True]
    assert arrival_s.tolist() == [np.inf, 1.25]
    assert fifo.free_s.tolist() == [0.0, 1.0]
