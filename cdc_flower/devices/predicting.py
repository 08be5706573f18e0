"""Scores the events of a segment on many devices, in chunks that bound the memory."""

import numpy as np
from numpy.typing import NDArray

from cdc_flower.core.stream import Stream
from cdc_flower.devices.state import DeviceStates
from cdc_flower.devices.task import Columns, DeviceTask
from cdc_flower.training.scoring import Scorer

#: Devices whose events are held in memory at a time; events take far more of it than states.
DEVICES_PER_CHUNK = 512

#: Before the keys of points, where they stand beside scores.
POINT = "points/"


def predicted(
    scorer: Scorer,
    task: DeviceTask,
    stream: Stream,
    states: DeviceStates,
    newest: NDArray[np.int64],
    arrival_s: NDArray[np.float64],
    segment: int,
) -> tuple[Columns, Columns]:
    """Scores what devices add to the metrics in a segment: sums and points ``[n, ...]``.

    Args:
        scorer: Of the sets that devices have.
        task: Says what is scored.
        stream: Of the devices.
        states: Of the ``n`` devices.
        newest: ``[n]``, the set that each uses from its arrival on, in place of the one in use.
        arrival_s: ``[n]``.
        segment: Its number.
    """
    parts = []
    for first in range(0, max(1, len(states)), DEVICES_PER_CHUNK):
        rows = np.arange(len(states))[first : first + DEVICES_PER_CHUNK]
        data = stream.segment(states.device_ids[rows], segment)
        device = rows[data.row]
        early = data.times_s < arrival_s[device]
        set_of_event = np.where(early, states.in_use[device], newest[device])
        scores, points = task.score(scorer.score(set_of_event, data.history, data.candidates), data)
        parts.append({**scores, **{POINT + key: value for key, value in points.items()}})
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return (
        {key: value for key, value in whole.items() if not key.startswith(POINT)},
        {key.removeprefix(POINT): whole[key] for key in whole if key.startswith(POINT)},
    )
