"""Cloud fine-tuning: devices send what they have seen *with its labels*; the cloud trains on it.

The counterpart of fine-tuning on the device: the same steps on the same examples, but clips and
labels cross the link, and the adaptive layers come back. What it sends up is what CDC-MMPG and DUET
avoid.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.devices.decoders.protocol import names_of
from cdc_flower.devices.state import Settings
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.base import Cloud, CloudStrategy, to_every_node, with_the_others
from cdc_flower.strategies.labelled_steps import LabelledSteps
from cdc_flower.strategies.registry import strategies
from cdc_flower.training.fit import LocalTraining
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import ok_replies

#: Devices whose layers are trained in one product.
DEVICES_PER_CHUNK = 256


@dataclass(frozen=True)
class Tuned:
    """Layers of the devices that sent examples, ``[n, ...]``."""

    node_ids: NDArray[np.uint64]
    layers: Arrays
    flops: NDArray[np.float64]


@strategies.register(
    "cloud_fine_tuning",
    up="examples and labels",
    down="adaptive layers",
    labels="every example",
    tiny={"steps": 2, "rate": 0.05, "max_examples": 8},
)
@dataclass(eq=False, repr=False)
class CloudFineTuning(LabelledSteps, CloudStrategy):
    """Gradient steps of Adam in the cloud on each device's own labelled examples.

    They change its adaptive layers. Without steps nothing is sent; with a rate of 0 as much is sent
    as with any other.

    Raises:
        ValueError: If a value is out of its range.
    """

    personal = True
    uplink = records.UPLINK | {records.LABELLED}
    carried = ("_layers",)
    passing = frozenset({"_new"})

    _layers: dict[int, Arrays] = field(default_factory=dict, init=False)
    _new: Tuned | None = field(default=None, init=False)

    def prepare(self, cloud: Cloud) -> None:
        """Trains nothing on historical data."""
        super().prepare(cloud)
        self._layers, self._new = {}, None

    def settings(self) -> Settings:
        """Says how many labels to send, deployed once beside the model."""
        return self.how.to_settings()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Asks every device for its newest labelled examples.

        Args:
            server_round: From 1; the segment is the one before.
            arrays: The global model, which stays in the cloud.
            config: Of Flower's round; not read.
            grid: Of the nodes.
        """
        if server_round == 1:
            self._layers = {}
        return to_every_node(grid, records.TRAIN_UPLOAD, server_round) if self.how.steps else []

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Goes on from each device's layers, on its own examples alone."""
        self._new = None
        batch = ok_replies(replies)
        if batch is None:
            return None, None
        model = self.cloud.model
        node_ids = np.asarray(batch.node_ids, np.uint64)
        names = names_of(batch, records.LABELLED)
        upload = {name: batch.array(records.LABELLED, name) for name in names}
        tuned = self._tuned(upload, self._start(node_ids))
        for row, node_id in enumerate(node_ids):
            self._layers[int(node_id)] = {name: value[row] for name, value in tuned.items()}
        num_examples = np.asarray(upload[records.NUM_EXAMPLES], np.int64)
        self._new = Tuned(node_ids, tuned, self.how.flops(model, num_examples))
        return None, None

    def _start(self, node_ids: NDArray[np.uint64]) -> Arrays:
        """Stacks the layers ``[n, ...]`` that devices have now."""
        base = self.cloud.arrays()
        held = [self._layers.get(int(node_id), base) for node_id in node_ids]
        names = self.cloud.model.adaptive
        return {name: np.stack([layers[name] for layers in held]) for name in names}

    def _tuned(self, upload: Arrays, start: Arrays) -> Arrays:
        """Trains layers ``[n, ...]`` on examples ``[n, E, ...]``, in parts to bound the memory."""
        parts = []
        for first in range(0, len(upload[records.NUM_EXAMPLES]), DEVICES_PER_CHUNK):
            chunk = slice(first, first + DEVICES_PER_CHUNK)
            some = {name: np.array(value[chunk]) for name, value in upload.items()}
            layers = {name: torch.from_numpy(value[chunk].copy()) for name, value in start.items()}
            parts.append(tune(self.cloud.model, self.cloud.parameters, layers, some, self.how))
        return {name: torch.cat([part[name] for part in parts]).numpy() for name in start}

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Sends each device that sent examples its layers; the others go on with what they have.

        Args:
            server_round: From 1; the segment is the one before.
            arrays: The global model, which stays in the cloud.
            config: Of Flower's round; not read.
            grid: Of the nodes.
        """
        everyone = to_every_node(grid, records.EVALUATE, server_round)
        if self._new is None:
            return everyone
        adapted = MessageBatch(
            records.EVALUATE,
            self._new.node_ids,
            {records.PARAMETERS: self._new.layers},
            configs={records.WORK: {records.FLOPS: self._new.flops}},
        )
        return with_the_others(everyone, [adapted])


def tune(
    model: DeviceModel,
    static: Parameters,
    start: Parameters,
    upload: Arrays,
    how: LocalTraining,
) -> Parameters:
    """Takes steps of Adam on the adaptive layers of ``n`` devices, each on its own examples.

    A device without an example keeps what it has.

    Args:
        model: The device model.
        static: Its other layers, which all share.
        start: Adaptive layers, ``[n, ...]``.
        upload: Labelled examples, ``[n, E, ...]``, and how many there are of each device.
        how: Steps and their rate.

    Returns:
        Adaptive layers, ``[n, ...]``.
    """
    with torch.no_grad():
        x, targets = model.uploaded(static, upload)
    counts = torch.from_numpy(np.array(upload[records.NUM_EXAMPLES], np.int64))
    weight = (torch.arange(x.shape[1]) < counts[:, None]).float() / counts[:, None].clamp(min=1)
    leaves = {name: value.requires_grad_() for name, value in start.items()}
    optimizer = torch.optim.Adam(list(leaves.values()), lr=how.rate)
    for _ in range(how.steps):
        optimizer.zero_grad()
        logits: Tensor = model.match(model.head({**static, **leaves}, x), targets)
        (model.loss(logits) * weight).sum().backward()
        optimizer.step()
    return {name: leaf.detach() for name, leaf in leaves.items()}
