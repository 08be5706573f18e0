"""A strategy gets what devices sent it, and of the simulation's instruments the number of examples
alone.
"""

import inspect
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from tiny import LABELS, NUM_DEVICES, SETTINGS, Around, app, cloud, fleet, inline, strategy, stream
from video_tiny import (
    VIDEO_SETTINGS,
    video_cloud,
    video_inline,
    video_strategy,
    video_stream,
    video_task,
)

from cdc_flower.simulations.chain import ChainLink
from cdc_flower.simulations.grids.codecs import WithCodecs
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.simulations.grids.requests import WithRequests
from cdc_flower.simulations.protocol.encoding import Codecs
from cdc_flower.simulations.requests.policies.random import Random
from cdc_flower.simulations.requests.setup import Requests
from cdc_flower.strategies.base import CloudStrategy, OnDevices
from cdc_flower.study.play import play
from cdc_flower.study.session import Session
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

pytestmark = pytest.mark.slow  # plays whole runs

Seen = list[tuple[str, str, str]]  # message type, record, key


class OneByOne(ClientApp):
    """The device app as Flower's runtimes call it: with one message and its context."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = app()

    def __call__(self, message: Message, context: Context) -> Message:
        return self.inner(message, context)


def single(_: MessageBatch, replies: Any) -> Any:
    """Single messages, last node first, as Flower's runtimes may give them."""
    return list(replies)[::-1]


STACKS: dict[str, dict[str, Any]] = {
    "inline": {},
    "single messages": {"grid": lambda: Around(inline(), single)},
    "one by one": {"grid": lambda: InlineGrid(OneByOne(), np.arange(NUM_DEVICES))},
    "slow links": {"rate": 3e3},
    "codecs": {"chain": [WithCodecs(Codecs(("delta", "zstd")))]},
    "requests": {"chain": [WithRequests(Requests(Random(rate=0.5)))]},
    "all of them": {
        "grid": lambda: Around(inline(), single),
        "rate": 3e3,
        "chain": [
            WithCodecs(Codecs(("delta", "float16", "zstd"))),
            WithRequests(Requests(Random(rate=0.5))),
        ],
    },
}


def played(
    built: Any,
    grid: Callable[[], Grid] = inline,
    rate: float = 1e6,
    chain: Sequence[ChainLink] = (),
    rounds: Callable[[Session], object] = Session.run,
) -> pd.DataFrame:
    """The table of a strategy on a stack of grids."""
    frames: list[pd.DataFrame] = []
    links, starts_s = fleet(up_bps=rate, down_bps=rate), stream().segment_starts_s
    labels = {**LABELS, "strategy": "s"}
    play(
        built,
        grid(),
        links,
        starts_s,
        labels=labels,
        collect=frames.append,
        chain=chain,
        rounds=rounds,
    )
    return pd.concat(frames, ignore_index=True)


def keys_of(replies: Iterable[Message]) -> Seen:
    """Every key of every reply, whether they came as a batch or one by one."""
    seen: Seen = []
    for message in replies:
        if message.has_content():
            kind = message.metadata.message_type
            seen += [
                (kind, name, key) for name, record in message.content.items() for key in record
            ]
    return seen


def spied(built: Any) -> tuple[Any, Seen]:
    """The strategy, and every key that reaches what it does with replies."""
    seen: Seen = []

    def spy(inner: Any) -> Any:
        def aggregate(server_round: int, replies: Iterable[Message]) -> Any:
            got = replies if isinstance(replies, MessageBatch) else list(replies)
            seen.extend(keys_of(got))
            return inner(server_round, got)

        return aggregate

    built.aggregate_train, built.aggregate_evaluate = (
        spy(built.aggregate_train),
        spy(built.aggregate_evaluate),
    )
    return built, seen


def assert_only_payload(seen: Seen) -> None:
    """No instrument, and of an evaluation the number of examples."""
    assert {record for _, record, _ in seen}.isdisjoint(records.INSTRUMENTS)
    evaluated = {(record, key) for kind, record, key in seen if kind == records.EVALUATE}
    assert evaluated == {(records.METRICS, records.NUM_EXAMPLES)}


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("name", SETTINGS)
def test_no_instrument_reaches_a_strategy(name: str, stack: str) -> None:
    built, seen = spied(strategy(name))
    rows = played(built, **STACKS[stack])
    assert (
        len(rows) == NUM_DEVICES * stream().num_segments * 9
    )  # the results are whole all the same
    assert_only_payload(seen)


@pytest.mark.ray
@pytest.mark.parametrize("name", ["duet", "fedavg"])
def test_no_instrument_reaches_a_strategy_on_ray(name: str) -> None:
    from cdc_flower.simulations.grids.ray import RayGrid

    grid = RayGrid(app(), np.arange(NUM_DEVICES), num_workers=2)
    try:
        built, seen = spied(strategy(name))
        played(built, lambda: grid)
        assert_only_payload(seen)
    finally:
        grid.close()


def video_played(built: Any, grid: Grid | None = None) -> pd.DataFrame:
    """The table of a strategy on video."""
    data, frames = video_stream(), list[pd.DataFrame]()
    play(
        built,
        grid or video_inline(data),
        fleet(data.num_devices, 1e6, 1e6),
        data.segment_starts_s,
        labels={**LABELS, "strategy": "s"},
        collect=frames.append,
        task=video_task(data),
    )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


@pytest.mark.parametrize("name", VIDEO_SETTINGS)
@pytest.mark.parametrize("change", [None, single], ids=["batches", "single messages"])
def test_no_instrument_reaches_a_strategy_on_video(name: str, change: Any) -> None:
    built, seen = spied(video_strategy(name, video_stream()))
    assert len(video_played(built, Around(video_inline(video_stream()), change)))
    assert_only_payload(seen)


class Stock(OnDevices, FedAvg):
    """Flower's own FedAvg, as it is."""


@pytest.mark.parametrize("stack", STACKS)
def test_a_stock_strategy_averages_what_it_may_know(stack: str) -> None:
    stock = Stock()
    stock.prepare(cloud())
    built, seen = spied(stock)
    results: list[Any] = []
    played(built, **STACKS[stack], rounds=lambda session: results.append(session.run()))
    assert_only_payload(seen)
    assert [dict(metrics) for metrics in results[0].evaluate_metrics_clientapp.values()] == [{}] * 6
    assert any(kind == records.TRAIN for kind, *_ in seen)


def test_the_number_of_examples_is_that_of_the_results() -> None:
    built = strategy("duet")
    results: list[Any] = []
    frame = played(built, rounds=lambda session: results.append(session.run()))
    rows = frame.drop_duplicates(["segment", "device_id"])
    told = [
        metrics[records.NUM_EXAMPLES] for metrics in results[0].evaluate_metrics_clientapp.values()
    ]
    assert told == rows.groupby("segment").num_examples.sum().tolist()


@pytest.mark.parametrize("name", ["duet", "apg", "group_fine_tuning", "persona"])
def test_the_stale_arm_is_a_setting_of_the_deployment_and_costs_what_the_present_costs(
    name: str,
) -> None:
    stale = strategy(name, report_lag=1)
    assert stale.settings() == {**strategy(name).settings(), records.LAG: 1}
    around = Around(inline())
    rows, present = played(stale, lambda: around), played(strategy(name))
    for column in ("bytes_up", "bytes_down", "num_labels", "latency_s"):
        np.testing.assert_allclose(rows[column], present[column])
    told = [
        batch
        for batch in around.replies
        if getattr(batch, "message_type", "") == records.TRAIN_REPORT
    ]
    for segment, batch in enumerate(told):
        before = stream().recent(np.arange(NUM_DEVICES), segment, 1)
        np.testing.assert_array_equal(batch.array(records.REPORT, records.HISTORY), before)
    assert len(told) == stream().num_segments


# Other doors: what a strategy may ask for itself.


def ask(kind: str, grid: Grid, segment: int, **clock: Any) -> MessageBatch:
    """A message to every node."""
    nodes = np.array(list(grid.get_node_ids()), np.uint64)
    return MessageBatch(kind, nodes, configs={records.CLOCK: {records.SEGMENT: segment, **clock}})


def pushed(grid: Grid, segment: int) -> Iterable[Message]:
    """An evaluation by Flower's other two verbs."""
    return grid.pull_messages(grid.push_messages(ask(records.EVALUATE, grid, segment)))


class Peeker(CloudStrategy):
    """Asks devices for something when a round begins, and evaluates nothing afterwards."""

    def __init__(self, door: Callable[[Grid, int], Iterable[Message]]) -> None:
        self.door, self.replies = door, list[Message]()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self.replies += self.door(grid, server_round - 1)
        return []

    def configure_evaluate(self, *_: Any) -> Iterable[Message]:
        return []


def peeked(door: Callable[[Grid, int], Iterable[Message]]) -> list[Message]:
    """All that comes through a door."""
    peeker = Peeker(door)
    peeker.prepare(video_cloud(video_stream()))
    video_played(peeker)
    return peeker.replies


def deployment(grid: Grid) -> MessageBatch:
    """The deployment once more."""
    model = video_strategy("static", video_stream()).deployment()
    return ask(records.DEPLOY, grid, 0).with_records(shared={records.MODEL: model})


DOORS: dict[str, Callable[[Grid, int], Iterable[Message]]] = {
    "a deployment": lambda grid, _: grid.send_and_receive(deployment(grid)),
    "own answers": lambda grid, segment: grid.send_and_receive(
        ask(records.QUERY_UNCERTAINTY, grid, segment)
    ),
    "work": lambda grid, segment: grid.send_and_receive(ask(records.TRAIN_LOCAL, grid, segment)),
}
EVALUATIONS: dict[str, Callable[[Grid, int], Iterable[Message]]] = {
    "an evaluation": lambda grid, segment: grid.send_and_receive(
        ask(records.EVALUATE, grid, segment)
    ),
    "push and pull": pushed,
}


@pytest.mark.parametrize("door", DOORS)
def test_what_a_strategy_asks_for_itself_holds_no_instrument(door: str) -> None:
    replies = peeked(DOORS[door])
    assert len(replies) == NUM_DEVICES * stream().num_segments
    assert not keys_of(replies)


@pytest.mark.parametrize("door", EVALUATIONS)
def test_an_evaluation_out_of_turn_tells_the_number_of_examples(door: str) -> None:
    replies = peeked(EVALUATIONS[door])
    assert len(replies) == NUM_DEVICES * stream().num_segments
    assert set(keys_of(replies)) == {(records.EVALUATE, records.METRICS, records.NUM_EXAMPLES)}


def test_no_virtual_time_is_in_the_metadata() -> None:
    before_s = time.time()
    replies = peeked(EVALUATIONS["an evaluation"])
    assert all(before_s <= reply.metadata.created_at <= time.time() for reply in replies)


def test_a_strategy_is_given_no_way_to_the_devices() -> None:
    def look(grid: Grid, _: int) -> Iterable[Message]:
        found = {name: getattr(grid, name) for name in dir(grid) if not name.startswith("_")}
        assert not [
            name for name, value in found.items() if name != "run" and not inspect.ismethod(value)
        ]
        return []

    peeked(look)


def late_evaluation(grid: Grid, segment: int) -> Iterable[Message]:
    """Tell of the next segment, and be scored on this one."""
    grid.send_and_receive(ask(records.TRAIN_REPORT, grid, segment + 1))
    return grid.send_and_receive(ask(records.EVALUATE, grid, segment))


def second_evaluation(grid: Grid, segment: int) -> Iterable[Message]:
    """Be scored twice on one segment."""
    grid.send_and_receive(ask(records.EVALUATE, grid, segment))
    return grid.send_and_receive(ask(records.EVALUATE, grid, segment))


def sends(
    batch_of: Callable[[Grid, int], MessageBatch],
) -> Callable[[Grid, int], Iterable[Message]]:
    """Sends a message."""
    return lambda grid, segment: grid.send_and_receive(batch_of(grid, segment))


def with_work(**work: float) -> Callable[[Grid, int], Iterable[Message]]:
    """Declares work in the cloud."""
    return sends(
        lambda grid, k: ask(records.EVALUATE, grid, k).with_records(configs={records.WORK: work})
    )


@pytest.mark.parametrize(
    ("door", "rule"),
    [
        (late_evaluation, "segment must be 1 or later"),
        (second_evaluation, "segment must be 1 or later"),
        (
            sends(lambda grid, k: ask(records.TRAIN_REPORT, grid, k, lag=1)),
            "clock of a strategy.*got lag",
        ),
        (
            sends(lambda grid, k: ask(records.TRAIN_REPORT, grid, k, **{records.ARRIVAL_S: 0.0})),
            "clock of a strategy.*got arrival-s",
        ),
        (with_work(**{records.FLOPS: -1.0}), "flops must be >= 0"),
        (with_work(**{records.NUM_LABELS: 0}), "work of a strategy.*got num-labels"),
        (
            sends(
                lambda grid, k: ask(records.EVALUATE, grid, k).with_records(
                    metrics={records.SCORES: {"x": [1] * 4}}
                )
            ),
            "scores of a strategy",
        ),
    ],
    ids=["a later segment first", "twice", "lag", "arrival", "negative work", "labels", "scores"],
)
def test_a_strategy_has_no_power_over_the_instruments(
    door: Callable[[Grid, int], Iterable[Message]], rule: str
) -> None:
    with pytest.raises(ValueError, match=rule):
        peeked(door)
