"""Reports a feature of recent data in place of the data."""

import numpy as np
import torch
from numpy.typing import NDArray

from cdc_flower.core.stream import Stream
from cdc_flower.devices.state import DeviceStates
from cdc_flower.devices.task import Columns
from cdc_flower.devices.told import Told
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.sequence_feature import feature_flops, sequence_feature
from cdc_flower.training.scoring import Arrays, tensors
from cdc_flower.wire import records


def recent_items(
    stream: Stream, states: DeviceStates, segment: int, lag: int = 0
) -> NDArray[np.int32]:
    """Takes ``[n, R]``, what devices would tell as recent when a segment starts.

    Args:
        stream: Of the devices.
        states: Of the ``n`` devices, with what was deployed beside the model.
        segment: Which one starts.
        lag: Events by which it is earlier; 0 is the present.
    """
    return Told.from_settings(states.settings).recent(stream, states.device_ids, segment, lag)


@torch.inference_mode()
def feature_report(
    model: DeviceModel, recent: NDArray[np.int32], static: Arrays
) -> tuple[Columns, Columns]:
    """Makes a report that holds a feature ``[n, w]`` in place of recent data, and tells its work.

    States of items are those that the device makes to predict, so they are not counted again; those
    of frames are.

    Args:
        model: The device model.
        recent: ``[n, R]``, from :func:`recent_items`.
        static: The deployed layers, those of the feature among them.
    """
    parameters = tensors(static)
    states, num_steps = model.sequence(parameters, torch.from_numpy(recent).long())
    feature = sequence_feature(parameters, states, num_steps).numpy()
    flops = model.sequence_flops() + feature_flops(
        states.shape[-1], feature.shape[-1], states.shape[-2]
    )
    work = {
        records.NUM_LABELS: np.zeros(len(recent), np.int64),
        records.FLOPS: np.full(len(recent), flops),
    }
    return {records.FEATURE: feature}, work
