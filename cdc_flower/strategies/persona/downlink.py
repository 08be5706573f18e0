"""What goes down: whole layers, an edit of the prototype that the device holds, or that prototype's number alone.

A device says in its report which prototype it holds, and in which version. It gets

    full   K                          always
    edit   j, v and K - P_j           where it holds prototype j in version v
           j, v, P_j and K - P_j      where it does not; from then on it holds it
    index  j, v                       in place of an edit of which no entry is beyond the threshold

so a message that was lost costs bytes, never agreement.
"""

from typing import Any

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


def messages(
    downlink: str,
    edit_threshold: float,
    reports: MessageBatch,
    bank: Bank,
    group_of: NDArray[np.int64],
    made: Edited,
    flops: float,
) -> list[MessageBatch]:
    """Answers to ``n`` reports, in one batch for each form.

    Args:
        downlink: One of ``DOWNLINKS``.
        edit_threshold: With ``index``: the largest entry of an edit that is left out.
        reports: The reports, with what each device holds unless ``downlink`` is ``full``.
        bank: The prototypes that the edits belong to.
        group_of: ``[n]``, the prototype of each device.
        made: The edits.
        flops: Work in the cloud for each device.
    """
    node_ids, index = np.asarray(reports.node_ids, np.uint64), torch.from_numpy(group_of)
    if downlink == "full":
        return [parameters_message(node_ids, made.layers, flops)]
    version = bank.version[group_of]
    held = np.asarray(reports.array(records.REPORT, HELD), np.int64)
    holds = (held[:, 0] == group_of) & (held[:, 1] == version)
    needs_edit = (
        (made.largest.numpy() > edit_threshold)
        if downlink == "index"
        else np.ones(len(node_ids), bool)
    )
    down = []
    for gets_prototype, gets_edit in ((True, True), (True, False), (False, True), (False, False)):
        rows = np.flatnonzero((holds != gets_prototype) & (needs_edit == gets_edit))
        if not len(rows):
            continue
        arrays: dict[str, Arrays] = {}
        if gets_prototype:
            arrays[PROTOTYPE] = as_arrays(
                {n: value[index[rows]] for n, value in bank.layers.items()}
            )
        if gets_edit:
            arrays[EDIT] = {name: value[rows] for name, value in made.factors.items()}
        configs: dict[str, Any] = {
            VERSION: {INDEX: group_of[rows], VERSION: version[rows]},
            records.WORK: {records.FLOPS: flops},
        }
        down.append(MessageBatch(records.EVALUATE, node_ids[rows], arrays=arrays, configs=configs))
    return down


def as_arrays(parameters: Parameters) -> Arrays:
    """Tensors as arrays."""
    return {name: value.detach().contiguous().numpy() for name, value in parameters.items()}
