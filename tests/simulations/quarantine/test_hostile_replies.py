"""A hostile device is left out: the run of the others is that in which its reply was lost."""

import pytest
from hostile_cases import KINDS
from quarantine_cases import FAMILIES, check, has
from sampling import a_sample

from cdc_flower.simulations.grids.codecs import WithCodecs
from cdc_flower.simulations.protocol.encoding import Codecs
from cdc_flower.wire import records

#: Of one argument each, so that a sample need not hold every value.
CASES = [
    ((task, name, kind),)
    for task, names in FAMILIES.items()
    for name in names
    for kind in KINDS
    if has(task, name, kind)
]


@pytest.mark.parametrize("case", a_sample(CASES, 12), ids=lambda case: " ".join(case))
def test_the_others_are_as_if_the_reply_was_lost(case: tuple[str, str, str]) -> None:
    check(*case)


def test_there_are_all_kinds_and_each_meets_a_strategy() -> None:
    assert len(KINDS) >= 48
    assert {kind for ((_, _, kind),) in CASES} == {*KINDS}


CODECS = ("delta,int8,zstd", "float16", "zstd", "top_k")
BEHIND_CODECS = [
    ((codecs, task, name, kind),)
    for codecs in CODECS
    for task, name in (
        ("recommendation", "fedavg"),
        ("recommendation", "persona"),
        ("video", "cloud_fine_tuning"),
    )
    for kind in KINDS
    if has(task, name, kind)
    and records.TRAIN in KINDS[kind].on
    and not (kind == "1e30" and codecs == "float16")  # a half cannot hold it
]


@pytest.mark.parametrize("case", a_sample(BEHIND_CODECS, 4), ids=lambda case: " ".join(case))
def test_codecs_keep_what_is_hostile_apart(case: tuple[str, str, str, str]) -> None:
    codecs, *rest = case
    check(*rest, chain=[WithCodecs(Codecs(codecs.split(",")))])
