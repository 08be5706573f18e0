"""Where every reply is as it must be, a table with a quarantine is one without, to the bit."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import pytest
from flwr.serverapp import Grid
from sampling import a_sample
from stock_cases import CASES, stock
from tiny import LABELS, NUM_DEVICES, SETTINGS, Around, fleet, inline, same, strategy, stream
from video_tiny import VIDEO_SETTINGS, video_inline, video_strategy, video_stream, video_task

from cdc_flower.simulations.chain import ChainLink
from cdc_flower.simulations.grids.codecs import WithCodecs
from cdc_flower.simulations.grids.requests import WithRequests
from cdc_flower.simulations.protocol.encoding import Codecs
from cdc_flower.simulations.quarantine.bounds import Known
from cdc_flower.simulations.quarantine.link import WithQuarantine
from cdc_flower.simulations.quarantine.options import QuarantineOptions
from cdc_flower.simulations.requests.policies.random import Random
from cdc_flower.simulations.requests.setup import Requests
from cdc_flower.study.play import play
from cdc_flower.tasks.recommendation.task import RECOMMENDATION
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

RATE = 4e3


def played(
    built: Any, grid: Grid, data: Any, task: Any, chain: Sequence[ChainLink], controls: bool
) -> pd.DataFrame:
    """The table of a strategy."""
    frames: list[pd.DataFrame] = []
    play(
        built,
        grid,
        fleet(data.num_devices, RATE, RATE),
        data.segment_starts_s,
        labels={**LABELS, "strategy": "s"},
        collect=frames.append,
        task=task,
        chain=chain,
        controls=controls,
    )
    return pd.concat(frames, ignore_index=True)


def check(
    make: Callable[[], Any],
    grid: Callable[[], Grid] = inline,
    data: Any = None,
    task: Any = RECOMMENDATION,
    chain: Sequence[ChainLink] = (),
    controls: bool = False,
) -> None:
    """Compares tables of one strategy: with a quarantine that is off, and with one that is on."""
    data = data or stream()
    known = Known.of(task, data)
    off = WithQuarantine(QuarantineOptions(enabled=False), known)
    on = WithQuarantine(QuarantineOptions(max_norm=1e9, max_failures=1), known)
    plain, checked = (
        played(make(), grid(), data, task, [first, *chain], controls) for first in (off, on)
    )
    same(plain, checked)
    assert on.left_out() == [] and on.notes() == []


@pytest.mark.parametrize("name", SETTINGS)
def test_every_strategy_has_the_same_table(name: str) -> None:
    check(lambda: strategy(name), controls=True)


def test_one_that_is_off_is_none() -> None:
    off = WithQuarantine(QuarantineOptions(enabled=False))
    plain, neutral = (
        played(strategy("duet"), inline(), stream(), RECOMMENDATION, chain, controls=False)
        for chain in ([], [off])
    )
    same(plain, neutral)
    assert off.left_out() == [] and off.notes() == []


@pytest.mark.parametrize("name", a_sample([(name,) for name in VIDEO_SETTINGS], 3))
def test_and_on_video(name: str) -> None:
    data = video_stream()
    task = video_task(data)
    check(lambda: video_strategy(name, data), lambda: video_inline(data), data, task)


@pytest.mark.parametrize("name", a_sample([(name,) for name in CASES], 3))
def test_so_have_flowers_own_strategies(name: str) -> None:
    check(lambda: stock(name))


def single(_: MessageBatch, replies: Any) -> Any:
    """Single messages, last node first, as Flower's runtimes may give them."""
    return list(replies)[::-1]


@pytest.mark.parametrize(
    ("name", "codecs"),
    [
        ("fedavg", "float16"),
        ("persona", "delta,int8,zstd"),
        pytest.param("fedavg", "delta,int8,zstd", marks=pytest.mark.long),
        pytest.param("cloud_fine_tuning", "delta,int8,zstd", marks=pytest.mark.long),
    ],
)
def test_behind_codecs_a_policy_and_single_messages_too(name: str, codecs: str) -> None:
    chain = [WithCodecs(Codecs(codecs.split(","))), WithRequests(Requests(Random(rate=0.5)))]
    check(lambda: strategy(name), lambda: Around(inline(), single), chain=chain)


def test_devices_that_are_silent_or_fail_are_not_left_out() -> None:
    def fail(sent: MessageBatch, replies: Any) -> Any:
        if sent.message_type == records.DEPLOY or len(sent) < NUM_DEVICES:
            return replies
        errors = sent.select([0]).reply(errors={0: (2, "no battery")})
        return [*errors, *replies.select([1, 3])]

    check(lambda: strategy("duet"), lambda: Around(inline(), fail))
