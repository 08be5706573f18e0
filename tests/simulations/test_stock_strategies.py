"""Flower's own FedAvg and FedProx, unmodified, on our devices and grids."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, FedProx
from tiny import Around, app, fleet, inline, strategy, stream

from cdc_flower.simulations.deployment import deploy
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.simulations.grids.links import LinkGrid
from cdc_flower.simulations.grids.strategy import StrategyGrid
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


def deployed(grid: Grid, **settings: Any) -> tuple[Grid, ArrayRecord]:
    """The grid with a model on its devices, and the adaptive layers to start from."""
    ours = strategy("fedavg", layers="head", num_train_devices=4, **settings)
    deploy(grid, ours)
    return grid, ours.initial_arrays()


def assert_finite(result: Any, num_rounds: int, initial: ArrayRecord) -> None:
    assert set(result.arrays) == set(initial)
    assert all(np.isfinite(array.numpy()).all() for array in result.arrays.values())
    assert any(
        (array.numpy() != initial[name].numpy()).any() for name, array in result.arrays.items()
    )
    assert len(result.evaluate_metrics_clientapp) == num_rounds
    for metrics in result.evaluate_metrics_clientapp.values():
        assert not metrics  # the weights of an average, and nothing to average


@pytest.mark.parametrize(
    "stock", [FedAvg, lambda: FedProx(proximal_mu=0.1)], ids=["fedavg", "fedprox"]
)
@pytest.mark.parametrize("linked", ["none", "segments", "late", "rounds"])
def test_a_stock_strategy_runs_as_it_is(stock: Any, linked: str) -> None:
    grid, initial = deployed(inline())
    rate = 50.0 if linked == "late" else 1e5
    if linked != "none":
        starts_s = None if linked == "rounds" else stream().segment_starts_s
        grid = LinkGrid(grid, fleet(up_bps=rate, down_bps=rate, rtt_s=0.1), starts_s)
    result = stock().start(grid=StrategyGrid(grid), initial_arrays=initial, num_rounds=3)
    assert_finite(result, 3, initial)


@pytest.mark.ray
def test_a_stock_strategy_runs_on_ray_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    from cdc_flower.simulations.grids.ray import RayGrid

    monkeypatch.setenv(
        "PYTHONPATH",
        os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
    )
    results = []
    workers = RayGrid(app(), np.arange(4), num_workers=2)
    try:
        for grid in (InlineGrid(app(), np.arange(4)), workers):
            grid, initial = deployed(grid)
            results.append(
                FedAvg().start(grid=StrategyGrid(grid), initial_arrays=initial, num_rounds=2)
            )
    finally:
        workers.close()
    assert_finite(results[1], 2, initial)
    for name, array in results[0].arrays.items():
        np.testing.assert_allclose(
            array.numpy(), results[1].arrays[name].numpy(), rtol=1e-5, atol=1e-6
        )


def test_the_proximal_term_reaches_the_devices_and_holds_them_back() -> None:
    def distance(mu: float) -> float:
        inner, initial = deployed(inline(), steps=5, rate=0.5, optimizer="sgd")
        around = Around(inner)
        result = FedProx(proximal_mu=mu).start(
            grid=StrategyGrid(around), initial_arrays=initial, num_rounds=1
        )
        assert [batch.configs["config"]["proximal-mu"] for batch in around.sent[:1]] == [mu]
        return float(
            sum(
                np.square(a.numpy() - initial[name].numpy()).sum()
                for name, a in result.arrays.items()
            )
        )

    assert distance(1.0) < 0.9 * distance(0.0)


def test_our_fedavg_of_all_devices_is_the_stock_one() -> None:
    inner, initial = deployed(inline())
    stock = FedAvg().start(grid=StrategyGrid(inner), initial_arrays=initial, num_rounds=3).arrays
    ours = strategy("fedavg", layers="head", num_train_devices=4)
    grid = inline()
    deploy(grid, ours)
    result = ours.start(
        grid=StrategyGrid(grid), initial_arrays=ours.initial_arrays(), num_rounds=3
    ).arrays
    for name, array in stock.items():
        np.testing.assert_allclose(result[name].numpy(), array.numpy(), atol=1e-6)


def test_a_stock_strategy_survives_an_error_reply_under_links() -> None:
    def fail(sent: MessageBatch, replies: MessageBatch) -> list[Message]:
        bad = np.asarray(sent.node_ids) == 3
        errors = sent.select(bad).reply(errors={0: (2, "no battery")}) if bad.any() else []
        return [*[reply for reply in replies if reply.metadata.src_node_id != 3], *errors]

    inner, initial = deployed(inline())
    grid = LinkGrid(Around(inner, fail), fleet(), stream().segment_starts_s)
    assert_finite(
        FedAvg().start(grid=StrategyGrid(grid), initial_arrays=initial, num_rounds=2), 2, initial
    )


def test_samples_of_devices_are_the_devices_that_were_sampled() -> None:
    """Flower samples in random order: each reply must be of the device that it names."""
    inner, initial = deployed(inline())
    around = Around(inner)
    FedAvg(fraction_train=0.5, min_train_nodes=3).start(
        grid=StrategyGrid(around), initial_arrays=initial, num_rounds=4
    )
    evaluations = [
        replies
        for replies in around.replies
        if next(iter(replies)).metadata.message_type == "evaluate"
    ]
    for replies in evaluations:
        batch = MessageBatch.from_messages(replies)
        assert (batch.metrics[records.SCORES][records.DEVICE_ID] == batch.node_ids - 2).all()
