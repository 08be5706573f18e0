"""What the detector of ``uncertainty`` learns: whether stale parameters still rank the true item
above zero.
"""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import cloud

from cdc_flower.tasks.recommendation.history import HistoricalData
from cdc_flower.tasks.recommendation.uncertainty import MAX_LAG, Detector, train_uncertainty

#: Logits of the true item and of one that is not, as stale parameters give them.
RIGHT, WRONG, BOTH_HIGH = (2.0, -2.0), (-2.0, 2.0), (2.0, 2.0)


def trained_on(stale: tuple[float, float], epochs: int) -> Any:
    """Both networks where parameters from the past give ``stale`` and all others the opposite."""
    given = cloud()

    def generate(history: np.ndarray) -> dict[str, np.ndarray]:
        is_past = (history == 0).all(1)  # the past is made empty below
        return {"head.0.bias": np.where(is_past, 1.0, -1.0).astype(np.float32)}

    def score(parameters: dict, history: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        sign = parameters["head.0.bias"].expand(len(history))
        return sign[:, None] * torch.tensor(stale)

    base = given.arrays()
    deployed = {**base, "head.0.bias": np.array(-1.0, np.float32)}
    told = SimpleNamespace(deployment=lambda: deployed, generate=generate)
    model = SimpleNamespace(score=score, adaptive=given.model.adaptive)
    return train_uncertainty(replace(given, model=model), told, epochs)  # type: ignore[arg-type]


@pytest.fixture
def lags(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lags that are asked for; what was so many events ago is an empty history."""
    seen: list[int] = []

    present = HistoricalData.lagged

    def lagged(self: HistoricalData, rows: np.ndarray, lag: np.ndarray) -> np.ndarray:
        if not lag.any():
            return present(self, rows, lag)
        seen.extend(lag.tolist())
        return np.zeros((len(rows), self.history_length), np.int32)

    monkeypatch.setattr(HistoricalData, "lagged", lagged)
    return seen


def chance(stale: tuple[float, float], epochs: int) -> float:
    """The mean logit of "these parameters still predict well" over held-out histories."""
    return float(trained_on(stale, epochs).scores.mean())


def test_the_chance_rises_where_stale_parameters_are_right_and_falls_where_they_are_wrong(
    lags: list[int],
) -> None:
    start, wrong, half, right = (
        chance(RIGHT, 0),
        *(chance(stale, 4) for stale in (WRONG, BOTH_HIGH, RIGHT)),
    )
    assert right > start + 0.01 and wrong < start - 0.01
    assert (
        wrong < half < right
    )  # an item that is not the next one must be below one half, and counts as much
    assert set(lags) == set(range(1, MAX_LAG + 1))  # never the parameters of this very moment


def test_the_detector_compares_what_was_reported_with_what_is_recent(
    lags: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    forward = Detector.forward

    def watched(
        self: Detector, t: torch.Tensor, u: torch.Tensor, uncertainty: torch.Tensor
    ) -> torch.Tensor:
        seen.append((t, u))
        return forward(self, t, u, uncertainty)

    monkeypatch.setattr(Detector, "forward", watched)
    trained_on(RIGHT, 1)
    assert seen and all(
        not t.any() and u.any() for t, u in seen
    )  # the past is empty, the present is not
