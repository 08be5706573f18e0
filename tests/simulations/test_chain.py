"""The chain between a strategy and its devices: its order, its life, and chain links of a user's
own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from flwr.serverapp import Grid
from tiny import LABELS, fleet, inline, same, strategy, stream, table

from cdc_flower.simulations.chain import AtCloud, AtDevices, ChainLink, Ends
from cdc_flower.simulations.deployment import Nodes
from cdc_flower.simulations.grids.through import Through
from cdc_flower.study.play import play
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import Group


def played(name: str, chain: Sequence[ChainLink], **links: float) -> pd.DataFrame:
    frames: list[pd.DataFrame] = []
    play(
        strategy(name),
        inline(),
        fleet(**links),
        stream().segment_starts_s,
        labels={**LABELS, "strategy": name},
        collect=frames.append,
        chain=chain,
    )
    return pd.concat(frames, ignore_index=True)


class Told(Through):
    """Tells what passes it."""

    def __init__(self, inner: Grid, place: str, seen: list[str]) -> None:
        super().__init__(inner)
        self.place, self.seen = place, seen

    def down(self, batch: MessageBatch) -> list[MessageBatch]:
        self.seen.append(f"{self.place} down")
        return super().down(batch)

    def up(self, batch: MessageBatch) -> list[Group]:
        self.seen.append(f"{self.place} up")
        return super().up(batch)


@dataclass
class Pair:
    """A chain link with two ends, which tells how often they were made."""

    name: str
    seen: list[str] = field(default_factory=list)
    made_for: list[Nodes] = field(default_factory=list)

    def ends(self, nodes: Nodes) -> Ends:
        self.made_for.append(nodes)
        return Ends(
            cloud=lambda grid: Told(grid, f"{self.name}.cloud", self.seen),
            device=lambda grid: Told(grid, f"{self.name}.device", self.seen),
        )


def test_the_first_chain_link_is_next_to_the_strategy_and_to_the_devices() -> None:
    seen: list[str] = []
    played("static", [Pair("a", seen), Pair("b", seen)])
    down = ["a.cloud down", "b.cloud down", "b.device down", "a.device down"]
    up = ["a.device up", "b.device up", "b.cloud up", "a.cloud up"]
    assert seen[:8] == down + up


def test_ends_are_made_anew_for_each_run_from_its_devices_and_their_model() -> None:
    pair = Pair("a")
    for name in ("static", "duet"):
        played(name, [pair])
    assert len(pair.made_for) == 2
    for name, nodes in zip(("static", "duet"), pair.made_for, strict=True):
        assert nodes.node_ids.tolist() == [2, 3, 4, 5]
        assert nodes.device_ids.tolist() == [0, 1, 2, 3]
        assert set(nodes.model) == set(strategy(name).deployment())


def test_a_chain_that_changes_nothing_changes_nothing() -> None:
    same(
        table("duet", links=fleet(up_bps=2e3, down_bps=5e3)),
        played("duet", [Pair("a"), AtCloud(Through), AtDevices(Through)], up_bps=2e3, down_bps=5e3),
    )


class FlatBattery(Through):
    """Node 3 is silent from segment 2 on."""

    def down(self, batch: MessageBatch) -> list[MessageBatch]:
        segment = batch.configs.get(records.CLOCK, {}).get(records.SEGMENT, 0)
        return [batch if segment < 2 else batch.select(np.flatnonzero(batch.node_ids != 3))]


def test_a_device_that_the_device_end_silences_has_no_rows() -> None:
    rows = played("duet", [AtDevices(FlatBattery)])
    assert sorted(rows[rows.segment == 1].device_id.unique()) == [0, 1, 2, 3]
    assert sorted(rows[rows.segment == 2].device_id.unique()) == [0, 2, 3]


class Deaf(Through):
    """Lets go of the reports of node 2."""

    def up(self, batch: MessageBatch) -> list[Group]:
        if records.REPORT not in batch.array_names():
            return super().up(batch)
        kept = np.flatnonzero(batch.node_ids != 2)
        return [(batch.select(kept), kept)]


def test_replies_that_the_cloud_end_lets_go_of_do_not_reach_the_strategy() -> None:
    class Watched(Through):
        def up(self, batch: MessageBatch) -> list[Group]:
            if records.REPORT in batch.array_names():
                seen.append(batch.node_ids.tolist())
            return super().up(batch)

    seen: list[Any] = []
    rows = played("duet", [AtCloud(Watched), AtCloud(Deaf)])
    assert seen == [[3, 4, 5]] * len(seen) and seen
    first = rows[rows.segment == 0].drop_duplicates("device_id")
    assert (first.bytes_up > 0).all()  # all reports crossed the link
    assert (first.bytes_down > 0).tolist() == [False, True, True, True]
