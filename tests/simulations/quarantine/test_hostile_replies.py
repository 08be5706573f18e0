"""A hostile device is left out: the run of the others is that in which its reply was lost."""

from typing import Any

import pytest
from hostile_cases import KINDS
from quarantine_cases import FAMILIES, check, has
from sampling import a_sample

from cdc_flower.simulations.grids.codecs import WithCodecs
from cdc_flower.simulations.protocol.encoding import Codecs
from cdc_flower.wire import records

CASES = [
    (task, name, kind)
    for task, names in FAMILIES.items()
    for name in names
    for kind in KINDS
    if has(task, name, kind)
]


@pytest.mark.parametrize(("task", "name", "kind"), a_sample(CASES, 24))
def test_the_others_are_as_if_the_reply_was_lost(task: str, name: str, kind: str) -> None:
    check(task, name, kind)


CODECS = (("delta", "int8", "zstd"), ("float16",), ("zstd",), ("top_k",))
BEHIND_CODECS = [
    (codecs, task, name, kind)
    for codecs in CODECS
    for task, name in (
        ("recommendation", "fedavg"),
        ("recommendation", "persona"),
        ("video", "cloud_fine_tuning"),
    )
    for kind in KINDS
    if has(task, name, kind)
    and records.TRAIN in KINDS[kind].on
    and not (kind == "1e30" and "float16" in codecs)  # a half cannot hold it
]


@pytest.mark.parametrize(("codecs", "task", "name", "kind"), a_sample(BEHIND_CODECS, 6))
def test_codecs_keep_what_is_hostile_apart(codecs: Any, task: str, name: str, kind: str) -> None:
    check(task, name, kind, [WithCodecs(Codecs(codecs))])
