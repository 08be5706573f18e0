"""Where a law has nothing to tell a device by, no method is better than its mean for all devices."""

import numpy as np
import pytest
from run_cases import config_of, played_table

from cdc_flower.tables.controls import MEAN, control_name
from cdc_flower.tables.estimates import device_sums, paired_difference

METHODS = ("duet", "persona", "apg", "group_fine_tuning", "persona_regimes")
SMALL = (
    "fleet.num_devices=60",
    "num_segments=4",
    "num_negatives=30",
    "controls=true",
    "references=[]",
    "cloud.epochs=10",
    "cloud.adaptation.examples_per_epoch=4000",
    *(f"strategy.{name}.epochs=3" for name in METHODS[:-1]),
    "+strategy.persona_regimes.epochs=3",
    "strategy.persona.num_prototypes=2",
    "strategy.persona_regimes.num_prototypes=2",
)


@pytest.mark.slow
@pytest.mark.parametrize("law", ["data=regimes data.num_contexts=1", "data=regimes data.follow=0"])
def test_where_nothing_can_be_gained_no_method_is_above_its_mean(law: str) -> None:
    config = config_of(*law.split(), *SMALL, f"strategies=[{','.join(METHODS)}]", small=())
    rows = played_table(config)
    sums = device_sums(rows[rows["metric"] == "ndcg@10"], ["task", "strategy"])
    for name in METHODS:
        found = paired_difference(sums, ["task"], baseline=control_name(name, MEAN))
        row = found[found["strategy"] == name].iloc[0]
        half = (row["high"] - row["low"]) / 2
        assert np.isfinite(half)
        # Four standard errors: methods are several, and another processor rounds otherwise.
        assert abs(row["diff"]) <= 2 * half + 1e-9, (name, dict(row))
