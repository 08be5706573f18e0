from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import WIDTH, cloud, inline, model, strategy, stream, table

from cdc_flower import records
from cdc_flower.batch import MessageBatch
from cdc_flower.errors import UserError
from cdc_flower.models import DIN, GRU4Rec, SASRec
from cdc_flower.seeds import torch_generator
from cdc_flower.strategies import Duet, build_strategy
from cdc_flower.strategies.base import Cloud
from cdc_flower.strategies.duet.hypernetwork import Hypernetwork
from cdc_flower.training import cross_entropy


def sequences() -> np.ndarray:
    return stream().recent(np.arange(4), 0)


def test_without_training_it_generates_the_base_model_to_the_bit() -> None:
    duet, base = strategy("duet", epochs=0), cloud().parameters
    for name, value in duet.generate(sequences()).items():
        for device in range(4):
            np.testing.assert_array_equal(value[device], base[name].numpy())
    for name, value in duet.deployment().items():
        np.testing.assert_array_equal(value, base[name].numpy())


def test_without_training_it_predicts_as_static_does() -> None:
    rows = table("duet", built=strategy("duet", epochs=0))
    np.testing.assert_allclose(rows.value_sum, table("static").value_sum, rtol=1e-5, atol=1e-6)


def test_the_decoders_and_with_joint_the_static_layers_move_in_training() -> None:
    duet, base = strategy("duet"), cloud().parameters
    for decoder in duet.hypernetwork.decoder_out:
        assert decoder.weight.abs().max() > 0
    assert not torch.equal(duet.parameters["embedding"], base["embedding"])
    frozen = strategy("duet", joint=False)
    for name, value in base.items():
        if name not in model().adaptive:
            np.testing.assert_array_equal(frozen.deployment()[name], value.numpy())


def test_every_weight_of_the_hypernetwork_is_registered() -> None:
    built = Hypernetwork(GRU4Rec(60, 32), {n: v for n, v in GRU4Rec(60, 32).init(torch_generator(0, "m")).items()})
    linear = lambda a, b: a * b + b  # noqa: E731
    layer = linear(32, 32) + linear(32, 32) + linear(32, 33 * 32)
    expected = 2 * linear(32, 96) + 2 * linear(32, 32) + 2 * layer
    assert sum(p.numel() for p in built.parameters()) == expected


def test_training_never_ends_worse_than_it_began_on_held_out_data() -> None:
    curve = strategy("duet").validation_curve
    assert len(curve) == 3
    assert min(curve) <= curve[0]


def test_a_device_alone_gets_what_it_gets_among_others() -> None:
    duet, histories = strategy("duet"), sequences()
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
    assert all(np.isfinite(v).all() for v in strategy("duet").generate(np.zeros((1, 10), np.int32)).values())


def test_many_devices_are_generated_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    duet = strategy("duet")
    whole = duet.generate(sequences())
    monkeypatch.setattr("cdc_flower.strategies.duet.strategy.DEVICES_PER_CHUNK", 3)
    for name, value in duet.generate(sequences()).items():
        np.testing.assert_allclose(value, whole[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "numbers"), [(GRU4Rec, 2112), (SASRec, 2112), (DIN, 16641)])
def test_it_generates_the_adaptive_layers_of_every_model(kind: Any, numbers: int) -> None:
    device_model = kind(60, 32)
    parameters = device_model.init(torch_generator(0, "model"))
    duet = Duet(epochs=1)
    duet.prepare(replace(cloud(), model=device_model, parameters=parameters))
    generated = duet.generate(sequences())
    assert {name: value.shape for name, value in generated.items()} == {
        name: (4, *shape) for name, shape in device_model.adaptive.items()
    }
    assert sum(value[0].size for value in generated.values()) == numbers


def test_work_in_the_cloud_is_that_of_one_generation() -> None:
    network = strategy("duet").hypernetwork
    w = WIDTH
    gru = 10 * 2 * (w * 3 * w)
    layers = 2 * (w * w + w * w + w * (w + 1) * w)
    assert network.flops(10) == 2 * (gru + 2 * w * w + layers)


def test_only_devices_that_reported_get_layers() -> None:
    duet = strategy("duet")
    reports = MessageBatch(
        "train.report", np.array([4, 2]), arrays={records.REPORT: {records.HISTORY: sequences()[[2, 0]]}}, is_reply=True
    )
    duet.aggregate_train(1, reports)
    adapted, silent = duet.configure_evaluate(1, duet.initial_arrays(), None, inline())  # type: ignore[arg-type]
    assert adapted.node_ids.tolist() == [4, 2]
    assert silent.node_ids.tolist() == [3, 5]
    expected = duet.generate(sequences())
    for name, value in expected.items():
        np.testing.assert_allclose(adapted.arrays[records.PARAMETERS][name], value[[2, 0]], rtol=1e-5, atol=1e-6)
    assert not silent.without(records.INSTRUMENTS).record_names()
    duet.aggregate_train(2, [])
    nobody = duet.configure_evaluate(2, duet.initial_arrays(), None, inline())  # type: ignore[arg-type]
    assert isinstance(nobody, MessageBatch)
    assert not nobody.without(records.INSTRUMENTS).record_names()


def test_a_lag_reads_the_past_of_the_very_example() -> None:
    duet = strategy("duet", max_lag=3)
    for history in (duet.cloud.train, duet.cloud.validation):
        all_rows = np.arange(history.num_examples)
        batches = list(zip(duet._batches(duet.cloud, history, 0, np.random.default_rng(0)), strict=False))
        plain = list(history.batches(32, 0, 0, 4))
        for (batch,), one in zip(batches, plain, strict=True):
            np.testing.assert_array_equal(batch.history, one.history)
            past = [history.lagged(one.rows, np.full(len(one.rows), lag)) for lag in range(4)]
            matches = np.array([(batch.seen == each).all(1) for each in past])
            assert matches.any(0).all()
        assert len(all_rows)


def test_a_lag_of_zero_is_the_paper_s() -> None:
    duet = strategy("duet")
    batch = next(iter(duet._batches(duet.cloud, duet.cloud.train, 0, np.random.default_rng(0))))
    assert not hasattr(batch, "seen")


@dataclass
class KnownOptimum:
    """The user chooses item 1 if the last item of what the device reported is even, else item 2.

    The history that the device model sees is noise, so one head for all cannot know.
    """

    num_examples: int
    seed: int
    is_shuffled: bool = False

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.history = rng.integers(3, 30, (self.num_examples, 6)).astype(np.int32)
        self.reported = rng.integers(3, 30, (self.num_examples, 6)).astype(np.int32)
        chosen = 1 + self.reported[:, -1] % 2
        self.candidates = np.stack([chosen, 3 - chosen], 1).astype(np.int32)
        if self.is_shuffled:
            self.reported = self.reported[rng.permutation(self.num_examples)]

    def batches(self, batch_size: int, epoch: int, seed: int, num_negatives: int) -> Iterable[Any]:
        @dataclass
        class Rows:
            rows: np.ndarray
            history: np.ndarray
            candidates: np.ndarray

        for k in range(0, self.num_examples, batch_size):
            rows = np.arange(k, min(k + batch_size, self.num_examples))
            yield Rows(rows, self.history[rows], self.candidates[rows])

    def lagged(self, rows: np.ndarray, lag: np.ndarray) -> np.ndarray:
        return self.reported[rows]


def test_it_finds_a_head_that_is_a_function_of_the_sequence_and_only_from_the_right_sequence() -> None:
    device_model = GRU4Rec(30, 16, history_length=6)
    parameters = device_model.init(torch_generator(0, "model"))

    def final_loss(is_shuffled: bool) -> tuple[float, float]:
        train, held_out = KnownOptimum(2000, 1, is_shuffled), KnownOptimum(400, 2, is_shuffled)
        duet = Duet(epochs=12, rate=0.01, max_lag=1, width=16, decoder_width=16)
        duet.prepare(Cloud(device_model, parameters, train, held_out, 0, batch_size=250))
        own = {name: torch.from_numpy(value) for name, value in duet.generate(held_out.reported).items()}
        inputs = torch.from_numpy(held_out.history).long(), torch.from_numpy(held_out.candidates).long()
        logits = device_model.score({**duet.parameters, **own}, inputs[0], inputs[1])
        return float(cross_entropy(logits).mean()), duet.validation_curve[0]

    chance = float(np.log(2))
    loss, before = final_loss(is_shuffled=False)
    assert before > 0.9 * chance
    assert loss < 0.1 * chance
    assert final_loss(is_shuffled=True)[0] == pytest.approx(chance, abs=0.03)


@pytest.mark.parametrize(
    ("key", "least"), [("epochs", 0), ("rate", 0), ("max_lag", 0), ("width", 1), ("decoder_width", 1)]
)
def test_a_setting_out_of_its_range_is_refused(key: str, least: int) -> None:
    with pytest.raises(UserError, match=f"strategy.duet: {key} must be >= {least}, got -1"):
        build_strategy("duet", {key: -1})
