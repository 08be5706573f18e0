"""Links under strategies: who sends pays, by the bytes of messages, and by no computer's clock."""

import time
from typing import Any

import numpy as np
import pytest
from link_cases import size
from tiny import Around, fleet, inline, same, strategy, stream, table

from cdc_flower.simulations.deployment import deploy
from cdc_flower.simulations.grids.links import LinkGrid
from cdc_flower.simulations.grids.strategy import StrategyGrid
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.protobuf import envelope_bytes


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
