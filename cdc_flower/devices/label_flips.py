"""Flips labels on hostile devices, which an attack behind the links tells to do so."""

from dataclasses import replace

import numpy as np

from cdc_flower.core.stream import LabelledBatch
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch


def as_told(examples: LabelledBatch, batch: MessageBatch, rows: np.ndarray) -> LabelledBatch:
    """Puts the last of the other candidates first where devices are told to flip labels.

    Args:
        examples: Of some devices.
        batch: Messages to all of them.
        rows: ``[k]``, the places of these devices among the messages.
    """
    told = batch.configs.get(records.ATTACK, {}).get(records.FLIPS_LABELS)
    if told is None:
        return examples
    flips = np.broadcast_to(np.asarray(told), len(batch))[rows] != 0
    mine = flips[examples.row]
    candidates = examples.candidates.copy()
    candidates[mine, 0] = examples.candidates[mine, -1]
    candidates[mine, -1] = examples.candidates[mine, 0]
    return replace(examples, candidates=candidates)
