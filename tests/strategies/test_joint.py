"""Training of hypernetworks that read a sequence, with the static layers or without."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import SETTINGS, cloud, strategy

from cdc_flower.core.seeds import generator
from cdc_flower.strategies.apg import Apg
from cdc_flower.strategies.duet import Duet
from cdc_flower.strategies.generation import Report
from cdc_flower.strategies.joint import in_chunks, mean_generated
from cdc_flower.strategies.registry import build_strategy
from cdc_flower.training.checkpoints import Checkpoints


class Interrupted(Exception):
    """As when the machine is switched off."""


def prepared(where: Path | None, stop_after: int | None = None, **settings: Any) -> Any:
    """DUET trained for 4 epochs with lags, and interrupted after so many batches."""
    done = 0

    def progress(_: str, __: int) -> Any:
        def step() -> None:
            nonlocal done
            done += 1
            if done == stop_after:
                raise Interrupted

        return step

    duet = build_strategy("duet", {**SETTINGS["duet"], "epochs": 4, "max_lag": 3, **settings})
    duet.prepare(
        replace(cloud(), identity="tiny", checkpoints=Checkpoints(where), progress=progress)
    )
    return duet


def test_a_training_that_was_interrupted_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = prepared(None)
    with pytest.raises(Interrupted):
        prepared(tmp_path, stop_after=2 * whole.cloud.num_batches() + 1)  # in the third epoch
    resumed = prepared(
        tmp_path, stop_after=2 * whole.cloud.num_batches() + 1
    )  # never again as many
    assert resumed.validation_curve == whole.validation_curve
    for name, value in whole.deployment().items():
        np.testing.assert_array_equal(resumed.deployment()[name], value)


def test_the_stale_arm_takes_the_training_of_the_fresh_one(tmp_path: Path) -> None:
    prepared(tmp_path)
    prepared(tmp_path, stop_after=1, report_lag=1)  # trains no batch
    with pytest.raises(Interrupted):
        prepared(tmp_path, stop_after=1, max_lag=2)


def test_a_lag_reads_the_past_of_the_very_example_and_all_lags_occur() -> None:
    duet = strategy("duet", max_lag=3)
    for history in (duet.cloud.train, duet.cloud.validation):
        plain = list(history.batches(32, 0, 0, 4))
        batches = list(duet.examples(history, plain, np.random.default_rng(0)))
        num_of_lag = np.zeros(4)
        for batch, one in zip(batches, plain, strict=True):
            np.testing.assert_array_equal(batch.history, one.history)
            np.testing.assert_array_equal(batch.candidates, one.candidates)
            past = [history.lagged(one.rows, np.full(len(one.rows), lag)) for lag in range(4)]
            matches = np.array([(batch.reported.numpy() == each).all(1) for each in past])
            assert matches.any(0).all()
            num_of_lag += matches.sum(1)
        assert (num_of_lag > history.num_examples / 8).all()


def test_without_a_lag_layers_come_from_the_example_s_own_past() -> None:
    duet = strategy("duet")
    plain = list(duet.cloud.train.batches(32, 0, 0, 4))
    for batch in duet.examples(duet.cloud.train, plain, generator(0, "unused")):
        assert torch.equal(batch.reported, batch.history)


def test_layers_of_many_devices_are_generated_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def generate(report: Report) -> dict[str, torch.Tensor]:
        sizes.append(len(report["history"]))
        return {"double": 2 * torch.from_numpy(report["history"])}

    monkeypatch.setattr("cdc_flower.strategies.joint.DEVICES_PER_CHUNK", 3)
    history = np.arange(14, dtype=np.int32).reshape(7, 2)
    np.testing.assert_array_equal(in_chunks(generate, {"history": history})["double"], 2 * history)
    assert sizes == [3, 3, 1]


def test_the_mean_of_equal_layers_is_each_of_them_to_the_bit() -> None:
    third = torch.tensor([[0.1, -7.3e5]])
    mean = mean_generated(cloud(), lambda history: {"k": third.expand(len(history), 2)})["k"]
    assert torch.equal(mean, third[0])


def test_the_mean_is_over_historical_sequences() -> None:
    duet = strategy("duet")
    first = next(iter(duet.cloud.train.batches(4096, 0, 0, 4))).history
    last = mean_generated(duet.cloud, lambda history: {"k": history[:, 0].float()})["k"]
    assert float(last) == pytest.approx(first[:, 0].mean())


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"epochs": -1}, "epochs must be a whole number >= 0, got -1"),
        ({"epochs": 1.5}, "epochs must be a whole number >= 0, got 1.5"),
        ({"rate": float("nan")}, "rate must be a number >= 0 and finite, got nan"),
        ({"rate": float("inf")}, "rate must be a number >= 0 and finite, got inf"),
        ({"joint": 1}, "joint must be true or false, got 1"),
        ({"max_lag": -2}, "max_lag must be a whole number >= 0 or auto, got -2"),
    ],
)
@pytest.mark.parametrize("kind", [Duet, Apg])
def test_a_wrong_setting_is_refused(kind: Any, settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        kind(**settings)
