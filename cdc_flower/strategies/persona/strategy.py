"""Persona: the cloud edits each device's adaptive layers, on top of the prototype that fits it.

Tackling Device Data Distribution Real-time Shift via Prototype-based Parameter Editing, ACM MM
2025, https://arxiv.org/abs/2509.06552

Equations and choices: see README.md beside this file.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, Message, MetricRecord
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.devices.decoders.protocol import Decoder
from cdc_flower.models.sequence_feature import with_table
from cdc_flower.strategies.base import Cloud
from cdc_flower.strategies.checks import check_choices, check_range, check_switches
from cdc_flower.strategies.generation import GenerationStrategy, in_parts, report_of
from cdc_flower.strategies.persona.decoder import PROTOTYPE, EditDecoder
from cdc_flower.strategies.persona.downlink import DOWNLINKS, messages
from cdc_flower.strategies.persona.editing import Edited, edited
from cdc_flower.strategies.persona.editor import ParameterEditor
from cdc_flower.strategies.persona.group import Group
from cdc_flower.strategies.persona.prototypes import Bank, Ints, nearest
from cdc_flower.strategies.persona.stages import Stages, points
from cdc_flower.training.scoring import Arrays, tensors
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

log = logging.getLogger("cdc_flower")

#: Devices whose features are made at a time.
DEVICES_PER_CHUNK = 1024

CHOICES = {
    "assignment": ("static", "dynamic"),
    "cluster_on": ("edits", "embeddings"),
    "report": ("events", "feature"),
    "downlink": DOWNLINKS,
}


class Persona(GenerationStrategy):
    """Prototype-based parameter editing.

    Up goes a device's recent data (its last items or the frames of a clip, or a feature of them),
    down come its adaptive layers, or only what is added to the prototype that it holds. No gradient
    runs on the device and no label leaves it.

    Args:
        num_prototypes: N; 1 is the method with the base model's head as its single prototype.
        assignment: ``static``, the nearest center; ``dynamic``, the prototype that needs the
            smallest edit.
        refinement_rate: ρ, how far a prototype moves toward its members in each segment; 0 is off.
        clip: γ, the largest entry of an edit; 0 makes the device model that of its prototype.
        low_rank: Rank of the edits; null for full rank.
        transfer: Between layers: ``gru``, ``transformer`` or ``none``.
        cluster_on: Samples are clustered by their ``edits`` (paper) or by their layer
            ``embeddings`` (released code).
        joint: Whether the static layers are trained along with the editor; false keeps the base
            model's.
        epochs: Of each stage at most; 0 leaves everything at its start, which is ``static``.
        rate: Learning rate of Adam.
        width: Of the feature and of the layer embeddings.
        max_samples: Samples that k-means is fitted on.
        report: What a device sends: its ``events`` or a ``feature`` of them.
        report_lag: How many events before the segment the report ends.
        downlink: ``full`` sends whole layers; ``edit`` what is added to the prototype that the
            device holds, and the prototype where it holds another; ``index`` only the prototype's
            number where the edit is small.
        edit_threshold: With ``index``: the largest entry of an edit that is not sent. 0 drops only
            edits of zero.
        released_code: Random decoders that are not trained, and one feature cloned for all layers.

    Raises:
        ValueError: If a value is out of its range.
    """

    reads = frozenset({records.HISTORY, records.FRAMES})
    passing = GenerationStrategy.passing | {"seen"}

    def __init__(
        self,
        num_prototypes: int = 5,
        assignment: str = "dynamic",
        refinement_rate: float = 0.0,
        clip: float = 1.0,
        low_rank: int | None = None,
        transfer: str = "gru",
        cluster_on: str = "edits",
        joint: bool = False,
        epochs: int = 20,
        rate: float = 1e-3,
        width: int = 32,
        max_samples: int = 100_000,
        report: str = "events",
        report_lag: int = 0,
        downlink: str = "full",
        edit_threshold: float = 0.0,
        released_code: bool = False,
    ) -> None:
        knobs = {
            name: value for name, value in locals().items() if name not in ("self", "__class__")
        }
        check_range(
            knobs,
            num_prototypes=1,
            epochs=0,
            rate=0,
            width=1,
            max_samples=1,
            report_lag=0,
            edit_threshold=0,
        )
        check_choices(knobs, **CHOICES)
        check_switches(knobs, "joint", "released_code")
        if not 0 <= refinement_rate <= 1:
            raise ValueError(f"refinement_rate must be in [0, 1], got {refinement_rate}")
        if transfer == "cloned":
            raise ValueError(
                "transfer must be one of gru, transformer, none, got 'cloned'; see released_code"
            )
        if low_rank is not None and downlink == "full":
            raise ValueError(
                "low_rank must go with downlink=edit or index; full layers have no low rank"
            )
        if low_rank is not None and refinement_rate:
            raise ValueError(
                "low_rank must go with refinement_rate=0; what a moved prototype needs is of full rank"
            )
        self.num_prototypes, self.assignment, self.refinement_rate = (
            num_prototypes,
            assignment,
            refinement_rate,
        )
        self.cluster_on, self.joint, self.epochs, self.rate = cluster_on, joint, epochs, rate
        self.max_samples, self.report, self.report_lag = max_samples, report, report_lag
        self.downlink, self.edit_threshold = downlink, edit_threshold
        self._editing: dict[str, Any] = {"width": width, "clip": clip, "low_rank": low_rank}
        self._editing |= {
            "transfer": "cloned" if released_code else transfer,
            "random_decoders": released_code,
        }
        self._build_editor(None)

    def _build_editor(self, cloud: Cloud | None) -> None:
        """The editor for the cloud's model; without one, only its settings are checked."""
        model: Any = None if cloud is None else cloud.model
        self.editor = ParameterEditor(model, **self._editing)

    def prepare(self, cloud: Cloud) -> None:
        """Train the global editor; with several prototypes, cluster samples and train each group's own."""
        super().prepare(cloud)
        self._build_editor(cloud)
        stages = Stages(cloud, self.editor, self.epochs, self.rate, self.joint)
        self.parameters, self.global_editor = stages.global_editor()
        self._static = cloud.model.tabulate(self.parameters)
        self._with_table = with_table(self.global_editor, cloud.model, self.parameters)
        head = {name: self.parameters[name] for name in cloud.model.adaptive}
        if self.num_prototypes == 1:
            self.editors = [self.global_editor]
            self.trained_bank = Bank.of(
                {name: value[None] for name, value in head.items()}, torch.zeros(1, 1)
            )
        else:
            groups = stages.group(
                self.parameters,
                self.global_editor,
                self.num_prototypes,
                self.cluster_on,
                self.max_samples,
            )
            log.info("persona: training examples of each group: %s", groups.sizes)
            prototypes = stages.prototypes(self.parameters, groups, cloud.model.adaptive)
            self.editors = stages.group_editors(
                self.parameters, self.global_editor, prototypes, groups
            )
            stacked = {
                name: torch.stack([prototype[name] for prototype in prototypes]) for name in head
            }
            self.trained_bank = Bank.of(stacked, groups.centers)
        self.bank = self.trained_bank

    def state(self) -> Arrays:
        """The bank of prototypes as it is now."""
        return self.bank.to_arrays()

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Let every deployment from now on start with the bank that :meth:`state` gave.

        Raises:
            ValueError: If it has another number of prototypes, or they are of another model.
        """
        self.set_state(state)
        self.trained_bank = self.bank

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
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
        """Static layers, and as adaptive layers the base model's head. The bank starts as it was trained."""
        self.bank = self.trained_bank
        deployed = dict(self.parameters)
        if self.report == "feature":
            deployed |= {
                name: value
                for name, value in self.global_editor.items()
                if name.startswith("feature.")
            }
        return self.cloud.arrays(deployed)

    def settings(self) -> dict[str, Any]:
        """What the device reports and from when, and which prototype it keeps at first."""
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
        """Assign, edit, refine: what goes down to the devices that reported."""
        torch.set_num_threads(1)
        feature = self._feature(reports)
        group_of, where = self._assigned(feature)
        made = self._edited(feature, group_of)
        num_compared = (
            0
            if self.num_prototypes == 1
            else self.num_prototypes
            if self.assignment == "dynamic"
            else 1
        )
        flops = (
            self.editor.flops(self.cloud.model.history_length)
            + num_compared * self.editor.comparison_flops()
        )
        if self.report != "feature":
            flops += self.cloud.model.sequence_flops()
        down = messages(
            self.downlink, self.edit_threshold, reports, self.bank, group_of, made, flops
        )
        if self.refinement_rate:
            self.bank = self.bank.refined(
                group_of, tensors(made.residuals), where, self.refinement_rate
            )
        self.seen = MetricRecord(
            {
                "prototype-sizes": [
                    int(count) for count in np.bincount(group_of, minlength=len(self.bank))
                ],
                "mean-edit-norm": float(made.norms.mean()),
                "saturated": made.saturated,
            }
        )
        return down

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Answer each report; the metrics are the devices of each prototype and the size of their edits."""
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
        """Groups ``[n]`` of devices with these features ``[n, w]``, and where they lie, if that matters, ``[n, c]``."""
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
        """The edits of devices with these features ``[n, w]`` and groups ``[n]``."""
        is_full = self.downlink == "full"
        return edited(
            self._group,
            feature,
            group_of,
            with_layers=is_full,
            with_residuals=bool(self.refinement_rate),
            with_factors=not is_full,
        )

    def _group(self, number: int) -> Group:
        """One prototype with its editor."""
        return Group(self.editor, self.editors[self.bank.editor[number]], self.bank, number)
