"""Reports of the tiny world's devices to Persona, and the layers that it answers with."""

from typing import Any

import numpy as np
from tiny import stream

from cdc_flower.strategies.persona.decoder import HELD
from cdc_flower.wire import records
from cdc_flower.wire.batch import MessageBatch

EVERYONE = np.arange(4)


def report(persona: Any, histories: np.ndarray, held: Any = None) -> MessageBatch:
    """What devices with these last items tell."""
    devices = np.arange(len(histories))
    arrays = {records.HISTORY: histories}
    if persona.downlink != "full":
        arrays[HELD] = np.asarray(
            held if held is not None else [[-1, 0]] * len(histories), np.int32
        )
    return MessageBatch(
        records.TRAIN_REPORT, devices + 2, arrays={records.REPORT: arrays}, is_reply=True
    )


def sequences(segment: int = 0) -> np.ndarray:
    """The last items of each device before a segment."""
    return stream().recent(EVERYONE, segment)


def full(persona: Any, histories: np.ndarray) -> dict[str, np.ndarray]:
    """The layers that go down whole."""
    (down,) = persona.answer(report(persona, histories))
    return dict(down.arrays[records.PARAMETERS])
