"""Which part of a gain is adaptation: differences from controls by hand, and words."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_cases import results

from cdc_flower.tables.adaptation import (
    ADAPTATION,
    TRAINING,
    UNDECIDED,
    adaptation_columns,
    least_above,
    verdict,
)
from cdc_flower.tables.controls import CONTROLS, control_name, controlled, is_control
from cdc_flower.tables.results import Results
from cdc_flower.tables.summary import paired_difference, summarize, summary_columns

NAMES = ("static", "persona", "persona@mean", "persona@other", "fedavg")


def summary(gains: dict[str, float], baseline: str = "static") -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("report_cases.GAINS", {"static": 0.0, "fedavg": 0.02, **gains})
        return summarize(Results.of(results(NAMES)), baseline)


def row_of(frame: pd.DataFrame, strategy: str = "persona", metric: str = "ndcg@10") -> pd.Series:
    return frame[(frame.strategy == strategy) & (frame.metric == metric)].iloc[0]


def test_names_of_controls_say_whose_they_are() -> None:
    assert [control_name("duet", each) for each in CONTROLS] == ["duet@mean", "duet@other"]
    assert is_control("duet@mean") and not is_control("duet")
    assert controlled("duet@mean") == controlled("duet") == "duet"


def test_controls_have_no_rows_but_columns_beside_their_strategy() -> None:
    found = summary({"persona": 0.06, "persona@mean": 0.05, "persona@other": -0.02})
    assert list(dict.fromkeys(found.strategy)) == ["static", "persona", "fedavg"]
    assert list(found.columns) == list(summary_columns())
    for name in ("static", "fedavg"):
        assert row_of(found, name)[list(adaptation_columns())].isna().all()


def test_differences_from_controls_are_paired_differences_of_them() -> None:
    gains = {"persona": 0.06, "persona@mean": 0.05, "persona@other": -0.02}
    row = row_of(summary(gains))
    for control in CONTROLS:
        pairs = [(f"{control}_diff", f"persona@{control}", "static")]
        pairs += [(f"minus_{control}", "persona", f"persona@{control}")]
        for name, mine, theirs in pairs:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("report_cases.GAINS", {"static": 0.0, "fedavg": 0.02, **gains})
                frame = results(NAMES)
            sums = frame[(frame.metric == "ndcg@10") & frame.strategy.isin([mine, theirs])]
            sums = sums.astype({"strategy": str, "task": str})
            key = ["task", "strategy", "seed", "device_id"]
            added = sums.groupby(key, as_index=False)[["value_sum", "value_count"]].sum()
            pair = paired_difference(added, ["task"], theirs).set_index("strategy").loc[mine]
            found = row[[name, f"{name}_low", f"{name}_high"]].astype(float)
            np.testing.assert_allclose(found, pair[["diff", "low", "high"]].astype(float))


@pytest.mark.parametrize(
    ("mean", "other", "said"),
    [(0.0, -0.02, ADAPTATION), (0.06, 0.06, TRAINING), (0.0, 0.06, TRAINING), (0.06, 0, TRAINING)],
)
def test_a_gain_that_a_control_has_too_is_never_called_adaptation(
    mean: float, other: float, said: str
) -> None:
    row = row_of(summary({"persona": 0.06, "persona@mean": mean, "persona@other": other}))
    assert verdict(row) == said
    assert least_above(row) == ("mean" if mean > other else least_above(row))


def made(**values: Any) -> pd.Series:
    """A row of the summary; each value is an interval."""
    parts: dict[str, float] = {}
    for name, (low, high) in values.items():
        parts |= {name: (low + high) / 2, f"{name}_low": low, f"{name}_high": high}
    return pd.Series(parts)


ROW = {
    "diff": (0.01, 0.03),
    "mean_diff": (-0.01, 0.01),
    "other_diff": (-0.01, 0.01),
    "minus_mean": (0.01, 0.02),
    "minus_other": (0.01, 0.03),
}


def test_words_follow_the_bounds() -> None:
    assert verdict(made(**ROW)) == ADAPTATION
    assert verdict(made(**{**ROW, "minus_mean": (-0.001, 0.02)})) == UNDECIDED
    assert verdict(made(**{**ROW, "minus_other": (0.0, 0.02)})) == UNDECIDED
    own = {"minus_mean": (-0.001, 0.002), "mean_diff": (0.01, 0.02)}
    assert verdict(made(**{**ROW, **own})) == TRAINING
    assert verdict(made(**{**ROW, "diff": (-0.001, 0.02)})) == ""
    assert verdict(made(diff=(0.01, 0.02))) == "", "it has no controls"


def test_where_lower_is_better_a_gain_lies_below_zero() -> None:
    lower = {name: (-high, -low) for name, (low, high) in ROW.items()}
    assert verdict(made(**lower)) == ""
    assert verdict(made(**lower), downward=True) == ADAPTATION
    assert least_above(made(**lower), downward=True) == "mean"


def test_a_rounding_above_zero_is_no_adaptation() -> None:
    tiny = {"minus_mean": (1e-9, 2e-9), "mean_diff": (0.01, 0.03)}
    assert verdict(made(**{**ROW, **tiny})) == TRAINING


def test_a_strategy_with_controls_can_be_the_baseline() -> None:
    gains = {"persona": 0.06, "persona@mean": 0.05, "persona@other": -0.02}
    row = row_of(summary(gains, baseline="persona"))
    assert row["mean_diff"] == pytest.approx(-row["minus_mean"])
