import numpy as np
from tiny import cloud, inline, strategy, table

from cdc_flower.simulations.deployment import deploy
from cdc_flower.simulations.grids.strategy import StrategyGrid


def test_the_deployment_is_the_base_model() -> None:
    deployed, base = strategy("static").deployment(), cloud().parameters
    assert set(deployed) == set(base)
    for name, value in base.items():
        np.testing.assert_array_equal(deployed[name], value.numpy())


def test_nothing_is_sent_learned_or_paid() -> None:
    rows = table("static")
    assert (
        rows[["bytes_up", "bytes_down", "num_labels", "compute_cloud_s", "compute_device_s"]]
        .to_numpy()
        .sum()
        == 0
    )
    assert rows.latency_s.isna().all()


def test_the_parameters_age_by_a_segment_in_each_segment() -> None:
    rows = table("static").drop_duplicates("segment")
    assert rows.staleness_s.tolist() == rows.time_s.tolist()


def test_devices_keep_the_model_that_was_deployed() -> None:
    grid, built = inline(), strategy("static")
    deploy(grid, built)
    before = {name: value.copy() for name, value in grid.states.pool.items()}  # type: ignore[attr-defined]
    built.start(grid=StrategyGrid(grid), initial_arrays=built.initial_arrays(), num_rounds=2)
    for name, value in grid.states.pool.items():  # type: ignore[attr-defined]
        np.testing.assert_array_equal(value, before[name])
