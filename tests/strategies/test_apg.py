from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from generation_cases import (
    layers_on_devices,
    logits_in_a_batch_and_in_a_loop,
    loss_of_known_optimum,
    num_trained,
    reports,
    sequences,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import WIDTH, Around, cloud, inline, model, newly_trained, strategy, stream, table

from cdc_flower.core.seeds import torch_generator
from cdc_flower.models import DIN, GRU4Rec, SASRec
from cdc_flower.strategies.apg import Apg
from cdc_flower.strategies.apg.decoder import CORE
from cdc_flower.strategies.apg.strategy import base_start, composed, factored_head
from cdc_flower.strategies.base import Cloud
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

MODELS = pytest.mark.parametrize("kind", [GRU4Rec, SASRec, DIN])


def cloud_of(kind: Any, width: int = 8) -> Cloud:
    device_model = kind(60, width)
    return replace(
        cloud(), model=device_model, parameters=device_model.init(torch_generator(0, "model"))
    )


def truncated(weight: torch.Tensor, rank: int) -> np.ndarray:
    """The best approximation of a rank, by NumPy."""
    u, s, v = np.linalg.svd(weight.numpy(), full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ v[:rank]


@MODELS
@pytest.mark.parametrize("rank", [1, 3, 16, 200])
def test_without_training_every_sequence_gives_the_base_model_s_head_cut_to_the_rank(
    kind: Any, rank: int
) -> None:
    given_ = cloud_of(kind)
    apg = Apg(epochs=0, rank=rank)
    apg.prepare(given_)
    for core in apg.generate(sequences()).values():
        np.testing.assert_array_equal(
            core, np.broadcast_to(np.eye(rank, dtype=np.float32), (4, rank, rank))
        )
    deployed = apg.deployment()
    for name, value in given_.parameters.items():
        expected = (
            truncated(value, rank)
            if name.startswith("head") and name.endswith("weight")
            else value.numpy()
        )
        np.testing.assert_allclose(deployed[name], expected, rtol=1e-4, atol=1e-5)


def test_with_the_full_rank_it_predicts_without_training_as_static_does() -> None:
    rows = table("apg", built=strategy("apg", epochs=0, rank=WIDTH))
    np.testing.assert_allclose(rows.value_sum, table("static").value_sum, rtol=1e-5, atol=1e-6)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_the_error_of_the_start_is_that_of_the_singular_values_left_out(
    a: int, b: int, rank: int, seed: int
) -> None:
    draws = torch.Generator().manual_seed(seed)
    weight, device_model = torch.randn(a, b, generator=draws), GRU4Rec(5, 4)
    device_model.head_sizes = ((a, b),)
    base = replace(
        cloud(),
        model=device_model,
        parameters={"head.0.weight": weight, "head.0.bias": torch.ones(b)},
    )
    decoders, maps = base_start(base, 3, rank, draws)
    assert decoders["decoder.0.weight"].shape == (3, rank * rank)
    layers = composed({"head.0.core": torch.eye(rank)}, maps)
    left_out = torch.linalg.svdvals(weight)[rank:].square().sum().sqrt()
    error = (layers["head.0.weight"] - weight).square().sum().sqrt()
    assert float(error) == pytest.approx(float(left_out), abs=1e-4)
    assert torch.equal(layers["head.0.bias"], torch.ones(b))


def test_a_layer_is_composed_of_three_maps_and_the_bias_between_them() -> None:
    # x = 5: (5 · 2 + 1) · 3 · 7 + 0.5 = 231.5, which is 5 K + k with K = 2 · 3 · 7 = 42 and k = 1 ·
    # 3 · 7 + 0.5 = 21.5
    values = {"left": [[2.0]], "left_bias": [1.0], "right": [[7.0]], "right_bias": [0.5]}
    maps = {f"apg.0.{name}": torch.tensor(value) for name, value in values.items()}
    core = torch.tensor([[3.0]])
    assert factored_head(torch.tensor([[[5.0]]]), [core[None]], maps).item() == 231.5
    layers = composed({"head.0.core": core}, maps)
    assert (layers["head.0.weight"].item(), layers["head.0.bias"].item()) == (42, 21.5)


def test_devices_compose_what_was_generated_and_predict_as_the_cloud_does_in_a_batch() -> None:
    apg = strategy("apg")
    cores, on_devices = apg.generate(sequences()), layers_on_devices(apg)
    for device in range(4):
        one = {name: torch.from_numpy(value[device]) for name, value in cores.items()}
        for name, value in composed(one, apg.maps).items():
            np.testing.assert_allclose(on_devices[name][device], value, rtol=1e-4, atol=1e-5)
    batch, loop = logits_in_a_batch_and_in_a_loop(apg)
    torch.testing.assert_close(batch, loop, rtol=1e-4, atol=1e-5)


def test_devices_start_with_the_mean_core() -> None:
    apg = strategy("apg")
    first = next(iter(apg.cloud.train.batches(4096, 0, 0, 4))).history
    mean = {name: torch.from_numpy(value.mean(0)) for name, value in apg.generate(first).items()}
    for name, value in composed(mean, apg.maps).items():
        np.testing.assert_allclose(apg.deployment()[name], value, rtol=1e-4, atol=1e-5)


def test_decoders_outer_maps_and_with_joint_the_static_layers_move_in_training() -> None:
    start, trained = strategy("apg", epochs=0), strategy("apg")
    for name in (*start.hypernetwork, *start.maps):
        group = "maps" if name.startswith("apg") else "hypernetwork"
        assert not torch.equal(getattr(trained, group)[name], getattr(start, group)[name]), name
    assert not torch.equal(trained.parameters["embedding"], cloud().parameters["embedding"])
    frozen = strategy("apg", joint=False).deployment()
    for name, value in cloud().parameters.items():
        if name not in model().adaptive:
            np.testing.assert_array_equal(frozen[name], value.numpy())


def test_directions_beyond_the_rank_of_a_layer_are_used_once_it_is_trained() -> None:
    given_ = cloud_of(DIN)
    apg = Apg(epochs=1, rate=0.01, rank=4, width=8)
    apg.prepare(given_)
    right = apg.maps["apg.2.right"]  # [4, 1], of which one row is the base model's at first
    assert (right.abs() > 0).all()


@pytest.mark.parametrize("joint", [True, False])
def test_the_optimizer_gets_all_that_is_learned(
    joint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    linear = lambda a, b: a * b + b  # noqa: E731
    encoder = 2 * linear(WIDTH, 3 * WIDTH) + 2 * linear(WIDTH, WIDTH)
    maps, decoders = 2 * (linear(WIDTH, 4) + linear(4, WIDTH)), 2 * linear(WIDTH, 16)
    static = sum(
        value.numel() for name, value in cloud().parameters.items() if name not in model().adaptive
    )
    expected = encoder + maps + (static if joint else 0)
    assert (
        num_trained(lambda: newly_trained("apg", joint=joint), monkeypatch) == expected + decoders
    )
    assert (
        num_trained(lambda: newly_trained("apg", joint=joint, released_code=True), monkeypatch)
        == expected
    )


def test_training_never_ends_worse_than_it_began_on_held_out_data() -> None:
    curve = strategy("apg").validation_curve
    assert len(curve) == 3
    assert min(curve) < curve[0]


def test_a_device_alone_gets_what_it_gets_among_others() -> None:
    apg, histories = strategy("apg"), sequences()
    together = apg.generate(histories)
    for device in range(4):
        for name, value in apg.generate(histories[device : device + 1]).items():
            np.testing.assert_allclose(value[0], together[name][device], rtol=1e-5, atol=1e-6)


def test_the_same_sequence_gives_the_same_cores_and_another_others() -> None:
    generated = strategy("apg").generate(sequences()[[0, 0, 1]])
    for value in generated.values():
        np.testing.assert_allclose(value[0], value[1], rtol=1e-6, atol=1e-7)
    assert any(np.abs(value[0] - value[2]).max() > 1e-4 for value in generated.values())


def test_more_padding_changes_nothing() -> None:
    apg, histories = strategy("apg"), sequences()
    histories[:, 6:] = 0
    padded = np.concatenate([histories, np.zeros((4, 5), histories.dtype)], axis=1)
    longer = apg.generate(padded)
    for name, value in apg.generate(histories).items():
        np.testing.assert_allclose(value, longer[name], rtol=1e-5, atol=1e-6)


def test_a_device_without_any_item_gets_finite_cores() -> None:
    assert all(
        np.isfinite(v).all() for v in strategy("apg").generate(np.zeros((1, 10), np.int32)).values()
    )


@pytest.mark.parametrize(
    ("kind", "num_layers", "num_deployed", "wire_bytes"),
    [(GRU4Rec, 2, 2144, 2551), (SASRec, 2, 2144, 2551), (DIN, 3, 7425, 3753)],
)
def test_a_core_of_256_numbers_a_layer_travels(
    kind: Any, num_layers: int, num_deployed: int, wire_bytes: int
) -> None:
    apg = Apg(epochs=0)
    apg.prepare(cloud_of(kind, 32))
    down = apg.answer(reports([0, 1, 2, 3]))[0].without(records.INSTRUMENTS)
    assert {name: value.shape for name, value in down.arrays[CORE].items()} == {
        f"head.{layer}.core": (4, 16, 16) for layer in range(num_layers)
    }
    assert down.payload_bytes().tolist() == [num_layers * 1024] * 4
    assert (
        sum(value.size for name, value in apg.deployment().items() if name.startswith("apg"))
        == num_deployed
    )
    assert down.wire_bytes().tolist() == [wire_bytes] * 4


def test_work_in_the_cloud_is_that_of_one_generation() -> None:
    w, rank = WIDTH, 4
    encoder = 10 * 2 * (w * 3 * w) + 2 * w * w
    assert strategy("apg").flops() == 2 * (encoder + 2 * w * rank**2)


def test_only_devices_that_reported_get_cores() -> None:
    apg = strategy("apg")
    apg.aggregate_train(1, reports([2, 0]))
    adapted, silent = apg.configure_evaluate(1, apg.initial_arrays(), None, inline())  # type: ignore[arg-type]
    assert adapted.node_ids.tolist() == [4, 2]
    assert silent.node_ids.tolist() == [3, 5]
    for name, value in apg.generate(sequences()).items():
        np.testing.assert_allclose(adapted.arrays[CORE][name], value[[2, 0]], rtol=1e-5, atol=1e-6)
    apg.aggregate_train(2, [])
    nobody = apg.configure_evaluate(2, apg.initial_arrays(), None, inline())  # type: ignore[arg-type]
    assert isinstance(nobody, MessageBatch)
    assert not nobody.without(records.INSTRUMENTS).record_names()


def test_with_a_report_lag_cores_are_made_from_what_a_device_saw_an_event_earlier() -> None:
    apg, around = strategy("apg", report_lag=1), Around(inline())
    table("apg", around, built=apg)
    answers = [batch for batch in around.sent if CORE in batch.array_names()]
    assert len(answers) == 6
    for segment, batch in enumerate(answers):
        for name, value in apg.generate(stream().recent(np.arange(4), segment, 1)).items():
            np.testing.assert_allclose(batch.arrays[CORE][name], value, rtol=1e-5, atol=1e-6)


def test_the_released_code_never_trains_its_decoders_and_does_not_start_at_the_base_model() -> None:
    start, trained = (strategy("apg", released_code=True, epochs=epochs) for epochs in (0, 2))
    for layer in range(2):
        for part in ("weight", "bias"):
            name = f"decoder.{layer}.{part}"
            assert torch.equal(start.hypernetwork[name], trained.hypernetwork[name])
            assert start.hypernetwork[name].abs().max() < 2
        assert not torch.equal(start.maps[f"apg.{layer}.left"], trained.maps[f"apg.{layer}.left"])
        assert np.abs(start.generate(sequences())[f"head.{layer}.core"] - np.eye(4)).max() > 0.5
    assert not torch.equal(trained.parameters["embedding"], cloud().parameters["embedding"])


@pytest.mark.slow
def test_it_finds_a_head_that_is_a_function_of_the_sequence_and_only_from_the_right_sequence() -> (
    None
):
    build = lambda: Apg(epochs=12, rate=0.01, max_lag=1, rank=8, width=16)  # noqa: E731
    chance = float(np.log(2))
    before, loss = loss_of_known_optimum(build(), is_shuffled=False)
    assert before > 0.9 * chance
    assert loss < 0.1 * chance
    assert loss_of_known_optimum(build(), is_shuffled=True)[1] == pytest.approx(chance, abs=0.03)
