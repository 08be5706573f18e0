"""Cloud fine-tuning: devices send what they have seen *with its labels*, and the cloud takes the gradient steps.

The counterpart of fine-tuning on the device: the same steps on the same examples, but clips and
labels cross the link, and the adaptive layers come back. What it sends up is what CDC-MMPG and DUET
avoid.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.devices.decoders.protocol import names_of
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.base import Cloud, CloudStrategy, to_every_node
from cdc_flower.training.fit import LocalTraining
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import ok_replies

#: Devices whose layers are trained in one product.
DEVICES_PER_CHUNK = 256


class CloudFineTuning(CloudStrategy):
    """Gradient steps in the cloud on each device's own labelled examples, on its adaptive layers.

    Args:
        steps: Gradient steps a segment. 0 is ``static``, and then nothing is sent.
        rate: Learning rate of Adam. 0 sends as much and changes nothing.
        max_examples: Labels that a device sends in a segment at most; ``num_negatives``: for each.

    Raises:
        ValueError: If a value is out of its range.
    """

    uplink = records.UPLINK | {records.LABELLED}
    carried = ("_layers",)
    passing = frozenset({"_new"})

    def __init__(
        self, steps: int = 5, rate: float = 1e-3, max_examples: int = 64, num_negatives: int = 4
    ) -> None:
        self.how = LocalTraining("head", steps, rate, "adam", max_examples, num_negatives)
        self._layers: dict[int, Arrays] = {}
        self._new: tuple[NDArray[np.uint64], Arrays, NDArray[np.float64]] | None = None

    def prepare(self, cloud: Cloud) -> None:
        """Nothing is trained on historical data."""
        super().prepare(cloud)
        self._layers, self._new = {}, None

    def settings(self) -> dict[str, Any]:
        """How many labels to send, deployed once beside the model."""
        return self.how.to_settings()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Every device sends its newest labelled examples."""
        if server_round == 1:
            self._layers = {}
        return to_every_node(grid, records.TRAIN_UPLOAD, server_round) if self.how.steps else []

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Go on from each device's layers, on its own examples alone."""
        self._new = None
        batch = ok_replies(replies)
        if batch is None:
            return None, None
        model, base = self.cloud.model, self.cloud.arrays()
        node_ids = np.asarray(batch.node_ids, np.uint64)
        upload = {
            name: batch.array(records.LABELLED, name) for name in names_of(batch, records.LABELLED)
        }
        held = [self._layers.get(int(node_id), base) for node_id in node_ids]
        start = {name: np.stack([layers[name] for layers in held]) for name in model.adaptive}
        parts = []
        for first in range(0, len(node_ids), DEVICES_PER_CHUNK):
            chunk = slice(first, first + DEVICES_PER_CHUNK)
            some = {name: np.array(value[chunk]) for name, value in upload.items()}
            layers = {name: torch.from_numpy(value[chunk].copy()) for name, value in start.items()}
            parts.append(tune(model, self.cloud.parameters, layers, some, self.how))
        tuned = {name: torch.cat([part[name] for part in parts]).numpy() for name in start}
        for row, node_id in enumerate(node_ids):
            self._layers[int(node_id)] = {name: value[row] for name, value in tuned.items()}
        num_examples = np.asarray(upload[records.NUM_EXAMPLES], np.int64)
        self._new = node_ids, tuned, replace(self.how, layers="head").flops(model, num_examples)
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """To each device that sent examples, its layers; the others go on with what they have."""
        everyone = to_every_node(grid, records.EVALUATE, server_round)
        if self._new is None:
            return everyone
        node_ids, tuned, flops = self._new
        configs = {**everyone.configs, records.WORK: {records.FLOPS: flops}}
        adapted = MessageBatch(
            records.EVALUATE, node_ids, {records.PARAMETERS: tuned}, configs=configs
        )
        silent = ~np.isin(everyone.node_ids, node_ids)
        both: list[Any] = [adapted, everyone.select(silent)]
        return both if silent.any() else adapted


def tune(
    model: DeviceModel,
    static: Parameters,
    start: Parameters,
    upload: dict[str, NDArray[Any]],
    how: LocalTraining,
) -> Parameters:
    """Adaptive layers ``[n, ...]`` after some steps of Adam, each device's on its own examples ``[n, E, ...]``.

    A device without an example keeps what it has.
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
