"""The chain link of an attack: an end next to the devices, where hostile ones answer."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid

from cdc_flower.core.saveable import Arrays, Saved, part_of, prefixed
from cdc_flower.core.seeds import generator
from cdc_flower.simulations.attacks.attack import Attack, Bools, Exchange, Ints, Scene
from cdc_flower.simulations.chain import Ends
from cdc_flower.simulations.deployment import Nodes
from cdc_flower.simulations.grids.strategy import segment_or_none
from cdc_flower.simulations.grids.through import Through
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import Group


@dataclass(frozen=True)
class WithAttack:
    """Puts hostile devices among those of a run, anew for each run of a strategy.

    Attributes:
        attack: Made for this run of a strategy.
        seed: Of the run.
        scene: What attackers know beside the messages.
    """

    attack: Attack
    seed: int
    scene: Scene

    def ends(self, nodes: Nodes) -> Ends:
        """Makes the device end; nothing where nobody is hostile."""
        hostile = self.attack.hostile(len(nodes.device_ids), self.seed)
        if not hostile.any():
            return Ends()
        return Ends(device=lambda devices: AttackGrid(devices, self, nodes, hostile))


class AttackGrid(Through):
    """Lets hostile devices do what they want, and others what they should.

    Args:
        inner: The devices.
        link: Of the attack.
        nodes: Of the devices.
        hostile: ``[n]``.
    """

    _saved_as = "attack"

    def __init__(self, inner: Grid, link: WithAttack, nodes: Nodes, hostile: Bools) -> None:
        super().__init__(inner)
        self._link = link
        self._device_ids = nodes.device_ids
        self._hostile = hostile
        self._row = {int(node_id): row for row, node_id in enumerate(nodes.node_ids)}
        self._asked: list[MessageBatch] = []

    def to_arrays(self) -> Arrays:
        """Takes what the attack remembers."""
        kept = self._link.attack.to_arrays()
        return {**super().to_arrays(), **prefixed("attack", kept)}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with a saved memory."""
        super().from_arrays(arrays)
        self._link.attack.from_arrays(part_of(arrays, "attack"))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Sends messages, and remembers them until they are answered."""
        self._asked = []
        return super().send_and_receive(messages, timeout=timeout)

    def down(self, batch: MessageBatch) -> list[MessageBatch]:
        """Tells hostile devices what the attack wants of them."""
        self._asked.append(batch)
        return [self._link.attack.instructed(batch, self._hostile[self._rows(batch)])]

    def up(self, batch: MessageBatch) -> list[Group]:
        """Puts the replies of the attack in the place of those of hostile devices."""
        place = batch.ok_rows()
        ok = batch.select(place) if batch.errors else batch
        rows = self._rows(ok)
        if not self._hostile[rows].any() or batch.message_type.split(".")[0] != records.TRAIN:
            return super().up(batch)
        attacked = self._link.attack.attacked(self._exchange(ok, rows))
        others = np.setdiff1d(np.arange(len(batch)), place)
        failed = [(batch.select(others), others)] if len(others) else []
        return [(attacked, place), *failed]

    def _rows(self, batch: MessageBatch) -> Ints:
        return np.array([self._row[int(node_id)] for node_id in batch.node_ids], np.int64)

    def _exchange(self, replies: MessageBatch, rows: Ints) -> Exchange:
        """Shows an attack what goes on.

        Args:
            replies: ``[k]``.
            rows: ``[k]``, of their devices.
        """
        segment = next(
            (found for each in self._asked if (found := segment_or_none(each)) is not None), 0
        )
        return Exchange(
            replies,
            self._device_ids[rows],
            self._hostile[rows],
            self._sent(replies),
            segment,
            generator(self._link.seed, "attack", replies.message_type, segment),
            self._link.scene,
        )

    def _sent(self, replies: MessageBatch) -> Arrays:
        """Finds the model ``[k, ...]`` that each of the devices was sent to train."""
        wanted = [int(node_id) for node_id in replies.node_ids]
        for batch in self._asked:
            row_of = {int(node_id): row for row, node_id in enumerate(batch.node_ids)}
            if records.ARRAYS in batch.array_names() and row_of.keys() >= set(wanted):
                names = [
                    *batch.arrays.get(records.ARRAYS, {}),
                    *batch.shared.get(records.ARRAYS, {}),
                ]
                place = np.array([row_of[node_id] for node_id in wanted])
                return {name: batch.array(records.ARRAYS, name)[place] for name in names}
        return {}
