"""Small models with random parameters and ragged histories, for the tests of models, scoring and
training.
"""

from typing import Any

import numpy as np
import torch

from cdc_flower.models import device_model
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.layers import Parameters

NAMES = ("gru4rec", "sasrec", "din")
NUM_ITEMS, LENGTH = 20, 6


def small_model(name: str, history_length: int = LENGTH) -> DeviceModel:
    """A model of width 8 over 20 items."""
    return device_model(name, NUM_ITEMS, 8, history_length)


def parameters_of(model: DeviceModel, seed: int = 0) -> Parameters:
    """Fresh parameters."""
    return model.init(torch.Generator().manual_seed(seed))


def arrays_of(parameters: Parameters) -> dict[str, Any]:
    """As arrays."""
    return {name: value.numpy().copy() for name, value in parameters.items()}


def random_ids(
    num_events: int,
    seed: int = 0,
    num_candidates: int = 5,
    history_length: int = LENGTH,
    least: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Histories ``[T, L]`` of any length from ``least`` on, padded on the right, and candidates
    ``[T, C]``.
    """
    rng = np.random.default_rng(seed)
    history = rng.integers(1, NUM_ITEMS + 1, (num_events, history_length)).astype(np.int32)
    lengths = rng.integers(least, history_length + 1, num_events)
    history[np.arange(history_length) >= lengths[:, None]] = 0
    return history, rng.integers(1, NUM_ITEMS + 1, (num_events, num_candidates)).astype(np.int32)
