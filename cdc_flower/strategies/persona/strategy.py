"""Persona: the cloud edits each device's adaptive layers, on top of the prototype that fits it.

Tackling Device Data Distribution Real-time Shift via Prototype-based Parameter Editing, ACM MM
2025, https://arxiv.org/abs/2509.06552

Equations and choices: see README.md beside this file.
"""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from flwr.app import ArrayRecord, Message, MetricRecord
from torch import Tensor

from cdc_flower.core.options import option
from cdc_flower.core.saveable import Saved
from cdc_flower.devices.decoders.protocol import Decoder
from cdc_flower.devices.state import Settings
from cdc_flower.models.layers import Parameters
from cdc_flower.models.sequence_feature import with_table
from cdc_flower.strategies.base import Cloud
from cdc_flower.strategies.generation import GenerationStrategy, in_parts, report_of
from cdc_flower.strategies.papers import paper
from cdc_flower.strategies.persona.decoder import PROTOTYPE, EditDecoder
from cdc_flower.strategies.persona.downlink import DOWNLINKS, Downlink
from cdc_flower.strategies.persona.editing import Edited, Wanted, edited
from cdc_flower.strategies.persona.editor import ParameterEditor
from cdc_flower.strategies.persona.group import Group
from cdc_flower.strategies.persona.grouping import GroupingStrategy
from cdc_flower.strategies.persona.prototypes import Bank, Ints, nearest
from cdc_flower.strategies.persona.stages import Stages, points, remark_groups
from cdc_flower.strategies.persona.transfer import NUM_HEADS
from cdc_flower.strategies.registry import strategies
from cdc_flower.training.scoring import Arrays, tensors
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

log = logging.getLogger("cdc_flower")

#: Devices whose features are made at a time.
DEVICES_PER_CHUNK = 1024

PAPER = paper(
    "Persona",
    key="lv2025persona",
    author="Lv, Zheqi",
    title="Tackling Device Data Distribution Real-time Shift via Prototype-based Parameter Editing",
    venue="Proceedings of the ACM International Conference on Multimedia (MM)",
    year=2025,
    arxiv="2509.06552",
)


@strategies.register(
    "persona",
    paper=PAPER,
    color="#D55E00",
    up="10 items, or a clip, or 32 numbers",
    down="layers, edit, or a number",
    tiny={
        "num_prototypes": 2,
        "refinement_rate": 0.5,
        "epochs": 2,
        "rate": 0.01,
        "width": 8,
        "max_lag": 0,
    },
)
@dataclass(eq=False, repr=False)
class Persona(GroupingStrategy):
    """Prototype-based parameter editing.

    Up goes a device's recent data (its last items or the frames of a clip, or a feature of them),
    down come its adaptive layers, or only what is added to the prototype that it holds. No gradient
    runs on the device and no label leaves it.

    Raises:
        ValueError: If a value is out of its range.
    """

    reads = frozenset({records.HISTORY, records.FRAMES})
    passing = GenerationStrategy.passing | {"seen"}

    num_prototypes: int = option(
        5, least=1, neutral=1, doc="1 is the method with the base model's head as its prototype"
    )
    assignment: str = option(
        "dynamic",
        choices=("static", "dynamic"),
        changes_training=False,
        doc="static: the nearest center; dynamic: the prototype that needs the smallest edit",
    )
    refinement_rate: float = option(
        0.0,
        least=0,
        most=1,
        neutral=0,
        changes_training=False,
        doc="how far a prototype moves toward its members in each segment; 0 is off",
    )
    clip: float = option(
        1.0,
        least=0,
        neutral=0,
        doc="largest entry of an edit; 0 leaves every device its prototype, inf clips nothing",
    )
    low_rank: int | None = option(
        None,
        least=1,
        doc="of the edits, with downlink=edit or index; null is full rank, the paper's",
    )
    transfer: str = option(
        "gru", choices=("gru", "transformer", "none"), doc="of knowledge from layer to layer"
    )
    joint: bool = option(
        False,
        neutral=False,
        doc="whether static layers are trained along with the editor; false keeps the base model's",
    )
    report: str = option(
        "events",
        choices=("events", "feature"),
        changes_training=False,
        doc="what a device sends: its last items or frames, or a feature of them",
    )
    downlink: str = option(
        "full",
        choices=DOWNLINKS,
        changes_training=False,
        doc="full: whole layers; edit: what is added to the prototype that the device holds; "
        "index: the prototype's number alone where the edit is small",
    )
    edit_threshold: float = option(
        0.0,
        least=0,
        below=math.inf,
        neutral=0,
        changes_training=False,
        doc="with downlink=index, the largest entry of an edit that is not sent; 0 sends all "
        "others than zero",
    )
    released_code: bool = option(
        False,
        neutral=False,
        doc="whether decoders are random and not trained, and one feature is cloned for all "
        "layers; false is the paper's",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low_rank is not None and self.downlink == "full":
            raise ValueError(
                "low_rank must go with downlink=edit or index; full layers have no low rank"
            )
        if self.low_rank is not None and self.refinement_rate:
            raise ValueError(
                "low_rank must go with refinement_rate=0; "
                "what a moved prototype needs is of full rank"
            )
        if self.transfer == "transformer" and self.width % NUM_HEADS:
            raise ValueError(
                f"width must be a multiple of {NUM_HEADS} with transfer=transformer, "
                f"got {self.width}"
            )

    def prepare(self, cloud: Cloud) -> None:
        """Trains the global editor; with several prototypes, each group's own as well."""
        super().prepare(cloud)
        self.editor = ParameterEditor(
            cloud.model,
            width=self.width,
            transfer="cloned" if self.released_code else self.transfer,
            clip=self.clip,
            low_rank=self.low_rank,
            reads=self.report_reads,
            random_decoders=self.released_code,
        )
        how = self.epochs, self.rate, self.joint
        stages = Stages(cloud, self.editor, *how, self.past(cloud))
        self.parameters, self.global_editor = stages.global_editor()
        self._static = cloud.model.tabulate(self.parameters)
        self._with_table = with_table(self.global_editor, cloud.model, self.parameters)
        if self.num_prototypes == 1:
            head = {name: self.parameters[name][None] for name in cloud.model.adaptive}
            self.editors = [self.global_editor]
            self.trained_bank = Bank.of(head, torch.zeros(1, 1))
        else:
            self.editors, self.trained_bank = self._grouped(stages)
        self.bank = self.trained_bank

    def _grouped(self, stages: Stages) -> tuple[list[Parameters], Bank]:
        """Clusters samples, and trains the prototype and the editor of each group."""
        base, names = (self.parameters, self.global_editor), self.cloud.model.adaptive
        groups = stages.group(
            *base, self.num_prototypes, cluster_on=self.cluster_on, max_samples=self.max_samples
        )
        log.info("persona: training examples of each group: %s", groups.sizes)
        remark_groups(self.cloud, groups)
        prototypes = stages.prototypes(self.parameters, groups, names)
        stacked = {name: torch.stack([layers[name] for layers in prototypes]) for name in names}
        editors = stages.group_editors(*base, prototypes, groups)
        return editors, Bank.of(stacked, groups.centers)

    def state(self) -> Arrays:
        """Gives the bank of prototypes as it is now."""
        return self.bank.to_arrays()

    def restore(self, state: Saved) -> None:
        """Lets every deployment from now on start with the bank that :meth:`state` gave.

        Raises:
            ValueError: If it has another number of prototypes, or they are of another model.
        """
        self.set_state(state)
        self.trained_bank = self.bank

    def set_state(self, state: Saved) -> None:
        """Goes on with the bank that :meth:`state` gave.

        Raises:
            ValueError: As :meth:`restore`.
        """
        bank = Bank.from_arrays(state)
        for name, value in self.trained_bank.trained.items():
            found = tuple(bank.trained[name].shape) if name in bank.trained else None
            if found != tuple(value.shape):
                raise ValueError(
                    f"{name} of the bank must have shape {tuple(value.shape)}, got {found}"
                )
        self.bank = bank

    def deployment(self) -> Arrays:
        """Deploys static layers and the base model's head. The bank starts as it was trained."""
        self.bank = self.trained_bank
        deployed = dict(self.parameters)
        if self.report == "feature":
            deployed |= {
                name: value
                for name, value in self.global_editor.items()
                if name.startswith("feature.")
            }
        return self.cloud.arrays(deployed)

    def settings(self) -> Settings:
        """Says what a device reports and from when, and which prototype it keeps at first."""
        settings = super().settings()
        if self.report == "feature":
            settings[records.REPORT] = records.FEATURE
        if self.downlink != "full":
            settings[PROTOTYPE] = 0 if self.num_prototypes == 1 else -1
        return settings

    def decoders(self) -> tuple[type[Decoder], ...]:
        """Decodes edits on devices, unless whole layers travel."""
        return () if self.downlink == "full" else (EditDecoder,)

    @torch.no_grad()
    def answer(self, reports: MessageBatch) -> list[MessageBatch]:
        """Assigns, edits, refines, and makes what goes down to the devices that reported."""
        torch.set_num_threads(1)
        feature = self._feature(reports)
        group_of, where = self._assigned(feature)
        made = self._edited(feature, group_of)
        down = Downlink(self.downlink, self.edit_threshold, self._flops()).messages(
            reports, self.bank, group_of, made
        )
        if self.refinement_rate:
            self.bank = self.bank.refined(
                group_of, tensors(made.residuals), where, self.refinement_rate
            )
        sizes = np.bincount(group_of, minlength=len(self.bank))
        self.seen = MetricRecord(
            {
                "prototype-sizes": [int(count) for count in sizes],
                "mean-edit-norm": float(made.norms.mean()),
                "saturated": made.saturated,
            }
        )
        return down

    def _flops(self) -> float:
        """Counts floating-point operations in the cloud for one device."""
        num_compared = self.num_prototypes if self.assignment == "dynamic" else 1
        if self.num_prototypes == 1:
            num_compared = 0
        flops = self.editor.flops(self.num_steps(self.cloud.model))
        flops += num_compared * self.editor.comparison_flops()
        return flops if self.report == "feature" else flops + self.cloud.model.sequence_flops()

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Answers each report; metrics are the devices of each prototype and their edits' size."""
        self.seen = MetricRecord()
        super().aggregate_train(server_round, replies)
        return None, self.seen

    def _feature(self, reports: MessageBatch) -> Tensor:
        if self.report == "feature":
            return torch.from_numpy(
                np.array(reports.array(records.REPORT, records.FEATURE), np.float32)
            )
        parts = in_parts(report_of(reports), DEVICES_PER_CHUNK)
        return torch.cat(
            [self.editor.reported_feature(self._with_table, self._static, part) for part in parts]
        )

    def _assigned(self, feature: Tensor) -> tuple[Ints, Tensor]:
        """Finds groups ``[n]`` of features ``[n, w]``, and where they lie ``[n, c]``."""
        if self.num_prototypes == 1:
            return np.zeros(len(feature), np.int64), torch.zeros(len(feature), 1)
        where = torch.zeros(len(feature), 1)
        if self.assignment == "static" or self.refinement_rate:
            where = points(self.editor, self.global_editor, feature, self.cluster_on)
        if self.assignment == "static":
            return nearest(where, self.bank.centers), where
        groups = [self._group(number) for number in range(len(self.bank))]
        sizes = torch.stack([group.norms(group.embeddings(feature)) for group in groups])
        return np.asarray(sizes.argmin(0).numpy(), np.int64), where

    def _edited(self, feature: Tensor, group_of: Ints) -> Edited:
        """Makes the edits of devices with these features ``[n, w]`` and groups ``[n]``."""
        is_full = self.downlink == "full"
        wanted = Wanted(layers=is_full, residuals=bool(self.refinement_rate), factors=not is_full)
        return edited(self._group, feature, group_of, wanted)

    def _group(self, number: int) -> Group:
        """Gives one prototype with its editor."""
        return Group(self.editor, self.editors[self.bank.editor[number]], self.bank, number)
