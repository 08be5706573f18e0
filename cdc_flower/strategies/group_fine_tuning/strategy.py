"""Group fine-tuning: the cloud clusters historical samples and trains a model for each group.

A baseline of Persona, which is the same without the edits. The groups are Persona's, so it is the
parameter editor that tells where a device belongs; the editor's output is not used for anything
else.
"""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cdc_flower.core.options import option
from cdc_flower.strategies.base import Cloud
from cdc_flower.strategies.generation import Report, report_of
from cdc_flower.strategies.persona.downlink import as_arrays
from cdc_flower.strategies.persona.editor import ParameterEditor
from cdc_flower.strategies.persona.grouping import GroupingStrategy
from cdc_flower.strategies.persona.prototypes import nearest
from cdc_flower.strategies.persona.stages import Stages, points, remark_groups
from cdc_flower.strategies.registry import strategies
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

log = logging.getLogger("cdc_flower")


@strategies.register(
    "group_fine_tuning",
    up="10 items, or a clip",
    down="adaptive layers",
    tiny={"num_groups": 2, "epochs": 2, "rate": 0.01, "width": 8, "max_lag": 0},
)
@dataclass(eq=False, repr=False)
class GroupFineTuning(GroupingStrategy):
    """One model a group, by the nearest center.

    Raises:
        ValueError: If a value is out of its range.
    """

    reads = frozenset({records.HISTORY, records.FRAMES})

    num_groups: int = option(5, least=1, doc="with 1 the base model is trained a little longer")
    layers: str = option(
        "head",
        choices=("head", "all"),
        doc="head: the adaptive layers are trained and sent; all: the whole model",
    )

    def prepare(self, cloud: Cloud) -> None:
        """Trains the editor that clusters, clusters samples, and trains each group's model."""
        super().prepare(cloud)
        self.editor = ParameterEditor(cloud.model, self.width, reads=self.report_reads)
        how = self.epochs, self.rate
        stages = Stages(cloud, self.editor, *how, joint=False, past=self.past(cloud))
        self.parameters, self.own = stages.global_editor()
        groups = stages.group(
            self.parameters,
            self.own,
            self.num_groups,
            cluster_on=self.cluster_on,
            max_samples=self.max_samples,
        )
        log.info("group_fine_tuning: training examples of each group: %s", groups.sizes)
        remark_groups(cloud, groups)
        names = cloud.model.adaptive if self.layers == "head" else list(self.parameters)
        trained = stages.prototypes(self.parameters, groups, names)
        self.models = {name: torch.stack([layers[name] for layers in trained]) for name in names}
        self.centers = groups.centers

    @torch.no_grad()
    def group(self, report: Report) -> NDArray[np.int64]:
        """Finds the group ``[n]`` of what devices report, ``[n, ...]`` each."""
        feature = self.editor.reported_feature(self.own, self.parameters, report)
        return nearest(points(self.editor, self.own, feature, self.cluster_on), self.centers)

    def answer(self, reports: MessageBatch) -> list[MessageBatch]:
        """Answers each device with the model of its group, which a group shares."""
        torch.set_num_threads(1)
        model, group_of = self.cloud.model, self.group(report_of(reports))
        flops = model.sequence_flops() + self.editor.feature_flops(self.num_steps(model))
        node_ids, down = np.asarray(reports.node_ids, np.uint64), []
        for group in np.unique(group_of):
            own: Arrays = as_arrays(
                {name: value[int(group)] for name, value in self.models.items()}
            )
            down.append(
                MessageBatch(
                    records.EVALUATE,
                    node_ids[group_of == group],
                    shared={records.PARAMETERS: own},
                    configs={records.WORK: {records.FLOPS: flops}},
                )
            )
        return down
