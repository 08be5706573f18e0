"""Persona: the cloud edits each device's adaptive layers, on top of the prototype that fits it.

Tackling Device Data Distribution Real-time Shift via Prototype-based Parameter Editing, ACM MM
2025, https://arxiv.org/abs/2509.06552

Equations and choices: see README.md beside this file.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from flwr.app import ArrayRecord, Message, MetricRecord
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.core.saveable import Saved
from cdc_flower.devices.decoders.protocol import Decoder
from cdc_flower.devices.state import Settings
from cdc_flower.models.layers import Parameters
from cdc_flower.models.sequence_feature import with_table
from cdc_flower.strategies.base import Cloud
from cdc_flower.strategies.generation import GenerationStrategy, Report, in_parts, report_of
from cdc_flower.strategies.papers import paper
from cdc_flower.strategies.persona.births import Births
from cdc_flower.strategies.persona.decoder import PROTOTYPE, EditDecoder
from cdc_flower.strategies.persona.downlink import Downlink, as_arrays
from cdc_flower.strategies.persona.editing import Edited, Wanted, edited, largest_of
from cdc_flower.strategies.persona.editor import ParameterEditor
from cdc_flower.strategies.persona.group import Group
from cdc_flower.strategies.persona.likelihood import Likelihood
from cdc_flower.strategies.persona.mixing import Mixture
from cdc_flower.strategies.persona.mixture_stages import MixtureStages
from cdc_flower.strategies.persona.options import PersonaOptions
from cdc_flower.strategies.persona.prototypes import Bank, Ints, nearest, norms
from cdc_flower.strategies.persona.refinement import Mover
from cdc_flower.strategies.persona.regimes import labelled
from cdc_flower.strategies.persona.serving import Serving
from cdc_flower.strategies.persona.shrinkage import Shrinking
from cdc_flower.strategies.persona.stages import Stages, points, remark_groups
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
        "refinement": "bytes",
        "bytes_rate": 0.5,
        "epochs": 2,
        "rate": 0.01,
        "width": 8,
        "max_lag": 0,
    },
)
@dataclass(eq=False, repr=False)
class Persona(PersonaOptions):
    """Prototype-based parameter editing.

    Up goes a device's recent data (its last items or the frames of a clip, or a feature of them),
    down come its adaptive layers, or only what is added to the prototype that it holds. No gradient
    runs on the device and no label leaves it.

    Raises:
        ValueError: If a value is out of its range.
    """

    reads = frozenset({records.HISTORY, records.FRAMES})
    passing = GenerationStrategy.passing | {"seen"}

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
        if self.mixes:
            labelled(cloud.train)
        if self.refinement == "shrink":
            labelled(cloud.train, "refinement=shrink", "frames have no older and newer half")
        how = self.epochs, self.rate, self.joint
        stages = Stages(cloud, self.editor, *how, self.past(cloud))
        self.serving: Serving | None = None
        if self.mixes:
            self._find_regimes(stages)
        else:
            self.parameters, self.global_editor = stages.global_editor()
        self._static = cloud.model.tabulate(self.parameters)
        self._with_table = with_table(self.global_editor, cloud.model, self.parameters)
        if self.mixes:
            pass
        elif self.num_prototypes == 1:
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

    def _find_regimes(self, stages: Stages) -> None:
        """Finds heads of regimes, and trains one editor on their mixtures."""
        cloud = stages.cloud
        self.parameters = {name: value.detach() for name, value in cloud.parameters.items()}
        base = {name: self.parameters[name] for name in cloud.model.adaptive}
        likelihood = Likelihood.of(cloud.model, self.parameters, cloud.seed)
        mixture = Mixture(likelihood, base, self.likelihood_pairs, self.sharpness, self.hedge)
        regimes = MixtureStages(stages, mixture, self.num_prototypes, self.max_samples)
        heads = regimes.heads()
        self.global_editor = regimes.editor(heads) if self.edits else regimes.no_editor()
        bank = Bank.of(heads, torch.zeros(self.num_prototypes, 1))
        self.trained_bank = replace(bank, editor=np.zeros(self.num_prototypes, np.int64))
        self.editors = [self.global_editor]
        mover, births = None, None
        if self.refinement == "reports":
            how = self.hedge, self.clip, self.reports_steps, self.reports_rate, self.refinement_mean
            mover = Mover(likelihood, base, *how)
            if self.birth_share is not None and self.num_prototypes > 1:
                level = regimes.misfit_level(heads)
                births = Births(level, self.birth_share, self.death_after)
        self.serving = Serving(mixture, self.clip, mover, births, cloud.seed)

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
        if self.serving is not None:
            made, group_of, bank = self._served(self.serving, reports)
        else:
            made, group_of, bank = self._grouped_answers(reports)
        down = Downlink(self.downlink, self.edit_threshold, self._flops()).messages(
            reports, self.bank if self.serving is None else bank, group_of, made
        )
        self.bank = bank
        sizes = np.bincount(group_of, minlength=len(self.bank))
        self.seen = MetricRecord(
            {
                "prototype-sizes": [int(count) for count in sizes],
                "mean-edit-norm": float(made.norms.mean()),
                "saturated": made.saturated,
            }
        )
        return down

    def _grouped_answers(self, reports: MessageBatch) -> tuple[Edited, Ints, Bank]:
        """Gives edits, groups ``[n]``, and the bank from the next segment on."""
        feature = self._feature(reports)
        group_of, where = self._assigned(feature)
        made = self._edited(feature, group_of)
        if self.refinement == "shrink":
            shrink = Shrinking(lambda half: self._edits(half, group_of))
            items = np.asarray(report_of(reports)[records.HISTORY], np.int32)
            self._replace_edits(made, shrink.of(items)(tensors(made.residuals), group_of), group_of)
        bank = self.bank
        if self.rate_of_bytes:
            residuals = tensors(made.residuals)
            how = self.refinement_mean
            bank = bank.refined(group_of, residuals, where, self.rate_of_bytes, how)
        return made, group_of, bank

    def _served(self, serving: Serving, reports: MessageBatch) -> tuple[Edited, Ints, Bank]:
        """Gives layers or edits, groups ``[n]``, and the bank that they belong to."""
        items = np.asarray(report_of(reports)[records.HISTORY], np.int32)
        everyone = np.zeros(len(items), np.int64)
        shrink = None
        if self.refinement == "shrink":
            shrink = Shrinking(lambda half: self._edits(half, everyone)).of(items)
        served = serving.serve(
            items,
            reports.node_ids,
            self._edits(items, everyone),
            self.bank,
            whole=self.downlink == "full",
            shrink=shrink,
        )
        return served.made, served.group_of, served.bank

    def _edits(self, items: NDArray[np.int32], group_of: Ints) -> Parameters:
        """Makes G ``[n, ...]`` of reported items ``[n, R]`` by the editors of groups ``[n]``."""
        if not self.edits:
            shapes = self.cloud.model.adaptive
            return {
                name: torch.zeros(1, *shape).expand(len(items), *shape)
                for name, shape in shapes.items()
            }
        feature = self._feature_of({records.HISTORY: items})
        made: Parameters = {}
        for number in np.unique(group_of):
            index = torch.from_numpy(np.flatnonzero(group_of == number))
            own = self.editors[self.bank.editor[number]]
            edits = self.editor.edits(own, self.editor.embeddings(own, feature[index]))
            for name, value in edits.items():
                made.setdefault(name, value.new_empty(len(items), *value.shape[1:]))[index] = value
        return made

    def _replace_edits(self, made: Edited, edits: Parameters, group_of: Ints) -> None:
        """Puts edits ``[n, ...]`` in the place of those that were made."""
        index, held = torch.from_numpy(group_of), self.bank.layers
        layers = {name: value + held[name][index] for name, value in edits.items()}
        made.norms, made.largest = norms(edits), largest_of(edits)
        made.residuals = as_arrays(edits)
        made.factors = {} if self.downlink == "full" else made.residuals
        made.layers = as_arrays(layers) if self.downlink == "full" else {}

    def _flops(self) -> float:
        """Counts floating-point operations in the cloud for one device."""
        num_compared = self.num_prototypes if self.assignment == "dynamic" else 1
        if self.num_prototypes == 1:
            num_compared = 0
        model = self.cloud.model
        flops = self.editor.flops(self.num_steps(model))
        if self.refinement == "shrink":
            flops += 2 * self.editor.flops((self.num_steps(model) + 1) // 2)
        if self.serving is not None:
            told = max(0, self.num_steps(model) - 1)
            flops = flops if self.edits else 0.0
            return flops + self.serving.flops(self.num_prototypes, told, model.num_adaptive)
        flops += num_compared * self.editor.comparison_flops()
        return flops if self.report == "feature" else flops + model.sequence_flops()

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
        return self._feature_of(report_of(reports))

    def _feature_of(self, report: Report) -> Tensor:
        """Makes z ``[n, w]`` of what devices told."""
        parts = in_parts(report, DEVICES_PER_CHUNK)
        return torch.cat(
            [self.editor.reported_feature(self._with_table, self._static, part) for part in parts]
        )

    def _assigned(self, feature: Tensor) -> tuple[Ints, Tensor]:
        """Finds groups ``[n]`` of features ``[n, w]``, and where they lie ``[n, c]``."""
        if self.num_prototypes == 1:
            return np.zeros(len(feature), np.int64), torch.zeros(len(feature), 1)
        where = torch.zeros(len(feature), 1)
        if self.assignment == "static" or self.rate_of_bytes:
            where = points(self.editor, self.global_editor, feature, self.cluster_on)
        if self.assignment == "static":
            return nearest(where, self.bank.centers), where
        groups = [self._group(number) for number in range(len(self.bank))]
        sizes = torch.stack([group.norms(group.embeddings(feature)) for group in groups])
        return np.asarray(sizes.argmin(0).numpy(), np.int64), where

    def _edited(self, feature: Tensor, group_of: Ints) -> Edited:
        """Makes the edits of devices with these features ``[n, w]`` and groups ``[n]``."""
        is_full = self.downlink == "full"
        needs_residuals = bool(self.rate_of_bytes) or self.refinement == "shrink"
        wanted = Wanted(layers=is_full, residuals=needs_residuals, factors=not is_full)
        return edited(self._group, feature, group_of, wanted)

    def _group(self, number: int) -> Group:
        """Gives one prototype with its editor."""
        return Group(self.editor, self.editors[self.bank.editor[number]], self.bank, number)
