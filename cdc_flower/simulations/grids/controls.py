"""Plays controls beside a method: its devices again, with layers that are not made for them.

``ControlGrid`` stands next to the devices, behind links and codecs. Messages of the method go
through as they are; with each payload devices are asked for the layers that they made of it. When a
segment is over, the same devices play it once more for each control: with the same arrivals, but
each that got layers gets the *mean* of all that came in this segment, or those of *another* device
in its place. A device that got none goes on with what it has of the control. Links see nothing of
it, so a control has the bytes, seconds and labels of its method.

A device that has never got layers has the same in the method and in each control, and is not played
again.
"""

from collections.abc import Callable, Mapping

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from cdc_flower.core.saveable import Saved, restore_fields, saved_fields
from cdc_flower.core.seeds import generator
from cdc_flower.devices.app import segment_of
from cdc_flower.simulations.deployment import Nodes
from cdc_flower.simulations.grids.flower import with_nodes
from cdc_flower.simulations.grids.through import Through, all_of
from cdc_flower.tables.controls import MEAN, OTHER
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import Group, concat, groups_of

Ints = NDArray[np.int64]
#: Key of scores in which a control may differ from its method.
VALUE_SUM = "value-sum"
#: Layers ``[k, ...]`` of k devices, and who draws -> layers of the same devices; {} gives none.
Make = Callable[[Arrays, np.random.Generator], Arrays]

#: Records beside which a message may hold layers.
NO_LAYERS = frozenset({*records.INSTRUMENTS, records.CONFIG, records.PADDING})


def mean_layers(layers: Arrays, _: np.random.Generator) -> Arrays:
    """Gives every device the mean, added up in double precision in the order of the devices.

    Each gets a set of its own, as from a method, so that both are scored by the same products.
    """
    return {
        name: np.broadcast_to(value.mean(0, dtype=np.float64).astype(value.dtype), value.shape)
        for name, value in layers.items()
    }


def other_layers(layers: Arrays, rng: np.random.Generator) -> Arrays:
    """Gives each device those of another; a device alone gets none."""
    count = len(next(iter(layers.values())))
    if count < 2:
        return {}
    giver = derangement(count, rng)
    return {name: value[giver] for name, value in layers.items()}


def derangement(count: int, rng: np.random.Generator) -> Ints:
    """Draws a permutation ``[count]`` without fixed points: one cycle through all, any alike."""
    order = rng.permutation(count)
    giver = np.empty(count, np.int64)
    giver[order] = np.roll(order, 1)
    return giver


#: In the order of :data:`~cdc_flower.tables.controls.CONTROLS`.
MAKERS: Mapping[str, Make] = {MEAN: mean_layers, OTHER: other_layers}


class ControlGrid(Through):
    """Lets a method's messages through, and plays its controls when a segment is over.

    Args:
        inner: The devices.
        nodes: Of the devices, after their deployment.
        seed: Of the run.
    """

    _saved_as = "controls"

    def __init__(self, inner: Grid, nodes: Nodes, seed: int) -> None:
        super().__init__(with_nodes(inner, nodes.node_ids))
        self._model, self._seed = nodes.model, seed
        self._row = {int(node_id): row for row, node_id in enumerate(nodes.node_ids)}
        self._has_layers = np.zeros(len(nodes.node_ids), np.bool_)  # or had some in the past
        self._asked: list[MessageBatch] = []
        self._told: list[tuple[Ints, Arrays]] = []

    def to_arrays(self) -> Arrays:
        """Takes which devices have got layers."""
        return {**super().to_arrays(), **saved_fields(self, ("_has_layers",))}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on after a saved segment; the layers of controls are saved with the devices."""
        super().from_arrays(arrays)
        restore_fields(self, ("_has_layers",), arrays)
        self._asked, self._told = [], []

    def down(self, batch: MessageBatch) -> list[MessageBatch]:
        """Asks for layers beside a payload, and keeps what says when it came."""
        if batch.message_type != records.EVALUATE:
            return [batch]
        if self._asked and segment_of(self._asked[0]) != segment_of(batch):
            self._forget()  # nobody answered in that segment
        self._asked.append(batch.only({records.CLOCK}))
        if NO_LAYERS.issuperset(batch.record_names()):
            return [batch]
        return [batch.with_records(configs={records.CONTROL: {records.TELLS: True}})]

    def up(self, batch: MessageBatch) -> list[Group]:
        """Takes the layers out of replies."""
        layers = batch.arrays.get(records.LAYERS)
        if layers and self._are_layers(batch, layers):
            self._told.append((self._rows(batch), dict(layers)))
        return super().up(batch.without({records.LAYERS}) if layers else batch)

    def _are_layers(self, batch: MessageBatch, layers: Arrays) -> bool:
        """Tells whether layers are some of this model, of devices that there are."""
        has_nodes = all(int(node_id) in self._row for node_id in batch.node_ids)
        return has_nodes and all(
            name in self._model
            and value.shape[1:] == self._model[name].shape
            and value.dtype == self._model[name].dtype
            for name, value in layers.items()
        )

    def play(self, segment: int, whole: MessageBatch) -> dict[str, MessageBatch]:
        """Plays each control in a segment that the method has played.

        Args:
            segment: Its number.
            whole: Replies of the method, one row a device.

        Returns:
            By the name of the control, replies of the same devices in their order.
        """
        rows, layers = self._new_layers()
        self._has_layers[rows] = True
        found = {}
        for name, make in MAKERS.items():
            made = make(layers, generator(self._seed, "controls", segment)) if layers else {}
            found[name] = self._played(name, whole, made, rows if made else rows[:0])
        self._forget()
        return found

    def _forget(self) -> None:
        """Begins with the next segment."""
        self._asked, self._told = [], []

    def _rows(self, batch: MessageBatch) -> Ints:
        return np.array([self._row[int(node_id)] for node_id in batch.node_ids], np.int64)

    def _new_layers(self) -> tuple[Ints, Arrays]:
        """Takes the layers ``[k, ...]`` of this segment, in the order of their devices ``[k]``."""
        if not self._told:
            return np.empty(0, np.int64), {}
        rows = np.concatenate([part for part, _ in self._told])
        order = np.argsort(rows, kind="stable")
        names = dict.fromkeys(name for _, layers in self._told for name in layers)
        return rows[order], {name: self._stacked(name)[order] for name in names}

    def _stacked(self, name: str) -> NDArray:
        """Puts one array of all devices together; who has it from the deployment tells none."""
        deployed = self._model[name]
        return np.concatenate(
            [
                layers.get(name, np.broadcast_to(deployed, (len(rows), *deployed.shape)))
                for rows, layers in self._told
            ]
        )

    def _played(self, name: str, whole: MessageBatch, layers: Arrays, rows: Ints) -> MessageBatch:
        """Plays one control on the devices that it concerns; the others did the same as before.

        Args:
            name: Of the control.
            whole: Replies of the method.
            layers: ``[k, ...]``, new ones.
            rows: ``[k]``, the devices that get them, ascending.
        """
        answered = self._rows(whole)
        plays = self._has_layers[answered]
        if not plays.any():
            return whole
        replies = self._inner.send_and_receive(
            all_of(self._messages(name, answered[plays], layers, rows))
        )
        parts = [batch.select(batch.ok_rows()) for batch, _ in groups_of(replies)]
        like = scores_of(whole)
        kept = [self._same_events(part, like) for part in parts if is_like(part, like)]
        kept.append(like.select(~plays))
        joined = concat([part for part in kept if len(part)] or [like.select([])])
        return joined.select(np.argsort(self._rows(joined), kind="stable"))

    def _same_events(self, part: MessageBatch, like: MessageBatch) -> MessageBatch:
        """Keeps the scores of a control on the events on which its method was scored."""
        row_of = {int(node_id): row for row, node_id in enumerate(like.node_ids)}
        found = np.array([row_of.get(int(node_id), -1) for node_id in part.node_ids], np.int64)
        is_same = (found >= 0) & (np.bincount(found + 1, minlength=len(like) + 1)[found + 1] == 1)
        own, method = part.metrics[records.SCORES], like.metrics[records.SCORES]
        for key, column in own.items():
            if key == VALUE_SUM:
                odd = ~np.isfinite(column) & np.isfinite(method[key][found])
            else:
                odd = column != method[key][found]
            is_same &= ~odd.reshape(len(part), -1).any(1)
        return scores_of(part if is_same.all() else part.select(is_same))

    def _messages(self, name: str, playing: Ints, layers: Arrays, rows: Ints) -> list[MessageBatch]:
        """Makes messages to devices as they got them for the method, but for the layers.

        Args:
            name: Of the control.
            playing: Devices that play it.
            layers: ``[k, ...]``, new ones.
            rows: ``[k]``, the devices that get them, ascending.
        """
        told = {records.CONTROL: {records.NAME: name}}
        sent = []
        for batch in self._asked:
            asked = self._rows(batch)
            gets = np.isin(asked, rows)
            place = np.searchsorted(rows, asked[gets])
            new = {key: value[place] for key, value in layers.items()}
            sent.append(batch.select(gets).with_records(arrays={records.PARAMETERS: new}))
            sent.append(batch.select(~gets & np.isin(asked, playing)))
        return [batch.with_records(configs=told) for batch in sent if len(batch)]


def is_like(batch: MessageBatch, like: MessageBatch) -> bool:
    """Tells whether replies have the scores and points of others."""
    if batch.message_type != like.message_type or not len(batch):
        return False
    pairs = (
        (batch.metrics.get(records.SCORES, {}), like.metrics[records.SCORES]),
        (batch.arrays.get(records.POINTS, {}), like.arrays.get(records.POINTS, {})),
    )
    return all(
        own.keys() == other.keys()
        and all(
            (own[key].dtype, own[key].shape[1:]) == (other[key].dtype, other[key].shape[1:])
            for key in own
        )
        for own, other in pairs
    )


def scores_of(batch: MessageBatch) -> MessageBatch:
    """Keeps the scores of replies, so that those of several exchanges can stand in one batch."""
    points = batch.arrays.get(records.POINTS)
    return MessageBatch(
        batch.message_type,
        batch.node_ids,
        arrays={records.POINTS: points} if points else {},
        metrics={records.SCORES: batch.metrics[records.SCORES]},
        is_reply=True,
    )
