"""Runs with a quarantine: one hostile device, and the same run with its replies lost."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import pandas as pd
from hostile_cases import HOSTILE, KINDS, Hostile, Lost, Seen
from tiny import LABELS, fleet, inline, strategy, stream
from video_tiny import video_inline, video_strategy, video_stream, video_task

from cdc_flower.simulations.chain import AtDevices, ChainLink
from cdc_flower.simulations.quarantine.bounds import Known
from cdc_flower.simulations.quarantine.link import WithQuarantine
from cdc_flower.simulations.quarantine.options import QuarantineOptions
from cdc_flower.study.play import play
from cdc_flower.study.session import Session
from cdc_flower.tasks.recommendation.task import RECOMMENDATION
from cdc_flower.tasks.video.task import VideoTask
from cdc_flower.wire import records

SEGMENTS = (1, 2, 3)
#: Strategies of each family, and what honest replies of them hold.
REPORT = frozenset({"arrays", "ids"})
CLIP = frozenset({"arrays"})
FAMILIES: dict[str, dict[str, frozenset[str]]] = {
    "recommendation": {
        "static": frozenset(),
        "fedavg": frozenset({"arrays", "floats", "examples"}),
        "fine_tuning": frozenset(),
        "cloud_fine_tuning": frozenset({"arrays", "ids", "upload"}),
        **dict.fromkeys(("group_fine_tuning", "duet", "persona", "apg"), REPORT),
    },
    "video": {
        "static": frozenset(),
        "fedavg": frozenset({"arrays", "floats", "examples"}),
        "fine_tuning": frozenset(),
        "cloud_fine_tuning": frozenset({"arrays", "ids", "upload"}),
        **dict.fromkeys(("group_fine_tuning", "duet", "persona", "apg", "cdc_mmpg"), CLIP),
    },
}
DEVICE = HOSTILE - 2
#: Values by which a run of others is the same.
VALUES = ["device_id", "segment", "metric", "value_sum", "value_count", "num_examples"]


@lru_cache(maxsize=1)
def _video() -> tuple[Any, VideoTask]:
    data = video_stream()
    return data, video_task(data)


def played(
    task: str,
    name: str,
    chain: Sequence[ChainLink],
    rounds: Callable[[Session], object] = Session.run,
    settings: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> tuple[pd.DataFrame, WithQuarantine]:
    """The table of a strategy, and its quarantine."""
    frames: list[pd.DataFrame] = []
    if task == "video":
        data, own = _video()
        built, grid = video_strategy(name, data, **settings), video_inline(data)
    else:
        data, own = stream(), RECOMMENDATION
        built, grid = strategy(name, **settings), inline()
    quarantine = WithQuarantine(
        QuarantineOptions(**{"max_failures": None, **options}), Known.of(own, data)
    )
    before = [link for link in chain if isinstance(link, AtDevices)]
    after = [link for link in chain if link not in before]
    play(
        built,
        grid,
        fleet(data.num_devices),
        data.segment_starts_s,
        labels={**LABELS, "strategy": name},
        collect=frames.append,
        task=own,
        chain=[*before, quarantine, *after],
        rounds=rounds,
    )
    return pd.concat(frames, ignore_index=True), quarantine


def check(task: str, name: str, kind: str, chain: Sequence[ChainLink] = ()) -> None:
    """Plays both runs and compares them."""
    seen, hostile = Seen(), KINDS[kind]
    options = {"max_norm": 1e6} if kind == "1e30" else {}
    rows, quarantine = played(
        task, name, [AtDevices(lambda g: Hostile(g, hostile, SEGMENTS, seen)), *chain], **options
    )
    assert seen.places
    lost, _ = played(task, name, [AtDevices(lambda g: Lost(g, seen)), *chain], **options)
    honest, others = (each[each.device_id != DEVICE] for each in (rows, lost))
    pd.testing.assert_frame_equal(
        honest[VALUES].reset_index(drop=True),
        others[VALUES].reset_index(drop=True),
        check_exact=True,
        check_categorical=False,
    )
    left = quarantine.left_out()
    assert {(each.device_id, each.reason) for each in left} == (
        {(DEVICE, hostile.reason)} if hostile.count else set()
    )
    expected = pd.Series([segment for segment, _ in seen.places]).value_counts() * hostile.count
    counted = rows.drop_duplicates(["segment", "device_id"]).groupby("segment").num_quarantined
    found = counted.sum()
    assert found[found > 0].to_dict() == expected[expected > 0].to_dict()
    evaluated = [segment for segment, kind in seen.places if kind == records.EVALUATE]
    own = rows[(rows.device_id == DEVICE) & rows.segment.isin(evaluated)]
    assert (own.num_examples == 0).all() and (own.value_count == 0).all()
    assert len(own) or not evaluated or not hostile.count


def has(task: str, name: str, kind: str) -> bool:
    """Tells whether a strategy gets honest replies that this kind can be made of."""
    needs, on = KINDS[kind].needs, KINDS[kind].on
    if needs == "points":
        return task == "recommendation"
    trains = name != "static" or records.EVALUATE in on
    return trains and (not needs or needs in FAMILIES[task][name])
