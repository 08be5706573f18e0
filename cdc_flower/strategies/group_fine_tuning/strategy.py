"""Group fine-tuning: the cloud clusters historical samples and trains a model for each group of them.

A baseline of Persona, which is the same without the edits. The groups are Persona's, so it is the
parameter editor that tells where a device belongs; the editor's output is not used for anything
else.
"""

import logging

import numpy as np
import torch
from numpy.typing import NDArray

from cdc_flower.strategies.base import Cloud
from cdc_flower.strategies.checks import check_choices, check_range
from cdc_flower.strategies.generation import GenerationStrategy, Report, report_of
from cdc_flower.strategies.persona.downlink import as_arrays
from cdc_flower.strategies.persona.editor import ParameterEditor
from cdc_flower.strategies.persona.prototypes import nearest
from cdc_flower.strategies.persona.stages import Stages, points
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

log = logging.getLogger("cdc_flower")


class GroupFineTuning(GenerationStrategy):
    """One model a group, by the nearest center.

    Args:
        num_groups: N; with 1 the base model is trained a little longer.
        layers: ``head`` trains and sends the adaptive layers, ``all`` the whole model.
        cluster_on: ``edits`` or ``embeddings``, as Persona does.
        epochs: Of each stage at most; 0 is ``static``.
        rate: Learning rate of Adam.
        width: Of the editor that clusters.
        max_samples: Samples that k-means is fitted on.
        report_lag: How many events before the segment the report ends.

    Raises:
        ValueError: If a value is out of its range.
    """

    reads = frozenset({records.HISTORY, records.FRAMES})

    def __init__(
        self,
        num_groups: int = 5,
        layers: str = "head",
        cluster_on: str = "edits",
        epochs: int = 20,
        rate: float = 1e-3,
        width: int = 32,
        max_samples: int = 100_000,
        report_lag: int = 0,
    ) -> None:
        knobs = {
            name: value for name, value in locals().items() if name not in ("self", "__class__")
        }
        check_range(knobs, num_groups=1, epochs=0, rate=0, width=1, max_samples=1, report_lag=0)
        check_choices(knobs, layers=("head", "all"), cluster_on=("edits", "embeddings"))
        self.num_groups, self.layers, self.cluster_on, self.epochs = (
            num_groups,
            layers,
            cluster_on,
            epochs,
        )
        self.rate, self.width, self.max_samples, self.report_lag = (
            rate,
            width,
            max_samples,
            report_lag,
        )

    def prepare(self, cloud: Cloud) -> None:
        """Train the editor that clusters, cluster samples, train each group's model."""
        super().prepare(cloud)
        self.editor = ParameterEditor(cloud.model, self.width)
        stages = Stages(cloud, self.editor, self.epochs, self.rate, joint=False)
        self.parameters, self.own = stages.global_editor()
        groups = stages.group(
            self.parameters, self.own, self.num_groups, self.cluster_on, self.max_samples
        )
        log.info("group_fine_tuning: training examples of each group: %s", groups.sizes)
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
        """The model of each device's group; those of one group share it."""
        torch.set_num_threads(1)
        model, group_of = self.cloud.model, self.group(report_of(reports))
        flops = model.sequence_flops() + self.editor.feature_flops(model.history_length)
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
