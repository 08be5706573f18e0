"""The downlink: whole layers, an edit of the prototype that a device holds, or its number alone.

A device says in its report which prototype it holds, and in which version. It gets

    full   K                          always
    edit   j, v and K - P_j           where it holds prototype j in version v
           j, v, P_j and K - P_j      where it does not; from then on it holds it
    index  j, v                       in place of an edit of which no entry is beyond the threshold

so a message that was lost costs bytes, never agreement.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.generation import parameters_message
from cdc_flower.strategies.persona.decoder import EDIT, HELD, INDEX, PROTOTYPE, VERSION
from cdc_flower.strategies.persona.editing import Edited
from cdc_flower.strategies.persona.prototypes import Bank
from cdc_flower.training.scoring import Arrays
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

DOWNLINKS = ("full", "edit", "index")


@dataclass(frozen=True)
class Downlink:
    """Makes answers to reports.

    Attributes:
        form: One of ``DOWNLINKS``.
        edit_threshold: With ``index``: the largest entry of an edit that is left out.
        flops: Work in the cloud for each device.
    """

    form: str
    edit_threshold: float
    flops: float

    def messages(
        self, reports: MessageBatch, bank: Bank, group_of: NDArray[np.int64], made: Edited
    ) -> list[MessageBatch]:
        """Makes answers to ``n`` reports, in one batch for each kind of content.

        Args:
            reports: With what each device holds, unless whole layers travel.
            bank: The prototypes that the edits belong to.
            group_of: ``[n]``, the prototype of each device.
            made: The edits.
        """
        node_ids = np.asarray(reports.node_ids, np.uint64)
        if self.form == "full":
            return [parameters_message(node_ids, made.layers, self.flops)]
        version = bank.version[group_of]
        held = np.asarray(reports.array(records.REPORT, HELD), np.int64)
        holds = (held[:, 0] == group_of) & (held[:, 1] == version)
        needs_edit = self._needs_edit(made)
        down = []
        for gets_prototype, gets_edit in product((True, False), repeat=2):
            rows = np.flatnonzero((holds != gets_prototype) & (needs_edit == gets_edit))
            if not len(rows):
                continue
            arrays: dict[str, Arrays] = {}
            if gets_prototype:
                index = torch.from_numpy(group_of[rows])
                arrays[PROTOTYPE] = as_arrays({n: value[index] for n, value in bank.layers.items()})
            if gets_edit:
                arrays[EDIT] = {name: value[rows] for name, value in made.factors.items()}
            configs: dict[str, dict[str, object]] = {
                VERSION: {INDEX: group_of[rows], VERSION: version[rows]},
                records.WORK: {records.FLOPS: self.flops},
            }
            down.append(
                MessageBatch(records.EVALUATE, node_ids[rows], arrays=arrays, configs=configs)
            )
        return down

    def _needs_edit(self, made: Edited) -> NDArray[np.bool_]:
        """Tells which devices ``[n]`` get their edit."""
        largest = made.largest.numpy()
        return (
            largest > self.edit_threshold if self.form == "index" else np.full(len(largest), True)
        )


def as_arrays(parameters: Parameters) -> Arrays:
    """Takes tensors as arrays."""
    return {name: value.detach().contiguous().numpy() for name, value in parameters.items()}
