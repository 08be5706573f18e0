"""Controls: the devices of a method again, with the mean of all layers or with another device's."""

import copy
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny import LABELS, SETTINGS, Around, app, cloud, fleet, inline, same, strategy, stream

from cdc_flower.core.seeds import generator
from cdc_flower.devices.state import DeviceStates
from cdc_flower.simulations.fleet import Fleet
from cdc_flower.simulations.grids.codecs import WithCodecs
from cdc_flower.simulations.grids.controls import derangement
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.simulations.grids.requests import WithRequests
from cdc_flower.simulations.protocol.encoding import Codecs
from cdc_flower.simulations.requests.policies.random import Random
from cdc_flower.simulations.requests.setup import Requests
from cdc_flower.strategies.base import CloudStrategy
from cdc_flower.strategies.generation import GenerationStrategy, parameters_message
from cdc_flower.strategies.registry import strategies
from cdc_flower.study.play import play
from cdc_flower.tables.columns import COLUMNS
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

pytestmark = pytest.mark.slow  # plays whole runs

NUM_DEVICES = 5
PERSONAL = [name for name in SETTINGS if strategies[name].value.personal]
VALUES = ["value_sum", "value_count"]
KEY = ["segment", "device_id", "metric"]


def slow() -> Fleet:
    """Links over which some answers come at once, some in a segment, and some in a later one."""
    rates = np.array([1e4, 200.0, 100.0, 60.0, 1e4])
    return Fleet(rates, rates, np.zeros(NUM_DEVICES), np.full(NUM_DEVICES, 1e9), 1e9)


class Varied(GenerationStrategy):
    """Moves the deployed layers by what a device told, and those of some devices not at all."""

    reads = frozenset({records.HISTORY})
    step = 0.3

    def answer(self, reports: MessageBatch) -> list[MessageBatch]:
        told = reports.array(records.REPORT, records.HISTORY).astype(np.float32)
        base = self.cloud.arrays()
        layers = {
            name: base[name] + self.step * np.sin(_widened(told.sum(1), base[name].ndim))
            for name in self.cloud.model.adaptive
        }
        return [parameters_message(reports.node_ids, layers, 1e3)]


class Constant(Varied):
    """Gives every device the same layers in every segment, which are not the deployed ones."""

    def answer(self, reports: MessageBatch) -> list[MessageBatch]:
        base = self.cloud.arrays()
        layers = {
            name: np.repeat(np.sin(9 * base[name])[None], len(reports), 0)
            for name in self.cloud.model.adaptive
        }
        return [parameters_message(reports.node_ids, layers, 1e3)]


class Partly(Varied):
    """Gives every other device static layers too; the others keep the deployed ones."""

    def answer(self, reports: MessageBatch) -> list[MessageBatch]:
        (whole,) = super().answer(reports)
        layers, deployed = whole.arrays[records.PARAMETERS], self.cloud.arrays()["embedding"]
        messages = []
        for rows in (np.arange(len(reports))[::2], np.arange(len(reports))[1::2]):
            own = {name: value[rows] for name, value in layers.items()}
            if not messages:
                own["embedding"] = np.repeat(deployed[None] / 2, len(rows), 0)
            messages.append(parameters_message(reports.node_ids[rows], own, 1e3))
        return messages


def _widened(values: np.ndarray, ndim: int) -> np.ndarray:
    return values.reshape(-1, *(1 for _ in range(ndim)))


def varied(kind: type[Varied] = Varied) -> Any:
    built = kind()
    built.prepare(cloud(NUM_DEVICES))
    return built


def played(
    built: Any,
    name: str = "varied",
    grid: Any = None,
    links: Fleet | None = None,
    chain: Iterable[Any] = (),
    controls: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    frames: list[pd.DataFrame] = []
    play(
        copy.deepcopy(built),
        inline(NUM_DEVICES) if grid is None else grid,
        links or slow(),
        stream(NUM_DEVICES).segment_starts_s,
        labels={**LABELS, "strategy": name, "seed": seed},
        collect=frames.append,
        chain=chain,
        controls=controls,
    )
    return pd.concat(frames, ignore_index=True).astype({"strategy": str, "metric": str})


@cache
def _kept(name: str) -> pd.DataFrame:
    return played(strategy(name, NUM_DEVICES), name)


def rows_of(table: pd.DataFrame, name: str) -> pd.DataFrame:
    mine = table[table.strategy == name].sort_values(KEY, kind="stable", ignore_index=True)
    return mine.drop(columns="strategy")


def test_strategies_that_make_layers_for_devices_have_controls_and_no_others() -> None:
    assert {entry.name for entry in strategies.entries() if entry.value.personal} == {
        *("duet", "persona", "apg", "group_fine_tuning", "cdc_mmpg", "cloud_fine_tuning")
    }
    assert not CloudStrategy.personal and GenerationStrategy.personal
    assert set(played(strategy("fedavg", NUM_DEVICES), "fedavg").strategy) == {"fedavg"}


@pytest.mark.parametrize("name", PERSONAL)
def test_a_method_is_the_same_with_its_controls_and_they_have_its_costs(name: str) -> None:
    table = _kept(name)
    assert list(dict.fromkeys(table.strategy)) == [name, f"{name}@mean", f"{name}@other"]
    alone = played(strategy(name, NUM_DEVICES), name, controls=False)
    same(rows_of(table, name), rows_of(alone, name))
    for control in ("mean", "other"):
        mine = rows_of(table, f"{name}@{control}")
        pd.testing.assert_frame_equal(
            mine.drop(columns=VALUES), rows_of(table, name).drop(columns=VALUES)
        )
    assert set(COLUMNS.names) == set(table.columns)


def test_what_a_method_has_is_untouched_by_its_controls() -> None:
    table, alone = played(varied()), played(varied(), controls=False)
    same(rows_of(table, "varied"), rows_of(alone, "varied"))


def test_controls_of_a_constant_generator_have_its_rows_to_the_bit() -> None:
    table = played(varied(Constant))
    for control in ("mean", "other"):
        same(rows_of(table, f"varied@{control}"), rows_of(table, "varied"))
    static = rows_of(played(strategy("static", NUM_DEVICES)), "varied")
    assert (static.value_sum != rows_of(table, "varied").value_sum).any()


def answers(sent: Iterable[MessageBatch]) -> list[dict[int, tuple[dict[str, Any], float]]]:
    """What each device got in each segment for the method itself: layers and when they came."""
    got: list[dict[int, Any]] = [{} for _ in range(stream(NUM_DEVICES).num_segments)]
    for batch in sent:
        clock = batch.configs.get(records.CLOCK, {})
        layers = batch.arrays.get(records.PARAMETERS)
        if batch.message_type != records.EVALUATE or not layers:
            continue
        if records.NAME in batch.configs.get(records.CONTROL, {}):
            continue
        arrival_s = np.broadcast_to(clock[records.ARRIVAL_S], len(batch))
        for row, node in enumerate(batch.node_ids):
            own = {name: value[row] for name, value in layers.items()}
            got[clock[records.SEGMENT]][int(node) - 2] = own, float(arrival_s[row])
    return got


def by_hand(control: str, got: list[dict[int, Any]]) -> pd.DataFrame:
    """Scores of a control, device by device and segment by segment, with one message each."""
    devices = app(NUM_DEVICES)
    names = devices.task.metrics  # type: ignore[attr-defined]
    states = {}
    model = cloud(NUM_DEVICES).arrays()
    for device in range(NUM_DEVICES):
        deploy = MessageBatch(records.DEPLOY, np.array([2], np.uint64), {}, {records.MODEL: model})
        _, states[device] = devices.handle(deploy, DeviceStates(np.array([device])))
    found = []
    for segment, each in enumerate(got):
        ids = sorted(each)
        giver = derangement(len(ids), generator(0, "controls", segment)) if len(ids) > 1 else []
        for device in range(NUM_DEVICES):
            content: dict[str, Any] = {}
            arrival_s = each[device][1] if device in each else -np.inf
            if device in each and control == "mean":
                content = {
                    name: sum(each[k][0][name].astype(np.float64) for k in ids) / len(ids)
                    for name in each[device][0]
                }
            elif device in each and len(ids) > 1:
                content = each[ids[giver[ids.index(device)]]][0]
            message = MessageBatch(
                records.EVALUATE,
                np.array([2], np.uint64),
                {records.PARAMETERS: {k: v[None].astype(np.float32) for k, v in content.items()}}
                if content
                else {},
                configs={records.CLOCK: {records.SEGMENT: segment, records.ARRIVAL_S: arrival_s}},
            )
            reply, states[device] = devices.handle(message, states[device])
            sums = reply.metrics[records.SCORES]["value-sum"][0]  # type: ignore[union-attr]
            found += [
                {"segment": segment, "device_id": device, "metric": metric, "value_sum": value}
                for metric, value in zip(names, sums, strict=True)
            ]
    return pd.DataFrame(found)


@pytest.mark.parametrize("control", ["mean", "other"])
def test_a_loop_over_devices_by_hand_gives_the_rows_of_a_control(control: str) -> None:
    around = Around(inline(NUM_DEVICES))
    table = played(varied(), grid=around)
    got = answers(around.sent)
    firsts = [min(k for k, each in enumerate(got) if device in each) for device in range(5)]
    assert firsts == [0, 1, 2, 4, 0], "some came late"
    assert 3 not in got[5] and 2 not in got[3], "and then not in every segment"
    expected = by_hand(control, got).sort_values(KEY, ignore_index=True)
    mine = rows_of(table, f"varied@{control}")
    mine = mine[mine.metric.isin(expected.metric)].reset_index(drop=True)
    np.testing.assert_allclose(mine.value_sum, expected.value_sum, rtol=1e-4, atol=1e-4)
    method = rows_of(table, "varied")
    method = method[method.metric.isin(expected.metric)].reset_index(drop=True)
    assert not np.allclose(mine.value_sum, method.value_sum, rtol=1e-3)


def layers_in_use(grid: InlineGrid, control: str) -> dict[str, np.ndarray]:
    states = grid.states
    assert isinstance(states, DeviceStates)
    slot = states.slots[f"@{control}"].index
    newest = np.where(slot["pending"] >= 0, slot["pending"], slot["in_use"])
    deployed = (newest < 0).reshape(-1, 1)  # it has not played the control yet
    return {
        name: np.where(_widened(deployed, value.ndim - 1), states.static[name], value[newest])
        for name, value in states.pool.items()
    }


def test_the_mean_is_the_same_on_every_device_that_got_layers() -> None:
    grid = inline(NUM_DEVICES)
    played(varied(), grid=grid, links=fleet(NUM_DEVICES))
    for value in layers_in_use(grid, "mean").values():
        assert (value == value[:1]).all()
    assert any((value != value[:1]).any() for value in layers_in_use(grid, "other").values())


def test_a_device_without_new_layers_keeps_what_it_has_of_a_control() -> None:
    seen: list[dict[str, np.ndarray]] = []
    asked: list[set[int]] = []

    class Watched(InlineGrid):
        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
            batches = [batch for batch, _ in MessageBatch.group(messages)]
            replies = super().send_and_receive(messages, timeout=timeout)
            names = [b.configs.get(records.CONTROL, {}).get(records.NAME) for b in batches]
            if "mean" in names:
                got = [b for b in batches if b.arrays.get(records.PARAMETERS)]
                asked.append({int(node) - 2 for b in got for node in b.node_ids})
                seen.append(layers_in_use(self, "mean"))
            return replies

    chain = [WithRequests(Requests(Random(rate=0.5)))]
    grid = Watched(app(NUM_DEVICES), np.arange(NUM_DEVICES))
    played(varied(), grid=grid, links=fleet(NUM_DEVICES), chain=chain)
    kept = 0
    for before, after, got in zip(seen, seen[1:], asked[1:], strict=False):
        for device in range(NUM_DEVICES):
            is_same = all((before[name][device] == after[name][device]).all() for name in after)
            assert is_same == (device not in got)
            kept += is_same
    assert kept > 0


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_shards_change_controls_by_rounding_alone(shards: int) -> None:
    grid = InlineGrid(app(NUM_DEVICES), np.arange(NUM_DEVICES), shard_devices=shards)
    same(played(varied()), played(varied(), grid=grid), rtol=1e-4)


def test_who_has_a_layer_from_the_deployment_gives_that_one_to_a_control() -> None:
    links = fleet(NUM_DEVICES)
    alone = InlineGrid(app(NUM_DEVICES), np.arange(NUM_DEVICES), shard_devices=1)
    same(
        played(varied(Partly), links=links),
        played(varied(Partly), grid=alone, links=links),
        rtol=1e-4,
    )


@pytest.mark.parametrize("downlink", ["edit", "index"])
def test_controls_are_of_decoded_layers_whatever_the_downlink_is(downlink: str) -> None:
    links, settings = fleet(NUM_DEVICES), {"num_prototypes": 2}
    full = played(strategy("persona", NUM_DEVICES, **settings), "p", links=links)
    built = strategy("persona", NUM_DEVICES, downlink=downlink, **settings)
    light = played(built, "p", links=links)
    for control in ("mean", "other"):
        mine, theirs = (rows_of(each, f"p@{control}") for each in (full, light))
        if downlink == "edit":
            np.testing.assert_allclose(mine.value_sum, theirs.value_sum, rtol=1e-4, atol=1e-4)
        else:
            assert len(mine) == len(theirs)


def test_whole_models_have_controls_too() -> None:
    built = strategy("group_fine_tuning", NUM_DEVICES, layers="all")
    grid = inline(NUM_DEVICES)
    table = played(built, "g", grid=grid, links=fleet(NUM_DEVICES))
    assert set(table.strategy) == {"g", "g@mean", "g@other"}
    mean = layers_in_use(grid, "mean")
    assert set(mean) == set(cloud(NUM_DEVICES).arrays())


def test_controls_are_of_what_codecs_leave() -> None:
    around = Around(inline(NUM_DEVICES))
    chain = [WithCodecs(Codecs(("int8",)))]
    played(varied(), grid=around, links=fleet(NUM_DEVICES), chain=chain)
    told = [b for b in around.sent if b.arrays.get(records.PARAMETERS)]
    of_method = [b for b in told if records.TELLS in b.configs.get(records.CONTROL, {})]
    of_mean = [b for b in told if b.configs[records.CONTROL].get(records.NAME) == "mean"]
    for one, other in zip(of_method, of_mean, strict=True):
        for name, value in one.arrays[records.PARAMETERS].items():
            mean = value.mean(0, dtype=np.float64).astype(np.float32)
            np.testing.assert_array_equal(other.arrays[records.PARAMETERS][name][0], mean)


def test_links_and_the_strategy_see_nothing_of_controls() -> None:
    class Looking(Varied):
        def aggregate_evaluate(self, server_round: int, replies: Any) -> Any:
            for batch, _ in MessageBatch.group(replies):
                assert records.INSTRUMENTS.isdisjoint(batch.record_names())
            return super().aggregate_evaluate(server_round, replies)

    played(varied(Looking))


def test_replies_of_devices_that_fail_have_no_rows_in_a_control() -> None:
    def lose(sent: MessageBatch, replies: Any) -> Any:
        control = sent.configs.get(records.CONTROL, {}).get(records.NAME)
        return [r for r in replies if control is None or r.metadata.src_node_id != 3]

    table = played(varied(), grid=Around(inline(NUM_DEVICES), lose), links=fleet(NUM_DEVICES))
    assert 1 in set(rows_of(table, "varied").device_id)
    assert 1 not in set(rows_of(table, "varied@mean").device_id)


def test_whose_layers_a_device_gets_depends_on_the_seed_of_the_run_and_nothing_else_does() -> None:
    one, other = (played(varied(), links=fleet(NUM_DEVICES), seed=seed) for seed in (0, 1))
    for name in ("varied", "varied@mean"):
        same(rows_of(one, name).drop(columns="seed"), rows_of(other, name).drop(columns="seed"))
    theirs = (rows_of(each, "varied@other").value_sum for each in (one, other))
    assert not np.array_equal(*theirs)


def of_controls(sent: Iterable[MessageBatch]) -> list[tuple[int, set[int]]]:
    """Segments and nodes of the messages that play controls, in their order."""
    return [
        (int(batch.configs[records.CLOCK][records.SEGMENT]), set(batch.node_ids.tolist()))
        for batch in sent
        if records.NAME in batch.configs.get(records.CONTROL, {})
    ]


def test_a_device_plays_controls_from_the_segment_in_which_it_first_gets_layers() -> None:
    around = Around(inline(NUM_DEVICES))
    played(varied(), grid=around)
    got = answers(around.sent)
    firsts = {
        device + 2: min(k for k, each in enumerate(got) if device in each)
        for device in set().union(*got)
    }
    plays: dict[int, set[int]] = {}
    for segment, nodes in of_controls(around.sent):
        plays[segment] = plays.get(segment, set()) | nodes
    assert len(firsts) == NUM_DEVICES and max(firsts.values()) > 0, "some came late"
    for segment in range(len(got)):
        began = {node for node, first in firsts.items() if first <= segment}
        assert plays.get(segment, set()) == began


def test_a_segment_that_nobody_answers_leaves_nothing_to_the_controls_of_the_next() -> None:
    def lose(sent: MessageBatch, replies: Any) -> Any:
        clock = sent.configs.get(records.CLOCK, {}) if sent.message_type == records.EVALUATE else {}
        return [] if clock.get(records.SEGMENT) == 2 else replies

    around = Around(inline(NUM_DEVICES), lose)
    table = played(varied(), grid=around, links=fleet(NUM_DEVICES))
    assert set(table.segment) == {0, 1, 3, 4, 5}
    segments = [segment for segment, _ in of_controls(around.sent)]
    assert segments == sorted(segments) and 2 not in segments
