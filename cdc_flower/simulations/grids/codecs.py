"""Both ends of a lighter protocol: grids before and behind the links.

The strategy talks to the *cloud side*, which encodes what goes down and decodes what comes up; the
*device side*, behind the links, does the inverse. Between them are the bytes that a link moves, and
nothing else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid

from cdc_flower.core.saveable import Saved, part_of, prefixed
from cdc_flower.simulations.chain import Ends
from cdc_flower.simulations.deployment import Nodes
from cdc_flower.simulations.grids.through import Through
from cdc_flower.simulations.protocol.encoding import Codecs
from cdc_flower.simulations.protocol.pipeline import CodecPipeline
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import Group


@dataclass(frozen=True)
class WithCodecs:
    """Puts codecs at both ends of the links, anew for each run of a strategy.

    Attributes:
        codecs: Without any, nothing is put anywhere.
    """

    codecs: Codecs

    def ends(self, nodes: Nodes) -> Ends:
        """Makes both ends."""
        if not self.codecs.names:
            return Ends()
        pipeline = CodecPipeline(self.codecs, nodes.node_ids, nodes.model)
        return Ends(partial(CloudSide, pipeline=pipeline), partial(DeviceSide, pipeline=pipeline))


class CloudSide(Through):
    """Encodes what a strategy sends, and decodes what comes back.

    Args:
        inner: The links.
        pipeline: Of both ends, whose memory this end saves.
    """

    _saved_as = "codecs"

    def __init__(self, inner: Grid, pipeline: CodecPipeline) -> None:
        super().__init__(inner)
        self._pipeline = pipeline

    def to_arrays(self) -> Arrays:
        """Takes what both ends remember."""
        return {**super().to_arrays(), **prefixed("memory", self._pipeline.to_arrays())}

    def from_arrays(self, arrays: Saved) -> None:
        """Goes on with the saved memory of both ends."""
        super().from_arrays(arrays)
        self._pipeline.from_arrays(part_of(arrays, "memory"))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Sends messages encoded, and gives decoded replies."""
        self._pipeline.begin()
        return super().send_and_receive(messages, timeout=timeout)

    def down(self, batch: MessageBatch) -> list[MessageBatch]:
        """Encodes messages to devices."""
        return self._pipeline.encode_down(batch)

    def up(self, batch: MessageBatch) -> list[Group]:
        """Decodes replies."""
        return [(self._pipeline.decode_up(part), where) for part, where in without_errors(batch)]


class DeviceSide(Through):
    """Decodes what devices are sent, and encodes what they reply.

    Args:
        inner: The devices.
        pipeline: Of both ends.
    """

    def __init__(self, inner: Grid, pipeline: CodecPipeline) -> None:
        super().__init__(inner)
        self._pipeline = pipeline

    def down(self, batch: MessageBatch) -> list[MessageBatch]:
        """Decodes messages on their devices."""
        return [self._pipeline.decode_down(batch)]

    def all_up(self, groups: Sequence[Group]) -> list[Group]:
        """Encodes all replies of an exchange, as most of them are laid out."""
        self._pipeline.learn([batch for batch, _ in groups])
        return super().all_up(groups)

    def up(self, batch: MessageBatch) -> list[Group]:
        """Encodes replies on their devices."""
        return [
            (encoded, where[place])
            for part, where in without_errors(batch)
            for encoded, place in self._pipeline.encode_up(part)
            if len(encoded)
        ]


def without_errors(batch: MessageBatch) -> list[Group]:
    """Parts errors from content, so that the one does not decide what becomes of the other."""
    every = np.arange(len(batch))
    if not 0 < len(batch.errors) < len(batch):
        return [(batch, every)]
    failed = np.isin(every, list(batch.errors))
    errors = batch.select(failed)
    return [
        (batch.select(~failed), every[~failed]),
        (errors.without(errors.record_names()), every[failed]),
    ]
