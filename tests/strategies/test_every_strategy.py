"""What holds for every strategy that is registered."""

import copy
import itertools
import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import Strategy
from tiny import (
    NUM_DEVICES,
    NUM_SEGMENTS,
    SETTINGS,
    Around,
    cloud,
    inline,
    model,
    newly_trained,
    same,
    strategy,
    stream,
    table,
)

from cdc_flower.core.errors import UserError
from cdc_flower.core.stream import TruthAccessError
from cdc_flower.devices.app import DeviceApp
from cdc_flower.simulations.deployment import deploy
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.simulations.grids.strategy import StrategyGrid
from cdc_flower.strategies.base import CloudStrategy
from cdc_flower.strategies.generation import GenerationStrategy
from cdc_flower.strategies.registry import build_strategy, strategies
from cdc_flower.study.plays import plays
from cdc_flower.tasks.recommendation.stream import EventStream
from cdc_flower.tasks.recommendation.task import RECOMMENDATION
from cdc_flower.tasks.registry import tasks
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

every_strategy = pytest.mark.parametrize("name", SETTINGS)
#: Those whose cloud answers reports. No gradient runs once they are prepared.
ANSWERING = [name for name in SETTINGS if strategies[name].value.reads]


def test_each_that_answers_reports_declares_what_it_reads_and_plays_a_task() -> None:
    for entry in strategies.entries():
        assert not issubclass(entry.value, GenerationStrategy) or entry.value.reads
        assert any(plays(entry.value, task) for task in tasks)


@pytest.mark.parametrize("name", strategies)
def test_it_is_flowers_strategy_and_its_defaults_work(name: str) -> None:
    assert isinstance(build_strategy(name, {}), Strategy)


@every_strategy
def test_a_seed_gives_the_same_rows_again_and_no_global_randomness_is_used(name: str) -> None:
    first = table(name)
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[index]
    same(first, table(name, built=newly_trained(name)))
    assert random.getstate() == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), before[2])


@every_strategy
def test_it_changes_nothing_that_it_is_given(name: str) -> None:
    given = cloud()
    copies = {key: value.clone() for key, value in given.parameters.items()}
    built = build_strategy(name, SETTINGS[name])
    built.prepare(given)
    initial = built.initial_arrays()
    before = {key: value.numpy().copy() for key, value in initial.items()}
    deployed = {key: value.copy() for key, value in built.deployment().items()}

    def guard(_: MessageBatch, replies: Any) -> Any:
        if isinstance(replies, MessageBatch):
            for group in (replies.arrays, replies.metrics):
                for record in group.values():
                    for value in record.values():
                        value.setflags(write=False)
        return replies

    grid = Around(inline(), guard)
    deploy(grid, built)
    built.start(grid=StrategyGrid(grid), initial_arrays=initial, num_rounds=2)
    for key, value in copies.items():
        assert torch.equal(given.parameters[key], value)
        assert not given.parameters[key].requires_grad
    for key, array in before.items():
        np.testing.assert_array_equal(initial[key].numpy(), array)
    for key, array in deployed.items():
        np.testing.assert_array_equal(built.deployment()[key], array)


@every_strategy
def test_it_pickles_before_and_after_it_is_prepared_and_goes_on(name: str) -> None:
    pickle.loads(pickle.dumps(build_strategy(name, SETTINGS[name])))
    built = strategy(name)
    same(table(name, built=pickle.loads(pickle.dumps(built))), table(name, built=built))


@every_strategy
def test_it_can_be_played_twice(name: str) -> None:
    built = strategy(name)
    same(table(name, built=built), table(name, built=built))


@every_strategy
def test_it_survives_lost_replies(name: str) -> None:
    def lose(sent: MessageBatch, replies: Any) -> Any:
        if sent.message_type == records.DEPLOY:
            return replies
        return [reply for k, reply in enumerate(replies) if (k + len(sent)) % 2]

    rows = table(name, Around(inline(), lose))
    assert len(rows)
    assert np.isfinite(rows.value_sum).all()


@every_strategy
def test_it_survives_when_every_reply_of_a_training_is_lost(name: str) -> None:
    lose = lambda sent, replies: [] if sent.message_type.startswith("train") else replies  # noqa: E731
    rows = table(name, Around(inline(), lose))
    assert len(rows) == 4 * NUM_SEGMENTS * 9


@every_strategy
def test_it_survives_error_replies_of_some_and_of_all(name: str) -> None:
    def fail(bad: set[int]) -> Any:
        def change(sent: MessageBatch, replies: Any) -> Any:
            if sent.message_type == records.DEPLOY:
                return replies
            errors = sent.select(np.isin(sent.node_ids, [*bad]))
            kept = [reply for reply in replies if reply.metadata.src_node_id not in bad]
            return [*kept, *errors.reply(errors={k: (2, "no battery") for k in range(len(errors))})]

        return change

    rows = table(name, Around(inline(), fail({3})))
    assert sorted(rows.device_id.unique()) == [0, 2, 3]
    assert np.isfinite(rows.value_sum).all()
    built, grid = strategy(name), Around(inline(), fail({2, 3, 4, 5}))
    deploy(grid, built)
    built.start(grid=StrategyGrid(grid), initial_arrays=built.initial_arrays(), num_rounds=2)


@every_strategy
def test_only_declared_records_cross_the_link_and_no_label_goes_up(name: str) -> None:
    around, built = Around(inline()), strategy(name)
    table(name, around, built=built)
    for batch in around.sent:
        assert set(batch.record_names()) <= built.downlink_records()
    for replies in around.replies[1:]:
        for batch, _ in MessageBatch.group(replies):
            assert set(batch.record_names()) <= built.uplink
    sends_labels = any(records.LABELLED in up for _, up in inventory_of(name).values())
    assert (records.LABELLED in built.uplink) == sends_labels


#: What comes from a device before a segment is evaluated: kind of message, segment, device, record,
#: name -> numbers.
Told = dict[tuple[str, int, int, str, str], np.ndarray]


def told_before_segments(name: str, events: EventStream) -> Told:
    """What devices with these events send, other than the replies to an evaluation."""
    around = Around(InlineGrid(DeviceApp(model(), events, RECOMMENDATION), np.arange(NUM_DEVICES)))
    table(name, around)
    told: Told = {}
    for sent, replies in zip(around.sent, around.replies, strict=True):
        for batch, _ in MessageBatch.group(replies):
            if not sent.message_type.startswith("train"):
                continue
            for record, numbers in (batch.arrays | batch.shared).items():
                for each, row in itertools.product(numbers, range(len(batch))):
                    device = int(batch.node_ids[row]) - 2
                    key = (
                        sent.message_type,
                        int(sent.configs[records.CLOCK][records.SEGMENT]),
                        device,
                        record,
                        each,
                    )
                    told[key] = batch.array(record, each)[row]
    return told


#: What a method sends beside instruments: message type -> payload down, payload up.
Inventory = dict[str, tuple[set[str], set[str]]]
LAYERS: Inventory = {records.EVALUATE: ({records.PARAMETERS}, set[str]())}
REPORTS: Inventory = {records.TRAIN_REPORT: (set[str](), {records.REPORT})}
#: Of methods that send something else than answers to reports.
INVENTORY: dict[str, Inventory] = {
    "fedavg": {
        records.TRAIN: ({records.ARRAYS}, {records.ARRAYS, records.METRICS}),
        records.EVALUATE: ({records.ARRAYS}, set()),
    },
    "cloud_fine_tuning": {records.TRAIN_UPLOAD: (set(), {records.LABELLED}), **LAYERS},
}


def inventory_of(name: str) -> Inventory:
    """What it may send: a method that answers reports sends layers, or what its decoders read."""
    if name in INVENTORY:
        return INVENTORY[name]
    if name not in ANSWERING:
        return {}
    own = {record for decoder in strategy(name).decoders() for record in decoder.reads}
    return REPORTS | ({records.EVALUATE: (own, set())} if own else LAYERS)


@every_strategy
def test_what_it_sends_and_gets_is_in_its_inventory(name: str) -> None:
    around = Around(inline())
    table(name, around)
    found: dict[str, tuple[set[str], set[str]]] = {}
    replies = [batch for some in around.replies[1:] for batch, _ in MessageBatch.group(some)]
    for way, batches in enumerate((around.sent[1:], replies)):
        for batch in batches:
            payload = set(batch.record_names()) - records.INSTRUMENTS
            found.setdefault(batch.message_type, (set(), set()))[way].update(payload)
    assert {kind: both for kind, both in found.items() if any(both)} == inventory_of(name)


@every_strategy
def test_reports_hold_nothing_that_the_device_has_not_seen(name: str) -> None:
    segment, events = 3, stream()
    other = copy.copy(events)
    other.items = events.items.copy()
    for device in range(NUM_DEVICES):
        future = slice(events.bounds[device, segment], events.offsets[device + 1])
        assert future.stop - future.start > 3
        other.items[future] = events.num_items + 1 - events.items[future]
    told, with_another_future = (
        told_before_segments(name, events),
        told_before_segments(name, other),
    )
    assert bool(told) == any(up for _, up in inventory_of(name).values())
    assert told.keys() == with_another_future.keys()
    for key, numbers in told.items():
        _, asked, device, record, what = key
        if asked <= segment:
            np.testing.assert_allclose(
                numbers, with_another_future[key], rtol=1e-6, err_msg=str(key)
            )
        if record == records.REPORT and what == records.HISTORY:
            end = events.bounds[device, asked]
            np.testing.assert_array_equal(
                numbers, events.items[end - 10 : end]
            )  # its last ten items
    if told:  # the other future does come up in later segments
        assert any(
            (numbers != with_another_future[key]).any()
            for key, numbers in told.items()
            if key[1] > segment
        )


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("static", {}),
        ("fine_tuning", {}),
        ("fedavg", {"layers": "head"}),
        *((name, {}) for name in ANSWERING),
    ],
)
def test_static_layers_on_devices_stay_as_deployed(name: str, settings: dict) -> None:
    grid, built = inline(), strategy(name, **settings)
    table(name, grid, built=built)
    states: Any = grid.states
    deployed = built.deployment()
    assert set(states.pool) == set(model().adaptive)
    for key, value in states.static.items():
        np.testing.assert_array_equal(value, deployed[key])


@pytest.mark.parametrize("name", ["static", *ANSWERING])
def test_no_gradient_runs_once_it_is_prepared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    built = strategy(name)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a gradient")

    monkeypatch.setattr(torch.Tensor, "backward", refuse)
    monkeypatch.setattr(torch.autograd, "backward", refuse)
    monkeypatch.setattr(torch.autograd, "grad", refuse)
    monkeypatch.setattr(torch.optim.Adam, "__init__", refuse)
    table(name, built=built)


class Cheat(CloudStrategy):
    """Reads what nobody may read."""

    def __init__(self, how: str) -> None:
        self.how = how

    def configure_train(
        self, server_round: int, arrays: Any, config: ConfigRecord, grid: Any
    ) -> Any:
        ids = np.arange(4)
        if self.how == "labels":
            stream().labelled(self, ids, 1, 4, 4)  # type: ignore[arg-type]
        truth = stream().segment(ids, 0).truth
        return truth.read(self) if self.how == "read" else getattr(truth, self.how)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["labels", "read", "positive", "context_id", "is_shift"])
def test_a_strategy_cannot_read_the_truth(how: str) -> None:
    cheat = Cheat(how)
    cheat.prepare(cloud())
    with pytest.raises(TruthAccessError):
        table("static", built=cheat)


def test_an_unknown_strategy_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="unknown strategy 'duett'; did you mean 'duet'"):
        build_strategy("duett", {})
