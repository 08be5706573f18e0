import numpy as np
import pytest
import torch
from tiny import cloud, fleet, model, strategy, stream, table

from cdc_flower.core.errors import UserError
from cdc_flower.devices.app import LabelBudget
from cdc_flower.models import device_model
from cdc_flower.strategies.persona.editor import ParameterEditor
from cdc_flower.strategies.registry import build_strategy
from cdc_flower.training.fit import LocalTraining, cross_entropy, train_on_devices


@pytest.mark.parametrize("neutral", [{"steps": 0}, {"rate": 0.0}])
def test_without_steps_or_rate_it_is_static(neutral: dict) -> None:
    tuned = table("fine_tuning", built=strategy("fine_tuning", **neutral))
    np.testing.assert_allclose(tuned.value_sum, table("static").value_sum, rtol=1e-5, atol=1e-6)


def test_it_changes_the_predictions_and_pays_for_its_labels() -> None:
    tuned, static = table("fine_tuning"), table("static")
    assert (tuned.value_sum != static.value_sum).any()
    once = tuned[tuned.metric == "auc"]
    assert (once.num_labels == 8).all()


def test_a_slow_phone_uses_what_it_trained_later() -> None:
    quick = table("fine_tuning", links=fleet(device_flops_per_s=1e12))
    slow = table("fine_tuning", links=fleet(device_flops_per_s=4e3))
    first = slow[(slow.segment == 0) & (slow.metric == "auc")]
    work_s = first.compute_device_s.to_numpy()
    assert (work_s > 1).all() and (work_s < 60).all()
    np.testing.assert_allclose(first.latency_s, work_s)
    later = slow[(slow.segment == 1) & (slow.metric == "auc")]
    np.testing.assert_allclose(
        later.staleness_s, work_s, rtol=1e-6
    )  # that share of the segment is a segment old
    assert (slow.value_sum != quick.value_sum).any()


def test_work_longer_than_a_segment_comes_into_use_in_a_later_one() -> None:
    slow = table("fine_tuning", links=fleet(device_flops_per_s=1e3))
    once = slow[slow.metric == "auc"]
    first = once[once.segment == 0]
    assert (first.compute_device_s > 60).all()
    assert first.latency_s.isna().all()
    arrived = once[once.latency_s.notna()]
    assert set(arrived.device_id) == {0, 1, 2, 3}
    assert (arrived.latency_s > 60).all()
    # While a device is at work it begins nothing new, so it pays no labels.
    assert (once[once.segment == 1].num_labels == 0).all()


def test_few_samples_and_many_steps_fit_the_samples_and_spoil_what_is_held_out() -> None:
    ids = np.arange(4)
    static = {name: value.numpy() for name, value in cloud().parameters.items()}
    examples = stream().labelled(LabelBudget(), ids, 0, 2, 4)
    held_out = stream().labelled(LabelBudget(), ids, 6, 20, 4)
    names = model().adaptive

    def start(rows: np.ndarray) -> dict:
        return {name: np.repeat(static[name][None], len(rows), 0) for name in names}

    def loss(parameters: dict, batch: object) -> float:
        everything = {name: torch.from_numpy(value) for name, value in static.items()}
        losses = []
        for device in ids:
            mine = {
                **everything,
                **{name: torch.from_numpy(value[device]) for name, value in parameters.items()},
            }
            rows = batch.row == device
            inputs = (
                torch.from_numpy(part[rows]).long() for part in (batch.history, batch.candidates)
            )
            losses.append(float(cross_entropy(model().score(mine, *inputs)).mean()))
        return float(np.mean(losses))

    how = LocalTraining("head", steps=150, rate=0.05)
    trained = train_on_devices(model(), static, start, examples, how)
    assert loss(trained, examples) < 0.5 * loss(start(ids), examples)
    assert loss(trained, held_out) > 1.5 * loss(start(ids), held_out)


@pytest.mark.parametrize("name", ["duet", "apg", "persona", "group_fine_tuning"])
def test_what_the_cloud_makes_reads_no_label_so_few_samples_cannot_spoil_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = strategy(name)

    def refuse(*_: object) -> None:
        raise AssertionError("a label")

    monkeypatch.setattr(type(stream()), "labelled", refuse)
    assert (table(name, built=built).num_labels == 0).all()


@pytest.mark.parametrize(("name", "times"), [("gru4rec", 100), ("sasrec", 65), ("din", 35)])
def test_an_edit_is_a_small_part_of_the_work_of_one_epoch_of_fine_tuning(
    name: str, times: int
) -> None:
    model = device_model(name, 3706)
    epoch = LocalTraining("all", steps=1).flops(model, np.array([64]))[0]
    assert epoch > times * ParameterEditor(model).flops(model.history_length)


def test_an_unknown_option_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"strategy\.fine_tuning: unknown key 'step'.*'steps'"):
        build_strategy("fine_tuning", {"step": 1})
