"""States of devices that were saved in some shards go on in others."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny import LABELS, SETTINGS, app, counting_app, fleet, same, strategy, stream

from cdc_flower.core.errors import UserError
from cdc_flower.core.saveable import Arrays
from cdc_flower.devices.state import DeviceStates
from cdc_flower.simulations.grids.inline import InlineGrid
from cdc_flower.simulations.grids.shards import Shards
from cdc_flower.study.play import play
from cdc_flower.study.session import Session

NUM_DEVICES = 5


def sharded(num_shards: int, own_app: Any = None) -> InlineGrid:
    """A grid whose shards are of the sizes that so many workers play."""
    grid = InlineGrid(own_app or app(NUM_DEVICES), np.arange(NUM_DEVICES))
    grid.shards = Shards(NUM_DEVICES, num_workers=num_shards)
    grid._set_shard_states([grid.fresh_states(rows) for rows in grid.shards.rows])
    return grid


def played(name: str, num_shards: int, rounds: Callable[[Session], object]) -> pd.DataFrame:
    frames = [pd.DataFrame()]
    play(
        strategy(name, NUM_DEVICES),
        sharded(num_shards),
        fleet(NUM_DEVICES, 2000.0, 2000.0),
        stream(NUM_DEVICES).segment_starts_s,
        labels={**LABELS, "strategy": name},
        collect=frames.append,
        rounds=rounds,
    )
    return pd.concat(frames[1:] or frames, ignore_index=True)


@pytest.mark.parametrize(("before", "after"), [(3, 2), (1, 4), (4, 1)])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("persona", "fine_tuning") else pytest.mark.slow)
        for name in SETTINGS
    ],
)
def test_a_run_goes_on_with_another_number_of_workers(name: str, before: int, after: int) -> None:
    saved: Arrays = {}

    def begin(session: Session) -> None:
        session.run(until=2)
        saved.update(session.to_arrays())

    def go_on(session: Session) -> None:
        session.from_arrays(saved)
        states = session.to_arrays()
        assert len(states["devices/shard_sizes"]) == after
        session.run()

    whole = played(name, before, Session.run)
    first, rest = played(name, before, begin), played(name, after, go_on)
    same(whole, pd.concat([first, rest], ignore_index=True), rtol=1e-4)


def test_shards_that_are_cut_anew_hold_what_their_devices_use_and_no_more() -> None:
    saved: Arrays = {}
    played(
        "fine_tuning", 1, lambda session: (session.run(until=2), saved.update(session.to_arrays()))
    )
    grids = [sharded(1), sharded(4)]
    own = {
        key.removeprefix("devices/"): value
        for key, value in saved.items()
        if key.startswith("devices/")
    }
    for grid in grids:
        grid.from_arrays(own)
    (whole,) = grids[0]._shard_states()
    assert isinstance(whole, DeviceStates)
    for rows, part in zip(grids[1].shards.rows, grids[1]._shard_states(), strict=True):
        assert isinstance(part, DeviceStates)
        assert part.num_sets == len(np.unique(whole.in_use[rows]))
        for name, value in part.pool.items():
            np.testing.assert_array_equal(
                value[part.in_use], whole.pool[name][whole.in_use[rows]], err_msg=name
            )
    grids[0].from_arrays(grids[1].to_arrays())  # and back
    again = grids[0]._shard_states()[0]
    assert isinstance(again, DeviceStates)
    assert again.num_sets == whole.num_sets and set(again.pool) == set(whole.pool)


def test_contexts_of_any_app_are_cut_anew_too() -> None:
    one, three = sharded(1, counting_app()), sharded(3, counting_app())
    three.from_arrays(one.to_arrays())
    assert [len(states) for states in three._shard_states()] == [2, 2, 1]


def test_other_devices_are_refused() -> None:
    saved = sharded(2).to_arrays()
    ids = saved["shard.0/device_ids"]
    with pytest.raises(UserError, match="same devices, got device 9"):
        sharded(3).from_arrays({**saved, "shard.0/device_ids": ids + 9})
    fewer = {**saved, "shard_sizes": saved["shard_sizes"] - 1}
    with pytest.raises(UserError, match="must be of 5 devices, got 3"):
        sharded(3).from_arrays(fewer)
