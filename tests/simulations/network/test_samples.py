"""Recorded rates of arrays."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from cdc_flower.core.errors import UserError
from cdc_flower.simulations.network.samples import SampledTrace


def test_each_rate_holds_until_the_next_and_the_last_as_long_as_the_median() -> None:
    trace = SampledTrace([10, 11, 13, 14], [8e3, 4e3, 2e3, 1e3])
    assert trace.edges_s.tolist() == [0, 1, 3, 4, 5]
    assert trace.rates_bps.tolist() == [8e3, 4e3, 2e3, 1e3]
    assert trace.mean_bps == (8e3 + 8e3 + 2e3 + 1e3) / 5


def test_the_end_of_the_last_rate_may_be_given() -> None:
    assert SampledTrace([0, 1, 5], [8e3, 4e3]).duration_s == 5


def test_it_can_be_copied_and_sent() -> None:
    trace = SampledTrace([0, 1], [8e3, 4e3], name="mine")
    for other in (copy.deepcopy(trace), pickle.loads(pickle.dumps(trace))):
        assert other.content_hash() == trace.content_hash() and other.name == "mine"
    assert trace.scaled(2).mean_bps == 2 * trace.mean_bps


@pytest.mark.parametrize(
    ("times_s", "rates_bps", "text"),
    [
        ([0, 1], [1, 2, 3], "rates_bps must be as many as times_s, or one less"),
        ([0], [1], "times_s must be at least 2, got 1"),
        ([], [], "times_s must be at least 2, got 0"),
        ([0, 0], [1, 2], "times_s must be finite and ascend"),
        ([0, np.nan], [1, 2], "times_s must be finite and ascend"),
        ([0, 1], [-1, 2], "the rates of a trace must be finite and >= 0"),
        ([0, 1], [0, 0], "must carry something"),
        ([0, 1], ["a", 2], "rates_bps must be an array of numbers"),
        ([0, 1], [True, False], "rates_bps must be an array of numbers, got bool"),
        (
            pd.to_timedelta([0, 1], unit="s"),
            [1, 2],
            "times_s must be an array of numbers, got time",
        ),
        (
            pd.to_datetime([0, 1], unit="s"),
            [1, 2],
            "times_s must be an array of numbers, got datet",
        ),
        (torch.ones(2, requires_grad=True), [1, 2], "times_s must be an array of numbers"),
        ([[0, 1]], [[1, 2]], "rates_bps must be as many as times_s"),
    ],
)
def test_a_mistake_is_one_sentence(times_s: list[float], rates_bps: list[float], text: str) -> None:
    with pytest.raises(UserError) as told:
        SampledTrace(times_s, rates_bps)
    assert text in str(told.value)
