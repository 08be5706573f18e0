"""Deadlines, times to live, replacement, shared cells, cloud workers, as a strategy meets them."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny import fleet, inline, same, strategy, stream, table

from cdc_flower.simulations.fleet import Conditions, Fleet, Network, Speeds
from cdc_flower.simulations.network.trace import Trace, TracePair

SEGMENT_S = float(np.diff(stream().segment_starts_s)[0])


def build(
    up_bps: float = math.inf,
    down_bps: float = math.inf,
    rtt_s: float = 0.0,
    rules: dict | None = None,
    **more: Any,
) -> Fleet:
    network = Network("test", up_bps, down_bps, rtt_s)
    speeds = Speeds(**{"device_flops_per_s": math.inf, "cloud_flops_per_s": math.inf, **more})
    return Fleet.build(4, network, speeds=speeds, conditions=Conditions(**(rules or {})), seed=0)


def single(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop_duplicates(["device_id", "segment"])


ROUGH = {"loss": 0.1, "outage_every_s": 40.0, "outage_s": 20.0, "ttl_s": 90.0, "deadline_s": 50.0}


@pytest.mark.parametrize("name", ["static", "fine_tuning", "fedavg", "duet"])
def test_a_link_that_never_delivers_hangs_nothing_and_changes_no_prediction(name: str) -> None:
    dead = table(name, links=build(rules={"loss": 1.0}))
    if name in ("fedavg", "duet"):
        assert single(dead).num_dropped.sum() > 0 and dead.latency_s.isna().all()
        alone = table("static", built=None if name == "fedavg" else strategy("duet", epochs=2))
        if name == "fedavg":  # the same model as deployed
            np.testing.assert_allclose(dead.value_sum, alone.value_sum, rtol=1e-5, atol=1e-6)
    else:
        assert not single(dead).num_dropped.any()


@pytest.mark.parametrize("name", ["fedavg", "duet"])
def test_rough_links_give_the_same_again_in_any_order_of_strategies(name: str) -> None:
    links, grid = build(up_bps=3e3, down_bps=6e3, rtt_s=0.3, rules=ROUGH), inline()
    before = table(name, grid, links)
    table("fedavg" if name == "duet" else "duet", grid, links)
    same(before, table(name, grid, links))
    assert single(before).bytes_again.sum() > 0


@pytest.mark.parametrize("name", ["static", "fine_tuning", "fedavg", "duet"])
def test_enough_of_everything_changes_nothing(name: str) -> None:
    many = {"ttl_s": 1e9, "deadline_s": 1e9, "cell_up_bps": 1e30, "cell_down_bps": 1e30}
    plain, ample = (
        table(name, links=build()),
        table(name, links=build(rules=many, num_cloud_workers=10**6)),
    )
    for column in plain.columns.difference(["latency_s", "staleness_s"]):
        assert (plain[column].astype(str) == ample[column].astype(str)).all(), column
    np.testing.assert_allclose(plain.latency_s, ample.latency_s, atol=1e-9)


@pytest.mark.parametrize("name", ["static", "fine_tuning", "fedavg", "duet"])
def test_a_trace_of_one_rate_is_that_rate(name: str) -> None:
    flat = Trace(np.array([0.0, 7.0]), np.array([4e3]))
    network = Network("flat", rtt_s=0.2, traces=(TracePair(flat, flat),))
    traced = Fleet.build(4, network, speeds=Speeds(math.inf, math.inf))
    same(
        table(name, links=build(up_bps=4e3, down_bps=4e3, rtt_s=0.2)),
        table(name, links=traced),
        rtol=1e-9,
    )


def test_a_newer_report_takes_the_place_of_one_that_waits_for_the_link() -> None:
    one = int(single(table("duet")).bytes_up.max())
    links = build(up_bps=one * 8 / (2.5 * SEGMENT_S))  # a report takes two and a half segments
    rows = single(table("duet", links=links))
    dropped = rows.groupby("segment").num_dropped.sum()
    # Report 0 is sent until 2.5. Report 1 waits and gives way to report 2, which begins at 2.5; 3
    # gives way to 4.
    assert dropped.tolist() == [0, 0, 4, 0, 4, 0]
    arrived = rows[rows.latency_s.notna()]
    assert sorted(arrived.segment.unique()) == [2, 5]
    np.testing.assert_allclose(arrived[arrived.segment == 2].latency_s, 2.5 * SEGMENT_S)
    np.testing.assert_allclose(
        arrived[arrived.segment == 5].latency_s, 3.0 * SEGMENT_S
    )  # asked at 2, there at 5


def test_a_straggler_misses_the_round_at_the_deadline_and_the_others_go_on_without_it() -> None:
    quick = build(up_bps=1e6, down_bps=1e6)
    slow_up = quick.rate_up_bps.copy()
    slow_up[1] = 10.0
    waits = replace(quick, rate_up_bps=slow_up, up=None)
    misses = replace(waits, conditions=Conditions(deadline_s=5.0))
    names = {"num_train_devices": 4}
    late = single(table("fedavg", links=waits, built=strategy("fedavg", **names)))
    on_time = single(table("fedavg", links=misses, built=strategy("fedavg", **names)))
    assert not late[late.segment == 0].latency_s.notna().any()  # everyone waits for the slowest
    first = on_time[on_time.segment == 0]
    assert (
        first.latency_s.notna().all()
        and (first.latency_s < 6).all()
        and (first.latency_s >= 5).all()
    )
    assert on_time[on_time.device_id == 1].num_dropped.sum() > 0
    assert not on_time[on_time.device_id != 1].num_dropped.any()


def test_parameters_past_their_time_to_live_are_dropped_and_counted() -> None:
    down = int(single(table("duet")).bytes_down.max())
    slow = {"down_bps": down * 8 / (1.5 * SEGMENT_S)}
    kept, lost = (
        single(table("duet", links=build(**slow, rules=rules)))
        for rules in ({}, {"ttl_s": SEGMENT_S})
    )
    assert kept.latency_s.notna().any() and not kept.num_dropped.any()
    assert not lost.latency_s.notna().any() and lost.num_dropped.sum() > 0
    assert kept.num_late.sum() > 0


def test_devices_queue_for_cloud_workers_in_the_order_of_their_reports() -> None:
    one_by_one = build(cloud_s_per_device=2.0, num_cloud_workers=1)
    together = build(cloud_s_per_device=2.0)
    first = single(table("duet", links=one_by_one)).query("segment == 0").latency_s
    assert sorted(first) == [2, 4, 6, 8]
    assert single(table("duet", links=together)).query("segment == 0").latency_s.tolist() == [2] * 4


def test_transfers_share_a_cell() -> None:
    one = int(single(table("duet")).bytes_up.iloc[0])
    rows = single(table("duet", links=build(rules={"cell_up_bps": one * 8.0}))).query(
        "segment == 0"
    )
    np.testing.assert_allclose(rows.latency_s, 4.0)  # a second each, four at a time


def test_slower_phones_train_longer() -> None:
    quantiles = [0.1, 10.0]
    rows = single(
        table("fine_tuning", links=build(device_flops_per_s=1e5, speed_quantiles=quantiles))
    )
    seconds = (
        rows.groupby("device_id").compute_device_s.sum()
        / rows.groupby("device_id").flops_device.sum()
    )
    assert seconds.nunique() == 4
    assert (rows.flops_device > 0).any() and fleet().device_flops_per_s.max() == math.inf
