import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord
from tiny import Around, cloud, inline, strategy, table

from cdc_flower.strategies.fedavg import FedAvg
from cdc_flower.strategies.fedavg.strategy import weighted_mean
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


def replies(values: list[float], weights: list[int], nodes: list[int]) -> MessageBatch:
    return MessageBatch(
        "train",
        np.array(nodes),
        arrays={records.ARRAYS: {"w": np.array(values, np.float32)[:, None]}},
        metrics={records.METRICS: {records.NUM_EXAMPLES: np.array(weights)}},
        is_reply=True,
    )


def ready(**settings: Any) -> FedAvg:
    built = strategy("fedavg", **settings)
    built.configure_train(1, built.initial_arrays(), ConfigRecord(), inline())
    return built


def test_the_mean_is_weighted_by_examples() -> None:
    arrays, metrics = ready().aggregate_train(1, replies([1.0, 5.0, 2.0], [1, 3, 0], [2, 3, 4]))
    assert arrays is not None and metrics is not None
    assert arrays["w"].numpy().tolist() == [(1 * 1 + 3 * 5) / 4]
    assert arrays["w"].numpy().dtype == np.float32
    assert metrics[records.NUM_EXAMPLES] == 4


def test_arrays_that_devices_share_are_averaged_too() -> None:
    batch = MessageBatch(
        "train",
        np.array([2, 3]),
        shared={records.ARRAYS: {"w": np.ones(2, np.float32)}},
        is_reply=True,
    )
    assert weighted_mean(batch, np.array([1.0, 3.0]))["w"].tolist() == [1, 1]


def test_the_order_of_the_replies_changes_no_bit() -> None:
    batch = replies([0.0] * 4, [1, 1, 1, 1], [2, 3, 4, 5])
    batch = batch.with_records(
        arrays={records.ARRAYS: {"w": np.array([[1e16], [1.0], [-1e16], [1.0]])}}
    )
    assert (
        weighted_mean(batch, np.ones(4))["w"]
        != weighted_mean(batch.select([1, 2, 3, 0]), np.ones(4))["w"]
    )
    ordered, _ = ready().aggregate_train(1, batch)
    mixed, _ = ready().aggregate_train(1, list(batch.select([1, 2, 3, 0])))
    assert ordered is not None and mixed is not None
    np.testing.assert_array_equal(ordered["w"].numpy(), mixed["w"].numpy())


def test_an_error_and_an_empty_device_do_not_count_and_without_any_example_nothing_changes() -> (
    None
):
    good = replies([1.0, 9.0], [2, 5], [2, 3])
    failed = MessageBatch("train", np.array([4]), is_reply=True, errors={0: (2, "x")})
    arrays, _ = ready().aggregate_train(1, [*good.select([0]), *failed])
    assert arrays is not None
    assert arrays["w"].numpy().tolist() == [1.0]
    assert ready().aggregate_train(1, failed) == (None, None)
    assert ready().aggregate_train(1, []) == (None, None)
    assert ready().aggregate_train(1, replies([1.0], [0], [2])) == (None, None)


def sampled(built: FedAvg, num_rounds: int = 5) -> list[list[int]]:
    arrays = built.initial_arrays()
    batches = [
        built.configure_train(r, arrays, ConfigRecord(), inline()) for r in range(1, num_rounds + 1)
    ]
    return [batch.node_ids.tolist() for batch in batches]  # type: ignore[attr-defined]


def test_devices_are_sampled_by_our_seed_and_round_and_nothing_else() -> None:
    random.seed(1)
    first = sampled(strategy("fedavg", num_train_devices=2))
    random.seed(2)
    np.random.seed(2)
    assert sampled(strategy("fedavg", num_train_devices=2)) == first
    assert len({tuple(nodes) for nodes in first}) > 1
    other = strategy("fedavg", num_train_devices=2)
    other.prepare(replace(cloud(), seed=1))
    assert sampled(other) != first
    assert all(len(nodes) == 2 and nodes == sorted(nodes) for nodes in first)
    assert sampled(strategy("fedavg", num_train_devices=99), 1) == [[2, 3, 4, 5]]


def test_with_no_device_to_train_it_is_static() -> None:
    rows, static = table("fedavg", built=strategy("fedavg", num_train_devices=0)), table("static")
    np.testing.assert_allclose(rows.value_sum, static.value_sum, rtol=1e-5, atol=1e-6)
    assert rows.bytes_down.sum() == rows.bytes_up.sum() == 0


def test_the_new_model_goes_to_every_device_and_only_if_it_is_new() -> None:
    built = ready()
    arrays, _ = built.aggregate_train(1, replies([1.0], [1], [2]))
    assert arrays is not None
    batch = built.configure_evaluate(1, arrays, ConfigRecord(), inline())
    assert isinstance(batch, MessageBatch)
    assert batch.node_ids.tolist() == [2, 3, 4, 5]
    assert batch.shared[records.ARRAYS]["w"].tolist() == [1.0]
    built.configure_train(2, arrays, ConfigRecord(), inline())
    built.aggregate_train(2, [])
    quiet = built.configure_evaluate(2, arrays, ConfigRecord(), inline())
    assert isinstance(quiet, MessageBatch)
    assert not quiet.without(records.INSTRUMENTS).record_names()


@pytest.mark.parametrize("layers", ["head", "all"])
def test_it_sends_the_head_or_the_whole_model(layers: str) -> None:
    around = Around(inline())
    built = strategy("fedavg", layers=layers)
    table("fedavg", around, built=built)
    names = set(cloud().model.adaptive) if layers == "head" else set(cloud().parameters)
    for batch in around.sent[1:]:
        if batch.array_names():
            assert set(batch.shared[records.ARRAYS]) == names
    assert set(built.initial_arrays()) == names


def test_tuning_after_each_new_model_costs_labels_and_time_on_every_device() -> None:
    plain, tuned = table("fedavg"), table("fedavg", built=strategy("fedavg", fine_tuning_steps=3))
    assert tuned.num_labels.sum() > plain.num_labels.sum()
    assert (tuned.value_sum != plain.value_sum).any()


def test_settings_are_deployed_and_flower_s_fedavg_is_what_it_is() -> None:
    from flwr.serverapp.strategy import FedAvg as FlowerFedAvg

    built = strategy("fedavg", proximal_mu=0.5, fine_tuning_steps=2)
    assert isinstance(built, FlowerFedAvg)
    assert built.settings()["proximal-mu"] == 0.5
    assert built.settings()[records.FINE_TUNING_STEPS] == 2
    assert isinstance(built.initial_arrays(), ArrayRecord)
