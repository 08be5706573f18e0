"""DUET: the cloud generates each device's adaptive layers from its recent, unlabelled events.

Lv et al., DUET: A Tuning-Free Device-Cloud Collaborative Parameters Generation Framework for Efficient Device
Model Generalization, WWW 2023, https://arxiv.org/abs/2209.05227

Equations and choices: see README.md beside this file.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower import records
from cdc_flower.batch import MessageBatch
from cdc_flower.checkpoints import Checkpoints
from cdc_flower.layers import Parameters
from cdc_flower.replies import answers
from cdc_flower.scoring import Arrays
from cdc_flower.seeds import generator
from cdc_flower.strategies.base import Cloud, CloudStrategy, History, to_every_node
from cdc_flower.strategies.duet.hypernetwork import Hypernetwork
from cdc_flower.training import Batch, fit

#: Devices for which layers are generated in one product.
DEVICES_PER_CHUNK = 2048
#: Historical sequences whose mean generated layers every device starts with.
NUM_START_SEQUENCES = 4096


@dataclass(frozen=True)
class Lagged:
    """Labelled examples, and the older sequence ``seen`` ``[B, L]`` that the layers are generated from."""

    history: NDArray[np.int32]
    candidates: NDArray[np.int32]
    seen: NDArray[np.int32]


class Duet(CloudStrategy):
    """Full generation of the adaptive layers by a hypernetwork in the cloud.

    Up goes a device's last items; down come its adaptive layers. No gradient runs on the device and no label
    leaves it.

    Args:
        epochs: Of training the hypernetwork on historical data. 0 leaves it at its start, which is ``static``.
        rate: Learning rate of Adam.
        joint: Whether static layers are trained along with the hypernetwork (5). False keeps the base model's.
        max_lag: In training, the sequence to generate from ends up to this many events before the one to
            predict, as it does on a device that was adapted a while ago. 0 is the paper's.
        width: Of the encoder; ``decoder_width``: between a decoder's two linear maps.

    Raises:
        ValueError: If a value is out of its range.
    """

    def __init__(
        self,
        epochs: int = 20,
        rate: float = 1e-3,
        joint: bool = True,
        max_lag: int = 0,
        width: int = 32,
        decoder_width: int = 32,
    ) -> None:
        for name, value, least in (
            ("epochs", epochs, 0),
            ("rate", rate, 0),
            ("max_lag", max_lag, 0),
            ("width", width, 1),
            ("decoder_width", decoder_width, 1),
        ):
            if not least <= value < np.inf:
                raise ValueError(f"{name} must be >= {least}, got {value}")
        if not isinstance(joint, bool):
            raise ValueError(f"joint must be true or false, got {joint!r}")
        self.epochs, self.rate, self.joint, self.max_lag = epochs, rate, joint, max_lag
        self.width, self.decoder_width = width, decoder_width
        self.knobs = {"epochs": epochs, "rate": rate, "joint": joint, "max_lag": max_lag}
        self.knobs |= {"width": width, "decoder_width": decoder_width}
        self._generated: tuple[NDArray[np.uint64], Arrays] | None = None

    def prepare(self, cloud: Cloud) -> None:
        """Train the hypernetwork, and the static layers with it, on historical data (5)."""
        super().prepare(cloud)
        self.parameters = {name: value.detach().clone() for name, value in cloud.parameters.items()}
        self.hypernetwork = Hypernetwork(
            cloud.model, self.parameters, width=self.width, decoder_width=self.decoder_width, seed=cloud.seed
        )
        static = [value for name, value in self.parameters.items() if name not in cloud.model.adaptive]
        for value in static:
            value.requires_grad_(self.joint)
        lags = generator(cloud.seed, "duet", "lag")

        def loss(batch: Batch) -> Tensor:
            history, candidates = (torch.from_numpy(ids).long() for ids in (batch.history, batch.candidates))
            own = self._layers(torch.from_numpy(batch.seen).long() if isinstance(batch, Lagged) else history)
            parameters = cloud.model.tabulate(self.parameters)
            return cloud.model.loss(cloud.model.score({**parameters, **own}, history, candidates)).mean()

        step = cloud.progress("duet: training the hypernetwork", self.epochs * cloud.num_batches())

        def train() -> list[float]:
            return fit(
                loss,
                [*self.hypernetwork.parameters(), *(static if self.joint else [])],
                lambda epoch: self._batches(cloud, cloud.train, epoch, lags),
                lambda: self._batches(cloud, cloud.validation, 0, generator(cloud.seed, "duet", "validation-lag")),
                epochs=self.epochs,
                rate=self.rate,
                patience=cloud.patience,
                on_batch=step,
            )

        key = {"what": "duet", "base": cloud.identity, "settings": self.knobs}
        kept = {**dict(self.hypernetwork.named_parameters(prefix="hypernetwork")), **self.parameters}
        checkpoints = cloud.checkpoints if cloud.identity else Checkpoints()
        self.validation_curve = checkpoints.trained(key, kept, train)
        self.hypernetwork.eval().requires_grad_(False)
        for value in static:
            value.requires_grad_(False)
        first = next(iter(cloud.train.batches(NUM_START_SEQUENCES, 0, cloud.seed, cloud.num_negatives)))
        start = self._layers(torch.from_numpy(first.history).long())
        self.parameters |= {name: value[0] + (value - value[0]).mean(0) for name, value in start.items()}

    def _batches(self, cloud: Cloud, history: History, epoch: int, lags: np.random.Generator) -> Iterator[Batch]:
        """Historical batches, each with the sequences to generate from; without a lag they are its own."""
        for batch in history.batches(cloud.batch_size, epoch, cloud.seed, cloud.num_negatives):
            if not self.max_lag:
                yield batch
                continue
            seen = history.lagged(batch.rows, lags.integers(0, self.max_lag + 1, len(batch.rows)))
            yield Lagged(batch.history, batch.candidates, seen)

    def _layers(self, history: Tensor) -> Parameters:
        """Generated layers for sequences ``[B, L]``."""
        return self.hypernetwork(*self.cloud.model.sequence(self.parameters, history))

    def generate(self, history: NDArray[np.int32]) -> Arrays:
        """Sequences ``[n, L]`` -> adaptive layers ``[n, ...]``, each from its own sequence alone."""
        return self.generate_from({records.HISTORY: history})

    @torch.no_grad()
    def generate_from(self, report: Mapping[str, NDArray[Any]]) -> Arrays:
        """As :meth:`generate`, from what devices report."""
        torch.set_num_threads(1)
        count = len(next(iter(report.values())))
        chunks = [
            {name: value[k : k + DEVICES_PER_CHUNK] for name, value in report.items()}
            for k in range(0, count, DEVICES_PER_CHUNK)
        ]
        parts = [self.hypernetwork(*self.cloud.model.reported(self.parameters, chunk)) for chunk in chunks]
        return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}

    def deployment(self) -> Arrays:
        """Static layers as trained, and the mean generated adaptive layers to start with."""
        return self.cloud.arrays(self.parameters)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Every device reports its recent items."""
        return to_every_node(grid, records.TRAIN_REPORT, server_round)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Generate, from each device's report alone."""
        batch = answers(replies)
        self._generated = None
        if batch is not None:
            report = {name: batch.array(records.REPORT, name) for name in batch.arrays[records.REPORT]}
            self._generated = np.asarray(batch.node_ids, np.uint64), self.generate_from(report)
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """To each device that reported, its layers; the others go on with what they have."""
        everyone = to_every_node(grid, records.EVALUATE, server_round)
        if self._generated is None:
            return everyone
        node_ids, generated = self._generated
        flops = self.hypernetwork.flops(self.cloud.model.history_length)
        adapted = MessageBatch(
            records.EVALUATE,
            node_ids,
            arrays={records.PARAMETERS: generated},
            configs={**everyone.configs, records.WORK: {records.FLOPS: flops}},
        )
        silent = ~np.isin(everyone.node_ids, node_ids)
        if not silent.any():
            return adapted
        both: list[Any] = [adapted, everyone.select(silent)]
        return both
