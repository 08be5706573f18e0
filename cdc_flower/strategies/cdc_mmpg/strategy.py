"""CDC-MMPG: a device tells one anchor frame, and the cloud generates its adaptive layer from it.

Ji et al., Backpropagation-Free Multi-modal On-Device Model Adaptation via Cloud-Device
Collaboration, ACM TOMM 21(2), 2025, https://arxiv.org/abs/2406.01601

Much of the method is not public. README.md beside this file says what is known, what is inferred,
and what we chose.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.core.errors import UserError
from cdc_flower.core.options import option, training_values
from cdc_flower.core.seeds import generator, torch_generator
from cdc_flower.devices.state import Settings
from cdc_flower.models.video.ranking import VideoModel
from cdc_flower.strategies.base import Cloud, CloudStrategy, Stage, to_every_node, with_the_others
from cdc_flower.strategies.cdc_mmpg.adaptor import VARIANTS, FastDomainAdaptor
from cdc_flower.strategies.cdc_mmpg.condition import ARMS, Condition, FrameTable, spread_of
from cdc_flower.strategies.cdc_mmpg.matching import ClipHistory, Schedule, clips_in, match_clips
from cdc_flower.strategies.cdc_mmpg.reasoner import AnchorFrameReasoner
from cdc_flower.strategies.generation import report_of
from cdc_flower.strategies.papers import paper
from cdc_flower.strategies.registry import strategies
from cdc_flower.tasks.video.clip_report import ANCHORS, FORMS, ClipReport, read_report
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import MessageBatches

#: Generated numbers held at a time, which bound the memory.
NUMBERS_PER_CHUNK = 8_000_000


@dataclass(frozen=True)
class Opened:
    """Historical examples ``[B]`` with the query ``[B]`` that their segment opens with."""

    history: NDArray[np.int32]
    candidates: NDArray[np.int32]
    opening: NDArray[np.int64]


@dataclass(frozen=True)
class Generated:
    """Adaptive layers ``[n, ...]`` of the devices that told something."""

    node_ids: NDArray[np.uint64]
    layers: Arrays


PAPER = paper(
    "CDC-MMPG",
    key="ji2025cdcmmpg",
    author="Ji, Wei",
    title="Backpropagation-Free Multi-modal On-Device Model Adaptation via Cloud-Device "
    "Collaboration",
    venue="ACM Transactions on Multimedia Computing, Communications, and Applications (TOMM) 21(2)",
    year=2025,
    arxiv="2406.01601",
)


@strategies.register(
    "cdc_mmpg",
    paper=PAPER,
    color="#009E73",
    up="one frame",
    down="adaptive layer, or its bias",
    tiny={"epochs": 2, "rate": 0.02, "hidden": 8, "adr_hidden": 8},
)
@dataclass(eq=False, repr=False)
class CdcMmpg(CloudStrategy):
    """Generation of the adaptive layer from one frame.

    Raises:
        ValueError: If a value is unknown or out of its range.
    """

    reads = frozenset({records.FRAMES})
    generates = True
    personal = True
    passing = frozenset({"_generated"})

    arm: str = option(
        "anchor+adr",
        choices=ARMS,
        doc="full_clip: all frames go up, and their mean feature conditions the adaptor; "
        "anchor_only: one frame's feature does; anchor+adr: what is reasoned from one; "
        "one_for_all: nothing goes up or down, and the layer is trained further without telling "
        "clips apart",
    )
    variant: str = option(
        "oneM+bias", choices=VARIANTS, doc="of the adaptor: kernel and bias, or bias only"
    )
    anchor: str = option(
        "middle", choices=ANCHORS, doc="frame that goes up; medoid: the nearest to the others"
    )
    form: str = option(
        "raw",
        choices=FORMS,
        changes_training=False,
        doc="of a frame on its way up: pixels, a picture of a real encoder, or the feature that "
        "the device's own static layers make",
    )
    epochs: int = option(
        20,
        least=0,
        neutral=0,
        doc="of training at most, as cloud.patience_steps has it; 0 is static",
    )
    rate: float = option(
        2e-3, least=0, below=math.inf, neutral=0, doc="learning rate of Adam; 0 is static"
    )
    adr_epochs: int = option(
        15,
        least=0,
        neutral=0,
        doc="of training the reasoner by itself first, on clips without labels; 0 leaves it at its "
        "start, which is the anchor itself",
    )
    adr_weight: float = option(
        0.1,
        least=0,
        below=math.inf,
        neutral=0,
        doc="of the distribution-matching loss afterwards; 0 leaves it to the task's loss",
    )
    num_samples: int | None = option(
        None,
        least=0,
        neutral=0,
        doc="of what is reasoned, averaged in training; null: as many as a clip has frames, "
        "0: their mean itself",
    )
    hidden: int = option(128, least=1, doc="width between the stages of twoM+bias and twobias")
    adr_hidden: int = option(128, least=1, doc="width between the maps of the reasoner")

    _generated: Generated | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        what = "frames" if self.arm == "full_clip" else "anchor"
        self.report = ClipReport(what, self.form, self.anchor)

    def prepare(self, cloud: Cloud) -> None:
        """Trains the adaptor, and the reasoner with it. The device model stays the base model.

        Raises:
            UserError: If the task is not one on video, or frames that are features are to be
                encoded as pictures.
        """
        super().prepare(cloud)
        self.model = self._checked_model(cloud)
        self.parameters = {name: value.detach().clone() for name, value in cloud.parameters.items()}
        self.frames = FrameTable(self.model, self.parameters)
        self._build(cloud)
        trained = dict(self.adaptor.named_parameters(prefix="adaptor"))
        reasoner = self.condition.reasoner
        if reasoner is not None:
            names = ("anchor", "adr_epochs", "adr_hidden", "rate")
            settings = {name: getattr(self, name) for name in names}
            schedule = Schedule(self.adr_epochs, self.rate)
            match_clips(cloud, self.condition, self.frames, settings, schedule)
            trained |= dict(reasoner.named_parameters(prefix="reasoner"))
        noise = torch_generator(cloud.seed, "cdc_mmpg", "noise")
        self.validation_curve = cloud.fit(
            Stage(
                f"cdc_mmpg ({self.arm}): training",
                training_values(self),
                trained,
                list(trained.values()),
                self.epochs,
                self.rate,
            ),
            lambda batch: self._loss(batch, noise),
            batches=lambda epoch: self._batches(cloud, epoch, noise),
            held_out=lambda: self._held_out(cloud),
        )
        self._settle()
        self.adaptor.eval().requires_grad_(False)
        if reasoner is not None:
            reasoner.eval().requires_grad_(False)

    def _checked_model(self, cloud: Cloud) -> VideoModel:
        """Takes the cloud's model, if it is one that the method can adapt."""
        if not isinstance(cloud.model, VideoModel):
            raise UserError(
                "strategy.cdc_mmpg: task must be video_qa or video_retrieval, for it reads frames"
            )
        if self.form in ("png", "jpeg") and not cloud.model.encoder.has_pixels:
            raise UserError(
                "strategy.cdc_mmpg.form must be raw or feature where data are features, "
                f"got {self.form}"
            )
        return cloud.model

    def _build(self, cloud: Cloud) -> None:
        """Makes the adaptor, and the condition with its reasoner, as they are before training."""
        features = self.frames(self.clips_of(self._first_openings(clips_in(cloud.train))))
        mean, scale = features.mean((0, 1)), spread_of(features.flatten(0, 1))
        self.adaptor = FastDomainAdaptor(
            self.variant,
            self.parameters["head.0.weight"],
            self.parameters["head.0.bias"],
            self.model.width,
            hidden=self.hidden,
            mean=mean,
            scale=scale,
            generator=torch_generator(cloud.seed, "cdc_mmpg", "adaptor"),
        )
        reasoner = None
        if "adr" in self.arm:
            reasoner = AnchorFrameReasoner(
                self.model.width, self.adr_hidden, mean, scale, cloud.seed
            )
        num_frames = self.model.clips.num_frames
        num_samples = num_frames if self.num_samples is None else self.num_samples
        self.condition = Condition(self.arm, self.anchor, reasoner, cloud.seed, num_samples, mean)

    def clips_of(self, queries: NDArray[np.int64]) -> NDArray[np.int64]:
        """Finds the clips ``[B]`` of queries ``[B]``."""
        return self.model.clips.clip_of(queries)

    def _first_openings(self, history: ClipHistory) -> NDArray[np.int64]:
        return history.openings(np.arange(history.num_examples), np.zeros(history.num_examples))

    def _batches(self, cloud: Cloud, epoch: int, noise: torch.Generator) -> Iterator[Opened]:
        """Makes historical batches; any clip of an example's segment may be the one that opens it.

        What is drawn depends on the epoch alone, so that training can go on after an interruption.
        """
        history = clips_in(cloud.train)
        draws = generator(cloud.seed, "cdc_mmpg", "openings", epoch)
        noise.set_state(torch_generator(cloud.seed, "cdc_mmpg", "noise", epoch).get_state())
        for batch in history.batches(cloud.batch_size, epoch, cloud.seed, cloud.num_negatives):
            opening = history.openings(batch.rows, draws.uniform(size=len(batch.rows)))
            if len(batch.rows) > 1 or not self.adaptor.has_kernel:  # normalization needs two rows
                yield Opened(batch.history, batch.candidates, opening)

    def _held_out(self, cloud: Cloud) -> Iterator[Opened]:
        """Makes held-out batches, conditioned on the first clip of a segment as devices are."""
        self._settle()
        history = clips_in(cloud.validation)
        for batch in history.batches(cloud.batch_size, 0, cloud.seed, cloud.num_negatives):
            yield Opened(
                batch.history,
                batch.candidates,
                history.openings(batch.rows, np.zeros(len(batch.rows))),
            )

    @torch.no_grad()
    def _settle(self) -> None:
        """Takes statistics of evaluation mode from the clips that historical segments open with."""
        clip_ids = np.unique(self.clips_of(self._first_openings(clips_in(self.cloud.train))))
        features = self.frames(clip_ids)
        z, _ = self.condition.in_training(features, clip_ids, torch.zeros_like(features[:, 0]))
        self.adaptor.settle(z, max(2, NUMBERS_PER_CHUNK // self.adaptor.num_generated))

    def _loss(self, batch: Opened, noise: torch.Generator) -> Tensor:
        """Computes the loss with generated layers, in training plus ``adr_weight`` mismatches."""
        is_training = torch.is_grad_enabled()
        self.adaptor.train(is_training)
        clip_ids = self.clips_of(batch.opening)
        features = self.frames(clip_ids)
        shape = features[:, 0].shape
        random = torch.randn(shape, generator=noise) if is_training else torch.zeros(shape)
        z, mismatch = self.condition.in_training(features, clip_ids, random)
        history, candidates = (
            torch.from_numpy(ids).long() for ids in (batch.history, batch.candidates)
        )
        with torch.no_grad():
            x, targets = self.model.encode(
                self.model.tabulate(self.parameters), history, candidates
            )
        logits = self.model.match(
            self.model.head({**self.parameters, **self.adaptor(z)}, x), targets
        )
        loss = self.model.loss(logits).mean()
        return loss + self.adr_weight * mismatch.mean() if is_training else loss

    @torch.no_grad()
    def generate(self, features: Tensor) -> Arrays:
        """Generates layers ``[n, ...]`` from frames' features ``[n, m, Z]``, each from its own."""
        torch.set_num_threads(1)
        size = max(1, NUMBERS_PER_CHUNK // self.adaptor.num_generated)
        parts = [self.adaptor(self.condition.of_report(part)) for part in features.split(size)]
        return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}

    def deployment(self) -> Arrays:
        """Deploys the base model; the control has its layer in it."""
        deployed = super().deployment()
        if self.arm != "one_for_all":
            return deployed
        made = self.generate(torch.zeros(1, 1, self.model.width))
        return {**deployed, **{name: value[0] for name, value in made.items()}}

    def settings(self) -> Settings:
        """Says what devices are to tell, deployed once beside the model."""
        return self.report.to_settings()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Asks every device for the clip that opens its segment; the control asks nobody.

        Args:
            server_round: From 1; the segment is the one before.
            arrays: The global model, which stays in the cloud.
            config: Of Flower's round; not read.
            grid: Of the nodes.
        """
        if self.arm == "one_for_all":
            return []
        return to_every_node(grid, records.TRAIN_REPORT, server_round)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Reasons and generates, from each device's report alone."""
        self._generated = None
        groups = [batch for batch, _ in MessageBatches.of(replies).ok().groups]
        if groups:
            node_ids = np.concatenate([np.asarray(batch.node_ids, np.uint64) for batch in groups])
            told = [read_report(self.model, self.parameters, report_of(batch)) for batch in groups]
            self._generated = Generated(node_ids, self.generate(torch.cat(told)))
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Sends each device that told something its layer; the others go on with what they have.

        Args:
            server_round: From 1; the segment is the one before.
            arrays: The global model, which stays in the cloud.
            config: Of Flower's round; not read.
            grid: Of the nodes.
        """
        everyone = to_every_node(grid, records.EVALUATE, server_round)
        if self._generated is None:
            return everyone
        adapted = MessageBatch(
            records.EVALUATE,
            self._generated.node_ids,
            {records.PARAMETERS: self._generated.layers},
            configs={records.WORK: {records.FLOPS: self.cloud_flops()}},
        )
        return with_the_others(everyone, [adapted])

    def cloud_flops(self) -> float:
        """Counts the cloud's operations for one device: its frames, the reasoner, the adaptor."""
        num_frames = self.model.clips.num_frames if self.report.what == "frames" else 1
        frames = 0.0 if self.report.form == "feature" else num_frames * self.model.frame_flops()
        reasoner = self.condition.reasoner
        return frames + (reasoner.flops() if reasoner is not None else 0.0) + self.adaptor.flops()
