"""Controls ask devices again, and a hostile one ends none of them."""

import numpy as np
import pandas as pd
import pytest
from hostile_cases import HOSTILE, KINDS, Hostile, Seen
from tiny import LABELS, fleet, inline, strategy, stream

from cdc_flower.simulations.quarantine.bounds import Known
from cdc_flower.simulations.quarantine.link import WithQuarantine
from cdc_flower.study.play import play
from cdc_flower.tasks.recommendation.task import RECOMMENDATION


@pytest.mark.parametrize(
    "kind",
    [
        "an instrument more",
        "no scores",
        "scores without a key",
        "sums of other metrics",
        "a NaN sum",
        "absurd counts",
        "the same node twice",
        "an unknown node",
        "another message type",
    ],
)
def test_controls_of_the_others_are_whole(kind: str) -> None:
    frames: list[pd.DataFrame] = []
    quarantine = WithQuarantine(known=Known.of(RECOMMENDATION, stream()))
    play(
        strategy("duet"),
        Hostile(inline(), KINDS[kind], (1, 2), Seen()),  # behind the controls
        fleet(),
        stream().segment_starts_s,
        labels={**LABELS, "strategy": "duet"},
        collect=frames.append,
        chain=[quarantine],
        controls=True,
    )
    rows = pd.concat(frames, ignore_index=True)
    others = rows[rows.device_id != HOSTILE - 2]
    assert others.groupby("strategy", observed=True).size().to_dict() == dict.fromkeys(
        ("duet", "duet@mean", "duet@other"), 3 * 6 * 9
    )
    assert np.isfinite(rows.value_sum).all()
    own = rows[(rows.device_id == HOSTILE - 2) & rows.segment.isin((1, 2))]
    if kind != "an instrument more":  # which a control takes, and this one is of no model
        assert (own.num_examples == 0).all()
