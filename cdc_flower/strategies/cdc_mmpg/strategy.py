"""CDC-MMPG: the device tells one anchor frame, the cloud generates its adaptive layer, no gradient runs on it.

Ji et al., Backpropagation-Free Multi-modal On-Device Model Adaptation via Cloud-Device
Collaboration, ACM TOMM 21(2), 2025, https://arxiv.org/abs/2406.01601

Much of the method is not public. README.md beside this file says what is known, what is inferred,
and what we chose.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.core.errors import UserError
from cdc_flower.core.seeds import generator, torch_generator
from cdc_flower.models.video.ranking import VideoModel
from cdc_flower.strategies.base import Cloud, CloudStrategy, Stage, to_every_node
from cdc_flower.strategies.cdc_mmpg.adaptor import VARIANTS, FastDomainAdaptor
from cdc_flower.strategies.cdc_mmpg.condition import ARMS, Condition, FrameTable, spread_of
from cdc_flower.strategies.cdc_mmpg.matching import match_clips
from cdc_flower.strategies.cdc_mmpg.reasoner import AnchorFrameReasoner
from cdc_flower.strategies.generation import report_of
from cdc_flower.tasks.video.clip_report import ClipReport, read_report
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch
from cdc_flower.wire.replies import MessageBatches

#: Generated numbers held at a time, which bound the memory.
NUMBERS_PER_CHUNK = 8_000_000


@dataclass(frozen=True)
class Opened:
    """Historical examples ``[B]``, the true candidate first, and the query ``[B]`` that their segment opens with."""

    history: NDArray[np.int32]
    candidates: NDArray[np.int32]
    opening: NDArray[np.int64]


class CdcMmpg(CloudStrategy):
    """Generation of the adaptive layer from one frame.

    Args:
        arm: What conditions the adaptor: ``anchor+adr`` (one frame, from which the clip's
            distribution is reasoned), ``anchor_only`` (that frame alone), ``full_clip`` (all frames
            go up: the upper bound in bytes) or ``one_for_all`` (nothing goes up, all devices are
            deployed the same layer: the control).
        variant: Of the adaptor: ``oneM+bias``, ``twoM+bias`` (kernel and bias), ``onebias``,
            ``twobias`` (bias only).
        anchor: Which frame goes up: ``middle``, ``first``, ``random`` or ``medoid``.
        form: How a frame goes up: ``raw``, ``png``, ``jpeg`` or ``feature``.
        epochs: Of training on historical data. 0 is ``static``.
        rate: Learning rate of Adam. 0 is ``static``.
        adr_epochs: Of training the reasoner by itself first, on the distribution-matching loss,
            which needs no label.
        adr_weight: Of that loss beside the task's afterwards. With both 0 the reasoner is left to
            the task alone.
        num_samples: Of what is reasoned, the mean of which conditions the adaptor in training; None
            for as many as a clip has frames, 0 for μ itself.
        hidden: ``H``, between the two stages of the adaptor; ``adr_hidden``: between the maps of
            the reasoner.

    Raises:
        ValueError: If a value is unknown or out of its range.
    """

    reads = frozenset({records.FRAMES})
    passing = frozenset({"_generated"})

    def __init__(
        self,
        arm: str = "anchor+adr",
        variant: str = "oneM+bias",
        anchor: str = "middle",
        form: str = "raw",
        epochs: int = 20,
        rate: float = 2e-3,
        adr_epochs: int = 15,
        adr_weight: float = 0.1,
        num_samples: int | None = None,
        hidden: int = 128,
        adr_hidden: int = 128,
    ) -> None:
        if arm not in ARMS:
            raise ValueError(f"arm must be one of {', '.join(ARMS)}, got {arm!r}")
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        least = {"epochs": (epochs, 0), "rate": (rate, 0), "adr_weight": (adr_weight, 0)}
        least |= {"adr_epochs": (adr_epochs, 0), "num_samples": (num_samples or 0, 0)}
        for name, (value, low) in {
            **least,
            "hidden": (hidden, 1),
            "adr_hidden": (adr_hidden, 1),
        }.items():
            if not low <= value < np.inf:
                raise ValueError(f"{name} must be >= {low}, got {value}")
        self.arm, self.variant, self.epochs, self.rate = arm, variant, epochs, rate
        self.adr_epochs, self.adr_weight, self.num_samples = adr_epochs, adr_weight, num_samples
        self.hidden, self.adr_hidden = hidden, adr_hidden
        self.report = ClipReport("frames" if arm == "full_clip" else "anchor", form, anchor)
        self.knobs = {
            "arm": arm,
            "variant": variant,
            "anchor": anchor,
            "epochs": epochs,
            "rate": rate,
        }
        self.knobs |= {
            "adr_epochs": adr_epochs,
            "adr_weight": adr_weight,
            "num_samples": num_samples,
        }
        self.knobs |= {"hidden": hidden, "adr_hidden": adr_hidden}
        self._generated: tuple[NDArray[np.uint64], Arrays] | None = None

    def prepare(self, cloud: Cloud) -> None:
        """Train the adaptor, and the reasoner with it, on historical data. The device model stays the base model.

        Raises:
            UserError: If the task is not one on video, or frames that are features are to be
                encoded as pictures.
        """
        super().prepare(cloud)
        if not isinstance(cloud.model, VideoModel):
            raise UserError(
                "strategy.cdc_mmpg: task must be video_qa or video_retrieval, for it reads frames"
            )
        if self.report.form in ("png", "jpeg") and not cloud.model.encoder.has_pixels:
            raise UserError(
                f"strategy.cdc_mmpg.form must be raw or feature where data are features: {self.report.form}"
            )
        self.model = cloud.model
        self.parameters = {name: value.detach().clone() for name, value in cloud.parameters.items()}
        self.frames = FrameTable(cloud.model, self.parameters)
        features = self.frames(self.clips_of(self._first_openings(cloud.train)))
        mean, scale = features.mean((0, 1)), spread_of(features.flatten(0, 1))
        head = self.parameters["head.0.weight"], self.parameters["head.0.bias"]
        width, random = cloud.model.width, torch_generator(cloud.seed, "cdc_mmpg", "adaptor")
        self.adaptor = FastDomainAdaptor(
            self.variant, *head, width, hidden=self.hidden, mean=mean, scale=scale, generator=random
        )
        reasoner = AnchorFrameReasoner(width, self.adr_hidden, mean, scale, cloud.seed)
        num_samples = cloud.model.clips.num_frames if self.num_samples is None else self.num_samples
        self.condition = Condition(
            self.arm,
            self.report.anchor,
            reasoner if "adr" in self.arm else None,
            cloud.seed,
            num_samples,
            mean,
        )
        trained = dict(self.adaptor.named_parameters(prefix="adaptor"))
        if self.condition.reasoner is not None:
            knobs = {key: self.knobs[key] for key in ("anchor", "adr_epochs", "adr_hidden", "rate")}
            match_clips(
                cloud, self.condition, self.frames, knobs, epochs=self.adr_epochs, rate=self.rate
            )
            trained |= dict(reasoner.named_parameters(prefix="reasoner"))
        noise = torch_generator(cloud.seed, "cdc_mmpg", "noise")
        self.validation_curve = cloud.fit(
            Stage(
                f"cdc_mmpg ({self.arm}): training",
                self.knobs,
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
        reasoner.eval().requires_grad_(False)

    def clips_of(self, queries: NDArray[np.int64]) -> NDArray[np.int64]:
        """``[B]`` queries -> ``[B]`` clips."""
        return self.model.clips.clip_of(queries)

    def _first_openings(self, history: Any) -> NDArray[np.int64]:
        return history.openings(np.arange(history.num_examples), np.zeros(history.num_examples))

    def _batches(self, cloud: Cloud, epoch: int, noise: torch.Generator) -> Iterator[Opened]:
        """Historical batches; any clip of an example's segment may be the one that it opens with.

        What is drawn depends on the epoch alone, so that training can go on after an interruption.
        """
        history: Any = cloud.train
        draws = generator(cloud.seed, "cdc_mmpg", "openings", epoch)
        noise.set_state(torch_generator(cloud.seed, "cdc_mmpg", "noise", epoch).get_state())
        for batch in history.batches(cloud.batch_size, epoch, cloud.seed, cloud.num_negatives):
            opening = history.openings(batch.rows, draws.uniform(size=len(batch.rows)))
            if len(batch.rows) > 1 or not self.adaptor.has_kernel:  # normalization needs two rows
                yield Opened(batch.history, batch.candidates, opening)

    def _held_out(self, cloud: Cloud) -> Iterator[Opened]:
        """Held-out batches, conditioned on the first clip of their segment as devices are."""
        self._settle()
        history: Any = cloud.validation
        for batch in history.batches(cloud.batch_size, 0, cloud.seed, cloud.num_negatives):
            yield Opened(
                batch.history,
                batch.candidates,
                history.openings(batch.rows, np.zeros(len(batch.rows))),
            )

    @torch.no_grad()
    def _settle(self) -> None:
        """Statistics of evaluation mode, from the clips that historical segments open with."""
        clip_ids = np.unique(self.clips_of(self._first_openings(self.cloud.train)))
        features = self.frames(clip_ids)
        z, _ = self.condition.in_training(features, clip_ids, torch.zeros_like(features[:, 0]))
        self.adaptor.settle(z, max(2, NUMBERS_PER_CHUNK // self.adaptor.num_generated))

    def _loss(self, batch: Any, noise: torch.Generator) -> Tensor:
        """The task's loss with generated layers, in training plus ``adr_weight`` times the mismatch."""
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
        """Features of the frames that were told, ``[n, m, Z]`` -> adaptive layers ``[n, ...]``, each from its own."""
        torch.set_num_threads(1)
        size = max(1, NUMBERS_PER_CHUNK // self.adaptor.num_generated)
        parts = [self.adaptor(self.condition.of_report(part)) for part in features.split(size)]
        return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}

    def deployment(self) -> Arrays:
        """The base model; the control has its layer in it."""
        deployed = super().deployment()
        if self.arm != "one_for_all":
            return deployed
        made = self.generate(torch.zeros(1, 1, self.model.width))
        return {**deployed, **{name: value[0] for name, value in made.items()}}

    def settings(self) -> dict[str, Any]:
        """What devices are to tell, deployed once beside the model."""
        return self.report.to_settings()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Every device tells of the clip that its segment opens with; the control asks nobody."""
        if self.arm == "one_for_all":
            return []
        return to_every_node(grid, records.TRAIN_REPORT, server_round)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Reason and generate, from each device's report alone."""
        self._generated = None
        groups = [batch for batch, _ in MessageBatches.of(replies).ok().groups]
        if groups:
            node_ids = np.concatenate([np.asarray(batch.node_ids, np.uint64) for batch in groups])
            told = [read_report(self.model, self.parameters, report_of(batch)) for batch in groups]
            self._generated = node_ids, self.generate(torch.cat(told))
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """To each device that told something, its adaptive layer; the others go on with what they have."""
        everyone = to_every_node(grid, records.EVALUATE, server_round)
        if self._generated is None:
            return everyone
        node_ids, generated = self._generated
        work = {records.WORK: {records.FLOPS: self.cloud_flops()}}
        parameters = {records.PARAMETERS: generated}
        adapted = MessageBatch(
            records.EVALUATE, node_ids, parameters, configs={**everyone.configs, **work}
        )
        silent = ~np.isin(everyone.node_ids, node_ids)
        both: list[Any] = [adapted, everyone.select(silent)]
        return both if silent.any() else adapted

    def cloud_flops(self) -> float:
        """Floating-point operations in the cloud for one device: its frames, the reasoner, the adaptor."""
        num_frames = self.model.clips.num_frames if self.report.what == "frames" else 1
        frames = 0.0 if self.report.form == "feature" else num_frames * self.model.frame_flops()
        reasoner = self.condition.reasoner
        return frames + (reasoner.flops() if reasoner is not None else 0.0) + self.adaptor.flops()
