"""Ray is started once for all tests here, with three CPUs."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from tiny import SETTINGS, app, counting_app, fleet, inline, same, strategy, table

from cdc_flower.core.errors import UserError
from cdc_flower.devices.app import DeviceApp
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.simulations.grids.lost import GridLost
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.ray

NUM_DEVICES = 7  # no multiple of a number of shards


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    from cdc_flower.simulations.grids.ray_process import end_ray, start_ray

    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    before = signal.signal(signal.SIGTERM, at_sigterm)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)  # workers import the helpers of these tests
        start_ray(3)
        yield
        end_ray()
    signal.signal(signal.SIGTERM, before)


def at_sigterm(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_process_keeps_what_it_does_at_sigterm() -> None:
    assert signal.getsignal(signal.SIGTERM) is at_sigterm


def test_a_ray_that_is_not_there_in_time_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from cdc_flower.simulations.grids import ray_process

    def slow(**_: object) -> None:
        raise Exception("The current node timed out.\nIt may be busy.")

    monkeypatch.setattr(ray_process.ray, "init", slow)
    monkeypatch.setattr(ray_process, "end_ray", lambda **_: None)  # that of the other tests
    with pytest.raises(GridLost, match=r"Ray did not start: The current node timed out\.$"):
        ray_process.start_ray(1)


def ray_grid(
    flower_app: Any,
    num_devices: int = NUM_DEVICES,
    num_workers: int = 2,
    shard_devices: int | None = None,
) -> Any:
    from cdc_flower.simulations.grids.ray import RayGrid

    return RayGrid(
        flower_app,
        np.arange(num_devices),
        num_workers=num_workers,
        shard_devices=shard_devices,
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_workers_give_the_same_rows_as_one_process(name: str) -> None:
    links = fleet(NUM_DEVICES, up_bps=5e3, down_bps=5e3, rtt_s=0.1, device_flops_per_s=1e5)
    grid = ray_grid(app(NUM_DEVICES), num_workers=3)
    same(table(name, inline(NUM_DEVICES), links), table(name, grid, links), rtol=1e-5)
    grid.close()


@pytest.mark.parametrize("name", ["duet", "cloud_fine_tuning"])
def test_workers_play_controls_as_one_process_does(name: str) -> None:
    links = fleet(NUM_DEVICES, up_bps=5e3, down_bps=0.5, rtt_s=0.1)
    shards = InlineGrid(app(NUM_DEVICES), np.arange(NUM_DEVICES), shard_devices=3)
    grid = ray_grid(app(NUM_DEVICES), num_workers=3, shard_devices=3)
    one, other = (table(name, each, links, controls=True) for each in (shards, grid))
    grid.close()
    assert set(one.strategy) == {name, f"{name}@mean", f"{name}@other"}
    same(one, other)


def test_closing_a_grid_leaves_a_ray_that_it_did_not_start() -> None:
    ray_grid(app(2), 2).close()
    assert ray.is_initialized()


class Dying(DeviceApp):
    """The process of the first evaluation of segment 1 dies in the middle of the round."""

    mark: str = ""

    def handle(self, batch: MessageBatch, states: Any) -> Any:
        replies, after = super().handle(batch, states)
        if (
            batch.message_type == records.EVALUATE
            and batch.configs[records.CLOCK][records.SEGMENT] == 1
        ):
            try:
                os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return replies, after
            os._exit(1)
        return replies, after


def test_a_shard_whose_worker_dies_is_played_again_told_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = app(NUM_DEVICES)
    dying = Dying(plain.model, plain.stream, plain.task)
    dying.mark = str(tmp_path / "died")
    expected, got = table("duet", inline(NUM_DEVICES)), table("duet", ray_grid(dying))
    assert (tmp_path / "died").exists()
    again = got[got["num_replays"] > 0]
    assert set(again["segment"]) == {1}
    assert again["num_replays"].eq(1).all()
    assert again["device_id"].unique().tolist() in ([0, 1, 2, 3], [4, 5, 6])  # one of two shards
    same(expected.drop(columns="num_replays"), got.drop(columns="num_replays"), rtol=1e-5)
    first = again["device_id"].min()
    assert [each.getMessage() for each in caplog.records if each.name == "cdc_flower"] == [
        f"devices {first} to {again['device_id'].max()} are played again from the same states "
        "(1 of 3): their worker died"
    ]


class AlwaysDying(DeviceApp):
    """Ends its process whatever it is sent."""

    def handle(self, batch: MessageBatch, states: Any) -> Any:
        os._exit(1)


def test_a_shard_whose_workers_always_die_ends_the_run_in_one_sentence() -> None:
    plain = app(2)
    grid = ray_grid(AlwaysDying(plain.model, plain.stream, plain.task), 2, num_workers=1)
    with pytest.raises(
        UserError,
        match=r"devices 0 to 1 cannot be played: 4 times .* their worker died; Ray's logs",
    ):
        grid.send_and_receive(MessageBatch(records.DEPLOY, np.array([2, 3])))
    assert grid.take_replays().tolist() == [3, 3]


class DyingInTheMiddle(DeviceApp):
    """Ends its process once, at the second message of an exchange."""

    mark: str = ""

    def handle(self, batch: MessageBatch, states: Any) -> Any:
        if batch.message_type == records.EVALUATE and not os.path.exists(self.mark):
            os.close(os.open(self.mark, os.O_CREAT))
            os._exit(1)
        return super().handle(batch, states)


def test_a_death_at_a_second_message_plays_the_first_again_from_the_states_before(
    tmp_path: Path,
) -> None:
    plain = app(2)
    dying = DyingInTheMiddle(plain.model, plain.stream, plain.task)
    dying.mark = str(tmp_path / "died")
    grid, nodes = ray_grid(dying, 2, num_workers=1), np.array([2, 3])
    deploy = MessageBatch(
        records.DEPLOY, nodes, shared={records.MODEL: strategy("static").deployment()}
    )
    evaluate = MessageBatch("evaluate", nodes, configs={records.CLOCK: {records.SEGMENT: 0}})
    replies = grid.send_and_receive([deploy, evaluate])
    assert len(list(replies)) == 4
    assert grid.take_replays().tolist() == [1, 1]
    assert grid.take_replays().tolist() == [0, 0]


@pytest.mark.parametrize("name", ["duet", "persona", "fine_tuning", "fedavg"])
def test_at_one_size_of_shards_tables_are_equal_to_the_bit_over_grids_and_workers(
    name: str,
) -> None:
    links = fleet(NUM_DEVICES, up_bps=5e3, down_bps=5e3, rtt_s=0.1, device_flops_per_s=1e5)
    expected = table(
        name, InlineGrid(app(NUM_DEVICES), np.arange(NUM_DEVICES), shard_devices=3), links
    )
    for num_workers in (1, 2, 3):
        grid = ray_grid(app(NUM_DEVICES), num_workers=num_workers, shard_devices=3)
        same(expected, table(name, grid, links))
        grid.close()


def test_an_exception_in_the_app_leaves_the_old_states() -> None:
    grid = ray_grid(app(NUM_DEVICES))
    nodes = np.array(grid.get_node_ids())
    deploy = MessageBatch(
        records.DEPLOY, nodes, shared={records.MODEL: strategy("static").deployment()}
    )
    grid.send_and_receive(deploy)
    before = list(grid._states)
    wrong = MessageBatch("evaluate", nodes, configs={records.CLOCK: {records.SEGMENT: 999}})
    with pytest.raises(ValueError, match="segment"):
        grid.send_and_receive([deploy, wrong])
    assert grid._states == before


def train(nodes: list[int], value: float = 0.0) -> list[Message]:
    arrays = ArrayRecord({"0": Array(np.full(3, value, np.float32))})
    return [
        Message(RecordDict({"arrays": arrays}), dst_node_id=node, message_type="train")
        for node in nodes
    ]


def numbers(replies: Any) -> list[tuple[int, int, float]]:
    return [
        (
            r.metadata.src_node_id,
            int(r.content["metrics"]["calls"]),
            float(r.content["arrays"]["0"].numpy()[0]),
        )
        for r in replies
    ]


def test_any_flower_app_runs_as_in_one_process_in_any_order_of_nodes() -> None:
    grids = ray_grid(counting_app(), 5), InlineGrid(counting_app(), np.arange(5))
    for nodes in ([2, 3, 4, 5, 6], [6, 4, 2, 3, 5], [5, 2], [2, 2, 6]):
        one, other = (numbers(grid.send_and_receive(train(nodes))) for grid in grids)
        assert one == other
        assert [node for node, _, _ in one] == nodes
    errors = [
        [r.has_error() for r in g.send_and_receive([*train([2], 100.0), *train([6])])]
        for g in grids
    ]
    assert errors == [[True, False]] * 2
    queries = [
        Message(RecordDict({"q": MetricRecord({"x": 1})}), dst_node_id=n, message_type="query")
        for n in (4, 2)
    ]
    lengths = [
        [len(r.content["numbers"]["list"]) for r in grid.send_and_receive(queries)]
        for grid in grids
    ]
    assert lengths == [[3, 1]] * 2
    ids = grids[0].push_messages(train([3]))
    assert len(grids[0].pull_messages(ids)) == 1


def test_shards_whose_replies_share_different_arrays_are_put_together() -> None:
    from flwr.clientapp import ClientApp

    flower_app = ClientApp()

    @flower_app.train()
    def by_half(message: Message, context: Any) -> Message:
        half = np.full(3, int(context.node_config["partition-id"]) // 2, np.float32)
        return Message(RecordDict({"arrays": ArrayRecord({"0": Array(half)})}), reply_to=message)

    replies = ray_grid(flower_app, 4, num_workers=1).send_and_receive(train([2, 3, 4, 5]))
    assert isinstance(replies, MessageBatch)
    assert replies.array("arrays", "0")[:, 0].tolist() == [0, 0, 1, 1]


def test_a_number_of_workers_below_one_and_an_unknown_node_are_refused() -> None:
    with pytest.raises(ValueError, match="num_workers must be >= 1, got 0"):
        ray_grid(app(2), 2, num_workers=0)
    with pytest.raises(ValueError, match="got 99"):
        ray_grid(app(2), 2).send_and_receive(train([99]))
