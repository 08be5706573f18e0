"""Gradient steps on many devices at once, against PyTorch's optimizers on one device at a time."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import NAMES, arrays_of, parameters_of, random_ids, small_model

from cdc_flower.core.stream import LabelledBatch
from cdc_flower.training import fit as training
from cdc_flower.training.fit import LocalTraining, Watch, cross_entropy, fit, train_on_devices
from cdc_flower.training.scoring import Arrays, tensors

COUNTS = [3, 0, 1, 5, 3]


def examples_of(counts: list[int], seed: int = 0) -> LabelledBatch:
    numbers = np.array(counts, np.int64)
    row = np.repeat(np.arange(len(numbers)), numbers)
    slot = np.arange(len(row)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    return LabelledBatch(numbers, row, slot, *random_ids(len(row), seed))


def starts(name: str, layers: str, num_devices: int) -> tuple[Arrays, Arrays]:
    """The deployed model, and each device's own start."""
    model = small_model(name)
    static = arrays_of(parameters_of(model))
    singles = [arrays_of(parameters_of(model, 1 + k)) for k in range(num_devices)]
    names = model.adaptive if layers == "head" else static
    return static, {key: np.stack([single[key] for single in singles]) for key in names}


def train(
    name: str, static: Arrays, start: Arrays, examples: LabelledBatch, how: LocalTraining
) -> Arrays:
    return train_on_devices(
        small_model(name),
        static,
        lambda rows: {key: value[rows] for key, value in start.items()},
        examples,
        how,
    )


def train_alone(
    name: str,
    static: Arrays,
    start: Arrays,
    examples: LabelledBatch,
    how: LocalTraining,
    device: int,
) -> Arrays:
    """One device with PyTorch's own loss and optimizer on its own examples."""
    model, mine = small_model(name), examples.row == device
    leaves = {
        key: value.requires_grad_()
        for key, value in tensors({k: v[device].copy() for k, v in start.items()}).items()
    }
    anchor = {key: value.detach().clone() for key, value in leaves.items()}
    optimizer = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[how.optimizer](
        leaves.values(), lr=how.rate
    )
    history, candidates = (
        torch.from_numpy(ids[mine]).long() for ids in (examples.history, examples.candidates)
    )
    labels = torch.zeros(candidates.shape)
    labels[:, 0] = 1
    for _ in range(how.steps):
        optimizer.zero_grad()
        logits = model.score({**tensors(static), **leaves}, history, candidates)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        for key, value in anchor.items():
            loss = loss + how.proximal_mu / 2 * ((leaves[key] - value) ** 2).sum()
        loss.backward()
        optimizer.step()
    return {key: value.detach().numpy() for key, value in leaves.items()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layers", ["head", "all"])
@pytest.mark.parametrize(
    ("optimizer", "rate", "mu"), [("adam", 1e-2, 0.0), ("sgd", 0.3, 0.0), ("sgd", 0.3, 0.5)]
)
def test_devices_together_equal_each_device_alone(
    name: str, layers: str, optimizer: str, rate: float, mu: float
) -> None:
    static, start = starts(name, layers, len(COUNTS))
    examples, how = examples_of(COUNTS), LocalTraining(layers, 4, rate, optimizer, proximal_mu=mu)
    trained = train(name, static, start, examples, how)
    assert trained.keys() == start.keys()
    for device, count in enumerate(COUNTS):
        expected = train_alone(name, static, start, examples, how, device) if count else None
        for key, value in trained.items():
            if expected is None:
                np.testing.assert_array_equal(value[device], start[key][device])
                continue
            # A bias of all keys cancels in the softmax: its gradient is rounding error, and so are
            # Adam's steps.
            part = slice(8, None) if key == "attention.key_value.bias" else slice(None)
            np.testing.assert_allclose(
                value[device][part], expected[key][part], rtol=1e-4, atol=1e-4
            )
    assert not np.array_equal(trained["head.0.weight"][0], start["head.0.weight"][0])


@settings(max_examples=10)
@given(
    st.sampled_from(NAMES),
    st.lists(st.integers(0, 6), min_size=1, max_size=7),
    st.sampled_from(["head", "all"]),
)
def test_chunks_of_any_size_change_nothing(name: str, counts: list[int], layers: str) -> None:
    static, start = starts(name, layers, len(counts))
    examples, how = examples_of(counts), LocalTraining(layers, 2, 0.1, "sgd")
    whole = train(name, static, start, examples, how)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "NUMBERS_PER_CHUNK", 1)
        for key, value in train(name, static, start, examples, how).items():
            np.testing.assert_allclose(value, whole[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", ["head", "all"])
@pytest.mark.parametrize("neutral", [{"steps": 0}, {"rate": 0.0}])
def test_no_steps_or_a_rate_of_0_change_nothing(layers: str, neutral: dict[str, Any]) -> None:
    static, start = starts("gru4rec", layers, len(COUNTS))
    for key, value in train(
        "gru4rec", static, start, examples_of(COUNTS), LocalTraining(layers, **neutral)
    ).items():
        np.testing.assert_array_equal(value, start[key])


@pytest.mark.parametrize("counts", [[], [0, 0]])
def test_nobody_or_nobody_with_examples_keeps_what_there_is(counts: list[int]) -> None:
    static, start = starts("gru4rec", "head", max(1, len(counts)))
    start = {key: value[: len(counts)] for key, value in start.items()}
    trained = train("gru4rec", static, start, examples_of(counts), LocalTraining())
    for key, value in start.items():
        np.testing.assert_array_equal(trained[key], value)


def test_training_does_not_write_into_its_start_or_the_deployed_model() -> None:
    static, start = starts("din", "all", 2)
    before = (
        {key: value.copy() for key, value in start.items()},
        {key: value.copy() for key, value in static.items()},
    )
    train("din", static, start, examples_of([2, 2]), LocalTraining("all", 2, 0.5, "sgd"))
    for arrays, copies in ((start, before[0]), (static, before[1])):
        assert all(np.array_equal(arrays[key], copies[key]) for key in arrays)


def test_one_static_layer_can_be_trained_alone() -> None:
    static, start = starts("sasrec", "all", 2)
    start, how = {"sequence.weight": start["sequence.weight"]}, LocalTraining("all", 3, 0.5, "sgd")
    examples = examples_of([2, 3])
    trained = train("sasrec", static, start, examples, how)
    for device in range(2):
        expected = train_alone("sasrec", static, start, examples, how, device)
        np.testing.assert_allclose(
            trained["sequence.weight"][device], expected["sequence.weight"], rtol=1e-4, atol=1e-5
        )


def test_a_larger_proximal_term_keeps_devices_closer_to_their_start() -> None:
    static, start = starts("gru4rec", "head", 2)
    moved = []
    for mu in (0.0, 1.0, 9.0):
        trained = train(
            "gru4rec",
            static,
            start,
            examples_of([4, 4]),
            LocalTraining("head", 20, 0.1, "sgd", proximal_mu=mu),
        )
        moved.append(sum(np.square(trained[key] - start[key]).sum() for key in start))
    assert moved[0] > 2 * moved[1] > 4 * moved[2] > 0


def test_the_loss_is_binary_cross_entropy_with_the_first_candidate_true() -> None:
    logits = torch.tensor([[[2.0, -1.0, 0.5]], [[0.0, 0.0, 0.0]]])
    labels = torch.tensor([1.0, 0.0, 0.0]).expand(2, 1, 3)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, labels, reduction="none"
    ).mean(-1)
    torch.testing.assert_close(cross_entropy(logits), expected)
    assert cross_entropy(logits)[1].item() == pytest.approx(np.log(2))


def batch_of(value: float, size: int = 1) -> Any:
    return SimpleNamespace(history=np.full((size, 1), value), candidates=np.zeros((size, 2)))


def distance(weight: torch.Tensor) -> Any:
    """Mean squared distance of a number from the batch's."""
    return lambda batch: (weight - torch.from_numpy(batch.history)).square().mean()


def test_fit_ends_with_the_epoch_that_is_best_on_held_out_data() -> None:
    # Each epoch is one Adam step of about 1 towards 10; held-out data want 2, so the epochs are at
    # 1, 2, 3, 4.
    weight = torch.zeros((), requires_grad=True, dtype=torch.float64)
    curve = fit(
        distance(weight),
        [weight],
        lambda _: [batch_of(10.0)],
        lambda: [batch_of(2.0)],
        epochs=4,
        rate=1.0,
    )
    assert len(curve) == 5 and int(np.argmin(curve)) == 2
    assert curve[0] == 4.0 and weight.item() == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("knobs", [{"epochs": 0, "rate": 1.0}, {"epochs": 3, "rate": 0.0}])
def test_fit_without_epochs_or_rate_leaves_the_parameters(knobs: dict[str, Any]) -> None:
    weight = torch.full((), 0.3, requires_grad=True)
    curve = fit(
        distance(weight), [weight], lambda _: [batch_of(1.0)], lambda: [batch_of(1.0)], **knobs
    )
    assert len(curve) == knobs["epochs"] + 1 and weight.item() == np.float32(0.3)


def test_fit_keeps_the_start_if_every_epoch_is_worse() -> None:
    weight = torch.zeros((), requires_grad=True)
    fit(
        distance(weight),
        [weight],
        lambda _: [batch_of(10.0)],
        lambda: [batch_of(-1.0)],
        epochs=3,
        rate=1.0,
    )
    assert weight.item() == 0.0


def test_fit_without_held_out_data_keeps_the_last_epoch() -> None:
    weight, seen = torch.zeros((), requires_grad=True, dtype=torch.float64), []

    def batches(epoch: int) -> Iterable[Any]:
        seen.append(epoch)
        return [batch_of(10.0), batch_of(10.0)]

    steps: list[int] = []
    fit(
        distance(weight),
        [weight],
        batches,
        lambda: [],
        epochs=2,
        rate=1.0,
        watch=Watch(on_batch=lambda: steps.append(1)),
    )
    assert seen == [0, 1] and len(steps) == 4 and weight.item() == pytest.approx(4, abs=0.2)


def test_held_out_batches_count_by_their_size() -> None:
    weight = torch.zeros((), requires_grad=True)
    held_out = [batch_of(1.0, 3), batch_of(3.0, 1)]  # (3 * 1 + 1 * 9) / 4
    assert fit(distance(weight), [weight], lambda _: [], lambda: held_out, epochs=0, rate=1.0) == [
        3.0
    ]


def test_settings_survive_the_way_through_a_flower_configuration() -> None:
    how = LocalTraining("all", 3, 0.5, "sgd", 7, 2, 0.25)
    assert LocalTraining.from_settings({**how.to_settings(), "server-round": 3}) == how
    assert LocalTraining.from_settings({}) == LocalTraining()
    assert how.to_settings()["proximal-mu"] == 0.25


@pytest.mark.parametrize(
    ("knob", "message"),
    [
        ({"layers": "body"}, "layers must be one of head, all, got 'body'"),
        ({"optimizer": "lion"}, "optimizer must be one of adam, sgd, got 'lion'"),
        ({"steps": -1}, "steps must be >= 0, got -1"),
        ({"rate": float("nan")}, "rate must be >= 0, got nan"),
        ({"proximal_mu": -0.1}, "proximal_mu must be >= 0, got -0.1"),
        ({"max_examples": 0}, "max_examples must be >= 1, got 0"),
        ({"num_negatives": 0}, "num_negatives must be >= 1, got 0"),
    ],
)
def test_values_out_of_range_are_refused(knob: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocalTraining(**knob)


@pytest.mark.parametrize("name", NAMES)
def test_operations_by_hand(name: str) -> None:
    model, counts = small_model(name), np.array([0, 1, 10])
    whole, head = model.flops(5), model.head_flops(5)
    everything = LocalTraining("all", steps=2).flops(model, counts)
    assert everything.tolist() == (counts * 6 * whole).tolist()
    # Static layers once forward; adaptive ones forward and twice that backward, two times.
    assert (
        LocalTraining("head", steps=2).flops(model, counts).tolist()
        == (counts * (whole - head + 6 * head)).tolist()
    )
    assert LocalTraining(steps=0).flops(model, counts).tolist() == [0, 0, 0]


@pytest.mark.parametrize("layers", ["head", "all"])
def test_the_loss_before_the_first_step_is_told(layers: str) -> None:
    static, start = starts("gru4rec", layers, len(COUNTS))
    examples, model = examples_of(COUNTS), small_model("gru4rec")
    for steps in (1, 3):
        losses = np.zeros(len(COUNTS))
        train_on_devices(
            model,
            static,
            lambda rows: {key: value[rows] for key, value in start.items()},
            examples,
            LocalTraining(steps=steps, rate=0.1, proximal_mu=0.5),
            losses,
        )
        for device, count in enumerate(COUNTS):
            mine = examples.row == device
            own = {**static, **{key: value[device] for key, value in start.items()}}
            history, candidates = (
                torch.from_numpy(ids[mine]).long()
                for ids in (examples.history, examples.candidates)
            )
            expected = float(cross_entropy(model.score(tensors(own), history, candidates)).mean())
            assert losses[device] == pytest.approx(expected if count else 0.0, rel=1e-4)
