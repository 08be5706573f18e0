"""Where a law has nothing to tell devices by, no method is better than its mean for all."""

from collections.abc import Sequence

import pytest
from run_cases import config_of, played_table

from cdc_flower.tables.controls import MEAN, control_name
from cdc_flower.tables.estimates import device_sums, paired_difference

METHODS = ("duet", "persona", "apg", "group_fine_tuning", "persona_regimes")
SMALL = (
    "fleet.num_devices=100",
    "num_segments=4",
    "num_negatives=30",
    "controls=true",
    "references=[]",
    *(f"strategy.{name}.epochs=12" for name in METHODS[:-1]),
    "+strategy.persona_regimes.epochs=12",
    "strategy.persona.num_prototypes=2",
    "strategy.persona_regimes.num_prototypes=2",
)
#: A third of the training is enough where there is nothing to learn.
BRIEF = "data.history_segments=12 cloud.epochs=15 cloud.adaptation.examples_per_epoch=2000"
LONG = "data.history_segments=22 cloud.epochs=40 cloud.adaptation.examples_per_epoch=4000"


def minus_mean(law: str, methods: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The NDCG of each method minus its mean for all devices, and half of the 95 % interval."""
    names = f"strategies=[{','.join(methods)}]"
    rows = played_table(config_of("data=regimes", *law.split(), *SMALL, names, small=()))
    sums = device_sums(rows[rows["metric"] == "ndcg@10"], ["task", "strategy"])
    found = {}
    for name in methods:
        pairs = paired_difference(sums, ["task"], baseline=control_name(name, MEAN))
        row = pairs[pairs["strategy"] == name].iloc[0]
        found[name] = float(row["diff"]), float(row["high"] - row["low"]) / 2
    return found


@pytest.mark.parametrize(
    "law",
    [
        pytest.param("data.num_contexts=1", marks=pytest.mark.slow),
        pytest.param("data.follow=0", marks=pytest.mark.long),
    ],
)
def test_where_nothing_can_be_gained_no_method_is_above_its_mean(law: str) -> None:
    for name, (difference, half) in minus_mean(f"{law} {BRIEF}", METHODS).items():
        # Four standard errors: methods are several, and another processor rounds otherwise.
        assert abs(difference) <= 2 * half + 1e-9, name


@pytest.mark.slow
def test_where_something_can_be_gained_the_same_training_is_above_its_mean() -> None:
    law = "data.num_contexts=2 data.num_topics=4 data.follow=0.95"
    ((difference, half),) = minus_mean(f"{law} {LONG}", ["duet"]).values()
    assert difference > 2 * half
