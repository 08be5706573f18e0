"""Links in rounds, whose time goes on until the slowest reply is in; what an observer is told."""

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import FedAvg
from link_cases import STARTS_S, Devices, hand_out, links_of, lonely, size, watched
from tiny import Around, app, fleet, strategy

from cdc_flower.simulations.deployment import deploy
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.simulations.grids.links import LinkGrid
from cdc_flower.simulations.grids.strategy import StrategyGrid
from cdc_flower.wire.batch import MessageBatch


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
