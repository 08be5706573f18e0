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
from hypothesis import given
from hypothesis import strategies as st
from tiny import WIDTH, Around, cloud, inline, model, newly_trained, strategy, stream, table

from cdc_flower.core.errors import UserError
from cdc_flower.core.seeds import torch_generator
from cdc_flower.models import DIN, GRU4Rec, SASRec
from cdc_flower.strategies.duet import Duet
from cdc_flower.strategies.duet.decoders import Decoder
from cdc_flower.strategies.duet.hypernetwork import Hypernetwork
from cdc_flower.strategies.registry import build_strategy
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


@pytest.mark.parametrize("num_generators", [1, 3])
def test_without_training_it_generates_the_base_model_to_the_bit(num_generators: int) -> None:
    duet, base = strategy("duet", epochs=0, num_generators=num_generators), cloud().parameters
    for name, value in duet.generate(sequences()).items():
        for device in range(4):
            np.testing.assert_array_equal(value[device], base[name].numpy())
    for name, value in duet.deployment().items():
        np.testing.assert_array_equal(value, base[name].numpy())


def test_without_training_it_predicts_as_static_does() -> None:
    rows = table("duet", built=strategy("duet", epochs=0))
    np.testing.assert_allclose(rows.value_sum, table("static").value_sum, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_generators", [1, 3])
def test_the_decoders_and_with_joint_the_static_layers_move_in_training(
    num_generators: int,
) -> None:
    start, duet = (
        strategy("duet", epochs=epochs, num_generators=num_generators) for epochs in (0, 2)
    )
    for before, after in zip(start.hypernetwork.decoders, duet.hypernetwork.decoders, strict=True):
        for name, value in before.named_parameters():
            moved = (after.get_parameter(name) - value).abs()
            assert moved.max() > 0
            if value.dim() == 3:
                assert (moved.flatten(1).amax(1) > 0).all(), (
                    f"not every parallel map of {name} moves"
                )
    base = cloud().parameters
    assert not torch.equal(duet.parameters["embedding"], base["embedding"])
    frozen = strategy("duet", joint=False)
    for name, value in base.items():
        if name not in model().adaptive:
            np.testing.assert_array_equal(frozen.deployment()[name], value.numpy())


@pytest.mark.parametrize("num_generators", [1, 3])
def test_every_weight_of_the_hypernetwork_is_registered(num_generators: int) -> None:
    device_model = GRU4Rec(60, 32)
    base = device_model.init(torch_generator(0, "m"))
    built = Hypernetwork(device_model, base, num_generators=num_generators)
    linear = lambda a, b, m=1: m * a * b + b  # noqa: E731
    decoder = linear(32, 32, num_generators) + linear(32, 33 * 32, num_generators)
    expected = 2 * linear(32, 96) + 2 * linear(32, 32) + 2 * (linear(32, 32) + decoder)
    assert sum(p.numel() for p in built.parameters()) == expected


def test_the_optimizer_gets_the_hypernetwork_and_with_joint_the_static_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = sum(value.numel() for value in strategy("duet").hypernetwork.parameters())
    static = sum(
        value.numel() for name, value in cloud().parameters.items() if name not in model().adaptive
    )
    assert num_trained(lambda: newly_trained("duet"), monkeypatch) == own + static
    assert num_trained(lambda: newly_trained("duet", joint=False), monkeypatch) == own


def test_training_never_ends_worse_than_it_began_on_held_out_data() -> None:
    curve = strategy("duet").validation_curve
    assert len(curve) == 3
    assert min(curve) <= curve[0]


def test_a_device_alone_gets_what_it_gets_among_others() -> None:
    duet, histories = strategy("duet", num_generators=2), sequences()
    together = duet.generate(histories)
    for device in range(4):
        for name, value in duet.generate(histories[device : device + 1]).items():
            np.testing.assert_allclose(value[0], together[name][device], rtol=1e-5, atol=1e-6)


def test_the_same_sequence_gives_the_same_layers_and_another_others() -> None:
    histories = sequences()
    generated = strategy("duet").generate(histories[[0, 0, 1]])
    for value in generated.values():
        np.testing.assert_allclose(value[0], value[1], rtol=1e-6, atol=1e-7)
    assert any(np.abs(value[0] - value[2]).max() > 1e-4 for value in generated.values())


def test_more_padding_changes_nothing() -> None:
    duet, histories = strategy("duet"), sequences()
    histories[:, 6:] = 0
    padded = np.concatenate([histories, np.zeros((4, 5), histories.dtype)], axis=1)
    longer = duet.generate(padded)
    for name, value in duet.generate(histories).items():
        np.testing.assert_allclose(value, longer[name], rtol=1e-5, atol=1e-6)


def test_a_device_without_any_item_gets_finite_layers() -> None:
    assert all(
        np.isfinite(v).all()
        for v in strategy("duet").generate(np.zeros((1, 10), np.int32)).values()
    )


def test_devices_use_what_was_generated_and_predict_as_the_cloud_does_in_a_batch() -> None:
    duet = strategy("duet")
    generated, on_devices = duet.generate(sequences()), layers_on_devices(duet)
    for name, value in generated.items():
        np.testing.assert_allclose(on_devices[name], value, rtol=1e-6, atol=1e-7)  # generated twice
    batch, loop = logits_in_a_batch_and_in_a_loop(duet)
    torch.testing.assert_close(batch, loop, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "numbers", "wire_bytes"),
    [(GRU4Rec, 2112, 9315), (SASRec, 2112, 9315), (DIN, 16641, 67800)],
)
def test_it_generates_and_sends_the_adaptive_layers_of_every_model(
    kind: Any, numbers: int, wire_bytes: int
) -> None:
    device_model = kind(60, 32)
    parameters = device_model.init(torch_generator(0, "model"))
    duet = Duet(epochs=1)
    duet.prepare(replace(cloud(), model=device_model, parameters=parameters))
    generated = duet.generate(sequences())
    assert {name: value.shape for name, value in generated.items()} == {
        name: (4, *shape) for name, shape in device_model.adaptive.items()
    }
    down = duet.answer(reports([0, 1]))[0].without(records.INSTRUMENTS)
    assert down.payload_bytes().tolist() == [4 * numbers] * 2
    assert down.wire_bytes().tolist() == [wire_bytes] * 2


def test_work_in_the_cloud_is_that_of_one_generation() -> None:
    w = WIDTH
    encoder = 10 * 2 * (w * 3 * w) + 2 * w * w
    layers = 2 * (w * w + w * w + w * (w + 1) * w)
    assert strategy("duet").hypernetwork.flops(10) == 2 * (encoder + layers)
    assert strategy("duet", num_generators=3).hypernetwork.flops(10) == 2 * (encoder + layers)
    assert strategy("duet", released_code=True).hypernetwork.flops(10) == 2 * (
        encoder + 2 * w * (w + 1) * w
    )


def test_only_devices_that_reported_get_layers() -> None:
    duet = strategy("duet")
    duet.aggregate_train(1, reports([2, 0]))
    adapted, silent = duet.configure_evaluate(1, duet.initial_arrays(), None, inline())  # type: ignore[arg-type]
    assert adapted.node_ids.tolist() == [4, 2]
    assert silent.node_ids.tolist() == [3, 5]
    expected = duet.generate(sequences())
    for name, value in expected.items():
        np.testing.assert_allclose(
            adapted.arrays[records.PARAMETERS][name], value[[2, 0]], rtol=1e-5, atol=1e-6
        )
    assert not silent.without(records.INSTRUMENTS).record_names()
    duet.aggregate_train(2, [])
    nobody = duet.configure_evaluate(2, duet.initial_arrays(), None, inline())  # type: ignore[arg-type]
    assert isinstance(nobody, MessageBatch)
    assert not nobody.without(records.INSTRUMENTS).record_names()


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_with_a_report_lag_layers_are_made_from_what_a_device_saw_so_many_events_earlier(
    lag: int,
) -> None:
    duet, around = strategy("duet", report_lag=lag), Around(inline())
    rows = table("duet", around, built=duet)
    answers = [batch for batch in around.sent if records.PARAMETERS in batch.array_names()]
    assert len(answers) == 6
    for segment, batch in enumerate(answers):
        expected = duet.generate(stream().recent(np.arange(4), segment, lag))
        for name, value in expected.items():
            np.testing.assert_allclose(
                batch.arrays[records.PARAMETERS][name], value, rtol=1e-5, atol=1e-6
            )
    assert (rows.value_sum.to_numpy() != table("duet").value_sum.to_numpy()).any() == (lag > 0)


# The stable weight adapter, equations (6)-(8).


def decoder(first: Any, second: Any, temperature: float = 1.0) -> Decoder:
    """A decoder from one number to one number, with these parallel maps and without biases."""
    built = Decoder(torch.zeros(1), 1, 1, len(first), temperature)
    with torch.no_grad():
        built.first.copy_(torch.tensor(first).view(-1, 1, 1))
        built.second.copy_(torch.tensor(second).view(-1, 1, 1))
        built.first_bias.zero_()
    return built.requires_grad_(False)


def test_maps_are_mixed_by_the_row_sums_of_their_similarities() -> None:
    # S = [[1, 2, -1], [2, 4, -2], [-1, -2, 1]], row sums 2, 4 and -2, p = softmax([2, 4, -2] / 2)
    built = decoder([1.0, 2.0, -1.0], [10.0, 20.0, 30.0], temperature=2.0)
    shares = np.exp([1, 2, -1]) / np.exp([1, 2, -1]).sum()
    np.testing.assert_allclose(built.shares(), shares, rtol=1e-6)
    expected = 5.0 * (shares @ [1, 2, -1]) * (shares @ [10, 20, 30])
    np.testing.assert_allclose(built(torch.tensor([[5.0]])), [[expected]], rtol=1e-6)


@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=5), st.floats(0.1, 10))
def test_shares_sum_to_one_and_a_very_hot_mixture_is_the_mean(
    maps: list[float], temperature: float
) -> None:
    shares = decoder(maps, maps, temperature).shares()
    assert float(shares.sum()) == pytest.approx(1, abs=1e-5)
    assert (shares >= 0).all()
    np.testing.assert_allclose(decoder(maps, maps, 1e9).shares(), 1 / len(maps), atol=1e-6)


def test_one_map_is_equation_4_also_in_its_gradients() -> None:
    torch.manual_seed(0)
    embedding, target = torch.randn(7, 5), torch.randn(7, 6)
    mixed = Decoder(torch.randn(6), 5, 3, temperature=0.3)
    plain = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Linear(3, 6))
    with torch.no_grad():
        mixed.second.normal_()
        for layer, weight, bias in (
            (0, mixed.first, mixed.first_bias),
            (1, mixed.second, mixed.second_bias),
        ):
            plain[layer].weight.copy_(weight[0])
            plain[layer].bias.copy_(bias)
    for network in (mixed, plain):
        torch.nn.functional.mse_loss(network(embedding), target).backward()
    # Up to the order of sums, which need not be that of torch.nn.Linear.
    torch.testing.assert_close(mixed(embedding), plain(embedding))
    torch.testing.assert_close(mixed.first.grad[0], plain[0].weight.grad)  # type: ignore[index]
    torch.testing.assert_close(mixed.second.grad[0], plain[1].weight.grad)  # type: ignore[index]


def test_with_one_map_the_temperature_does_nothing() -> None:
    for one, other in zip(
        *(strategy("duet", temperature=t).deployment().values() for t in (0.1, 5.0)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_several_maps_are_trained_to_something_else_than_one() -> None:
    one, three = (strategy("duet", num_generators=m).deployment() for m in (1, 3))
    assert any(np.abs(value - three[name]).max() > 1e-4 for name, value in one.items())


# What the released code does.


def test_the_released_code_never_trains_its_decoders_and_does_not_start_at_the_base_model() -> None:
    start, trained = (strategy("duet", released_code=True, epochs=epochs) for epochs in (0, 2))
    for before, after in zip(
        start.hypernetwork.decoders, trained.hypernetwork.decoders, strict=True
    ):
        assert torch.equal(before.weight, after.weight)
        assert torch.equal(before.bias, after.bias)
        assert before.weight.abs().max() < 2
        assert before.weight.std() == pytest.approx(
            0.88, abs=0.05
        )  # of a remainder by 2 of a standard normal number
    base = cloud().parameters
    assert np.abs(start.deployment()["head.0.weight"] - base["head.0.weight"].numpy()).max() > 0.5
    assert not torch.equal(trained.parameters["embedding"], base["embedding"])


def test_the_released_code_projects_one_feature_once_for_each_layer() -> None:
    duet = strategy("duet", released_code=True)
    history = torch.from_numpy(sequences()).long()
    with torch.no_grad():
        states = model().item_states(duet.parameters, history)
        feature = duet.hypernetwork.embed(states, (history != 0).sum(-1))
    for layer, decoder in enumerate(duet.hypernetwork.decoders):
        flat = feature @ decoder.weight + decoder.bias
        generated = duet.generate(sequences())
        weight, bias = generated[f"head.{layer}.weight"], generated[f"head.{layer}.bias"]
        np.testing.assert_allclose(
            np.concatenate([weight.reshape(4, -1), bias], 1), flat, rtol=1e-4, atol=1e-5
        )


def test_the_released_code_trains_fewer_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = lambda a, b: a * b + b  # noqa: E731
    static = sum(
        value.numel() for name, value in cloud().parameters.items() if name not in model().adaptive
    )
    encoder = 2 * linear(WIDTH, 3 * WIDTH) + 2 * linear(WIDTH, WIDTH)
    assert (
        num_trained(lambda: newly_trained("duet", released_code=True), monkeypatch)
        == static + encoder
    )


@pytest.mark.slow
def test_it_finds_a_head_that_is_a_function_of_the_sequence_and_only_from_the_right_sequence() -> (
    None
):
    build = lambda: Duet(epochs=12, rate=0.01, max_lag=1, width=16, decoder_width=16)  # noqa: E731
    chance = float(np.log(2))
    before, loss = loss_of_known_optimum(build(), is_shuffled=False)
    assert before > 0.9 * chance
    assert loss < 0.1 * chance
    assert loss_of_known_optimum(build(), is_shuffled=True)[1] == pytest.approx(chance, abs=0.03)


def test_the_released_code_has_no_mixture() -> None:
    rule = "strategy.duet: num_generators must be 1 with released_code.*, got 2"
    with pytest.raises(UserError, match=rule):
        build_strategy("duet", {"released_code": True, "num_generators": 2})
