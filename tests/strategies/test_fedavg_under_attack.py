"""FedAvg with every rule in runs: alone, with few devices, and with hostile ones."""

import logging
from typing import Any

import numpy as np
import pandas as pd
import pytest
from attack_cases import made
from flwr.app import ConfigRecord
from run_cases import config_of
from tiny import LABELS, fleet, inline, same, strategy, stream, table

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.attacks import attacks
from cdc_flower.simulations.attacks.link import WithAttack
from cdc_flower.simulations.attacks.setup import scene_of
from cdc_flower.strategies.base import to_record
from cdc_flower.strategies.fedavg import FedAvg
from cdc_flower.strategies.fedavg.aggregation import Layout
from cdc_flower.strategies.fedavg.rules import rules
from cdc_flower.study.play import play
from cdc_flower.study.setup import prepare
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

#: Settings with which each rule is itself on four devices.
FEW: dict[str, dict[str, Any]] = {"trimmed_mean": {"trim_share": 0.4}}
GLOBAL = {"w": np.array([[10.0, 20.0]], np.float32), "b": np.array([5.0], np.float64)}


def ready(**settings: Any) -> FedAvg:
    built = strategy("fedavg", num_train_devices=4, **settings)
    built.initial_arrays()
    built.configure_train(1, to_record(GLOBAL), ConfigRecord(), inline())
    return built


def replies(updates: Any, weights: Any = None) -> MessageBatch:
    rows = np.asarray(updates, np.float64)
    arrays = {
        "w": (GLOBAL["w"] + rows[:, None, :2]).astype(np.float32),
        "b": GLOBAL["b"] + rows[:, 2:],
    }
    return MessageBatch(
        records.TRAIN,
        np.arange(len(rows)) + 2,
        arrays={records.ARRAYS: arrays},
        metrics={records.METRICS: {records.NUM_EXAMPLES: np.array(weights or [1] * len(rows))}},
        is_reply=True,
    )


def update_of(built: FedAvg, batch: MessageBatch) -> np.ndarray:
    arrays, _ = built.aggregate_train(1, batch)
    assert arrays is not None
    assert {name: value.numpy().dtype for name, value in arrays.items()} == {
        name: value.dtype for name, value in GLOBAL.items()
    }
    parts = [arrays[name].numpy() - value for name, value in GLOBAL.items()]
    return np.concatenate([part.ravel() for part in parts])


@pytest.mark.parametrize("rule", rules)
def test_every_rule_plays_and_is_the_same_again(rule: str) -> None:
    settings = {"rule": rule, "num_train_devices": 4, **FEW.get(rule, {})}
    rows = [table("fedavg", built=strategy("fedavg", **settings)) for _ in range(2)]
    same(rows[0], rows[1])
    plain = table("fedavg", built=strategy("fedavg", num_train_devices=4))
    # Of four devices bulyan and multi_krum can bear no hostile one, and all count the same.
    is_mean = np.allclose(rows[0].value_sum, plain.value_sum, rtol=1e-5, equal_nan=True)
    assert is_mean == (rule in ("mean", "bulyan", "multi_krum"))
    assert rows[0].bytes_up.equals(plain.bytes_up)


def test_a_rule_adds_an_update_to_the_model_that_was_sent() -> None:
    updates = [[1, 0, 2], [2, 4, 4], [3, 1, 0], [9, 9, 9]]
    np.testing.assert_allclose(update_of(ready(rule="median"), replies(updates)), [2.5, 2.5, 3])


def test_updates_are_differences_from_the_model_in_double_precision() -> None:
    layout = Layout(GLOBAL)
    found = layout.updates(replies([[1, 0, 2], [2, 4, 4]]))
    assert found.dtype == np.float64 and layout.num_numbers == 3
    np.testing.assert_array_equal(found, [[1, 0, 2], [2, 4, 4]])
    narrow = Layout({"w": GLOBAL["w"]}).updates(replies([[1, 0, 2]]))
    assert narrow.dtype == np.float64


def test_a_device_without_an_example_does_not_count_and_no_claim_above_the_most_does() -> None:
    updates = [[1, 1, 1], [2, 2, 2], [3, 3, 3], [100, 100, 100]]
    batch = replies(updates, [1, 5, 9, 0])
    np.testing.assert_allclose(update_of(ready(rule="median"), batch), [2, 2, 2])
    most = ready(clip_norm=1e9).max_examples
    claimed = replies([[1, 1, 1], [3, 3, 3], [0, 0, 0], [0, 0, 0]], [most, 10**9, 0, 0])
    np.testing.assert_allclose(update_of(ready(clip_norm=1e9), claimed), [2, 2, 2], rtol=1e-6)


def test_norms_are_held_before_any_rule() -> None:
    updates = [[3, 4, 0], [0, 0, 0.5], [0, 0, 0.5], [0, 0, 0.5]]
    expected = np.mean([[0.6, 0.8, 0], *[[0, 0, 0.5]] * 3], axis=0)
    np.testing.assert_allclose(
        update_of(ready(clip_norm=1.0), replies(updates)), expected, atol=1e-6
    )
    held = update_of(ready(clip_norm="median"), replies(updates))
    np.testing.assert_allclose(held, [0.075, 0.1, 0.375], atol=1e-6)
    chosen = update_of(ready(rule="krum", clip_norm=0.1), replies(updates))
    np.testing.assert_allclose(chosen, [0, 0, 0.1], atol=1e-6)


def test_a_center_goes_on_from_round_to_round_and_a_new_run_forgets_it() -> None:
    built = ready(rule="centered_clipping", clip_steps=1)
    updates = [[1, 0, 0], [1.2, 0, 0], [0.8, 0, 0], [50, 0, 0]]
    first, second = (update_of(built, replies(updates)) for _ in range(2))
    assert not np.allclose(first, second)
    built.initial_arrays()
    built.configure_train(1, to_record(GLOBAL), ConfigRecord(), inline())
    np.testing.assert_array_equal(update_of(built, replies(updates)), first)


def test_where_too_few_devices_answered_the_model_stays_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    built = ready(rule="bulyan", num_hostile=0)
    caplog.set_level(logging.WARNING, "cdc_flower")
    assert built.aggregate_train(1, replies([[1, 1, 1], [2, 2, 2]])) == (None, None)
    assert "rule=bulyan needs 3 devices that trained, got 2: the model stays" in caplog.text
    quiet = built.configure_evaluate(1, to_record(GLOBAL), ConfigRecord(), inline())
    assert isinstance(quiet, MessageBatch)
    assert not quiet.without(records.INSTRUMENTS).record_names()


@pytest.mark.parametrize("num_hostile", [2, 24])
def test_a_fleet_that_is_too_small_for_a_rule_is_refused_before_anything_is_trained(
    num_hostile: int,
) -> None:
    config = config_of(
        "strategies=[static,fedavg]",
        "strategy.fedavg.num_train_devices=100",
        "strategy.fedavg.rule=bulyan",
        f"strategy.fedavg.num_hostile={num_hostile}",
    )
    words = (
        rf"strategy\.fedavg: rule=bulyan with num_hostile={num_hostile} must have at least "
        rf"{4 * num_hostile + 3} devices in a round, got 8"
    )
    with pytest.raises(UserError, match=words):
        prepare(config)


def test_a_round_with_too_few_nodes_is_refused_too() -> None:
    built = strategy("fedavg", num_train_devices=9, rule="krum", num_hostile=3)
    with pytest.raises(UserError, match="rule=krum with num_hostile=3 must have at least 9"):
        built.configure_train(1, built.initial_arrays(), ConfigRecord(), inline())


# Hostile devices.


NUM_DEVICES = 20
TRAINS: dict[str, Any] = {"num_train_devices": NUM_DEVICES, "rate": 0.02, "steps": 3}


def loss(name: str, share: float = 0.2, **settings: Any) -> float:
    """Loss of honest devices after the first segment, of which a share flips and scales by 10."""
    frames: list[pd.DataFrame] = []
    attack = made("sign_flip", share=share, scale=10.0)
    play(
        strategy(name, NUM_DEVICES, **settings),
        inline(NUM_DEVICES),
        fleet(NUM_DEVICES),
        stream(NUM_DEVICES).segment_starts_s,
        labels={**LABELS, "strategy": name},
        collect=frames.append,
        chain=[WithAttack(attack, 0, scene_of(stream(NUM_DEVICES)))],
    )
    rows = pd.concat(frames, ignore_index=True)
    is_honest = ~made("sign_flip").hostile(NUM_DEVICES, 0)[rows.device_id]
    rows = rows[(rows.metric == "log_loss") & is_honest & (rows.segment > 0)]
    return float(rows.value_sum.sum() / rows.value_count.sum())


def test_where_a_fifth_flip_and_scale_their_updates_the_mean_fails_and_robust_rules_hold() -> None:
    static, clean = loss("static"), loss("fedavg", 0.0, **TRAINS)
    assert loss("fedavg", **TRAINS) > max(static, clean) + 1
    ways = [{"rule": rule} for rule in rules if rule != "mean"] + [{"clip_norm": "median"}]
    found = {str(how): loss("fedavg", **TRAINS, **how) for how in ways}
    assert max(found.values()) < clean + 0.02, found


def test_attackers_see_contexts_and_the_popularity_of_items() -> None:
    setup = prepare(config_of("strategies=[static]"))
    scene = scene_of(setup.stream)
    assert scene.contexts(np.arange(8), 1).shape == (8,)
    assert scene.popularity().sum() > 0 and len(scene.popularity()) == scene.num_items + 1
    assert "sign_flip" in attacks
