"""Fixed parts of the devices: by their size or by the number of workers."""

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from tiny import SETTINGS, app, counting_app, fleet, inline, same, strategy, table

from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.simulations.grids.shards import Shards

NUM_DEVICES = 7  # no multiple of a shard


def sharded(shard_devices: int | None, num_devices: int = NUM_DEVICES) -> InlineGrid:
    return InlineGrid(app(num_devices), np.arange(num_devices), shard_devices=shard_devices)


@pytest.mark.parametrize(
    ("shard_devices", "num_workers", "sizes"),
    [
        (None, 1, [7]),
        (None, 3, [3, 2, 2]),
        (None, 9, [1] * 7),
        (3, 1, [3, 3, 1]),
        (3, 5, [3, 3, 1]),
        (7, 2, [7]),
        (50, 2, [7]),
    ],
)
def test_a_size_alone_decides_where_shards_end_and_else_the_workers(
    shard_devices: int | None, num_workers: int, sizes: list[int]
) -> None:
    assert Shards(NUM_DEVICES, shard_devices, num_workers).sizes.tolist() == sizes


def test_a_shard_of_no_devices_is_refused() -> None:
    with pytest.raises(ValueError, match="shard_devices must be >= 1, got 0"):
        Shards(4, 0)


def test_messages_in_any_order_find_their_shards() -> None:
    parts = list(Shards(NUM_DEVICES, 3).parts(np.array([6, 1, 0])))
    assert [number for number, _, _ in parts] == [0, 2]
    assert [place.tolist() for _, place, _ in parts] == [[1, 2], [0]]
    assert [rows.tolist() for _, _, rows in parts] == [[1, 0], [0]]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_table_does_not_depend_on_the_size_of_shards_beyond_rounding(name: str) -> None:
    links = fleet(NUM_DEVICES, up_bps=5e3, down_bps=5e3, rtt_s=0.1, device_flops_per_s=1e5)
    same(table(name, inline(NUM_DEVICES), links), table(name, sharded(3), links), rtol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 7, None])
def test_saved_devices_go_on_in_shards_of_another_size(size: int | None) -> None:
    first, other = sharded(3), sharded(size)
    built = strategy("duet", NUM_DEVICES)
    table("duet", first, built=built)
    other.from_arrays(first.to_arrays())
    one, two = first.states, other.states
    assert one.device_ids.tolist() == two.device_ids.tolist() == list(range(NUM_DEVICES))  # type: ignore[attr-defined]
    for name in one.pool:  # type: ignore[attr-defined]
        np.testing.assert_array_equal(one.pool[name][one.in_use], two.pool[name][two.in_use])  # type: ignore[attr-defined]


def test_contexts_of_an_ordinary_app_go_on_in_shards_of_another_size() -> None:
    first = InlineGrid(counting_app(), np.arange(5), shard_devices=2)
    other = InlineGrid(counting_app(), np.arange(5), shard_devices=3)

    def calls(grid: InlineGrid, nodes: list[int]) -> list[int]:
        asked = [Message(RecordDict(), dst_node_id=n, message_type="query") for n in nodes]
        replies = grid.send_and_receive(asked)
        return [int(reply.content["state"]["calls"]) for reply in replies]  # type: ignore[call-overload,arg-type]

    calls(first, [2, 3, 4, 5, 6])
    calls(first, [6, 2])
    other.from_arrays(first.to_arrays())
    assert calls(other, [2, 3, 4, 5, 6]) == [3, 2, 2, 2, 3]
