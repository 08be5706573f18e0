"""The edits of many devices, made in chunks that stay in the cache.

The edits of 1,000 devices of DIN are 67 MB, and one pass over them costs as much as a third of their making. So all
that looks at an edit looks at it while its chunk is there, and only what is asked for is written out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cdc_flower.layers import Parameters
from cdc_flower.scoring import Arrays
from cdc_flower.strategies.persona.prototypes import Ints, norms

#: Numbers of adaptive layers that are made at a time.
NUMBERS_PER_CHUNK = 1_000_000
#: One group's number and features ``[c, w]`` -> what travels of the edits of ``c`` devices, and the edits ``K - P``.
Edit = Callable[[int, Tensor], tuple[Parameters, Parameters]]


@dataclass(frozen=True)
class Edited:
    """What was made for ``n`` devices, ``[n, ...]`` by name; what nobody asked for is empty.

    Attributes:
        layers: K, what a device predicts with.
        residuals: K - P, of its prototype.
        factors: What travels of the residuals: the same, or with low rank their factors.
        norms: ``[n]``, of the residuals; see :func:`~cdc_flower.strategies.persona.prototypes.norms`.
        largest: ``[n]``, the largest entry of each device's residuals, without its sign.
        saturated: The share of entries that clipping holds at ±γ.
    """

    layers: Arrays
    residuals: Arrays
    factors: Arrays
    norms: Tensor
    largest: Tensor
    saturated: float


def edited(
    edit: Edit,
    feature: Tensor,
    group_of: Ints,
    prototypes: Parameters,
    clip: float,
    *,
    with_layers: bool,
    with_residuals: bool,
    with_factors: bool,
) -> Edited:
    """Make the edits of ``n`` devices, group by group.

    Args:
        edit: Makes those of one group.
        feature: ``[n, w]``.
        group_of: ``[n]``.
        prototypes: P, ``[N, ...]`` by name.
        clip: γ.
        with_layers, with_residuals, with_factors: What is written out.
    """
    num_devices, num_numbers = len(feature), sum(value[0].numel() for value in prototypes.values())
    size = rows_per_chunk(num_numbers)
    layers: Arrays = {}
    residuals: Arrays = {}
    factors: Arrays = {}
    sizes, largest, num_saturated = torch.zeros(num_devices), torch.zeros(num_devices), 0
    for group in np.unique(group_of):
        members = np.flatnonzero(group_of == group)
        prototype = {name: value[int(group)] for name, value in prototypes.items()}
        for start in range(0, len(members), size):
            rows = members[start : start + size]
            sent, made = edit(int(group), feature[torch.from_numpy(rows)])
            if with_factors:
                _write(factors, sent, rows, num_devices)
            if with_residuals:
                _write(residuals, made, rows, num_devices)
            place = torch.from_numpy(rows)
            sizes[place], largest[place] = norms(made), _largest(made)
            if float(largest[place].max()) >= clip:
                num_saturated += sum(int((value.abs() >= clip).sum()) for value in made.values())
            if with_layers:
                _write(layers, {name: value.add_(prototype[name]) for name, value in made.items()}, rows, num_devices)
    saturated = num_saturated / max(1, num_devices * num_numbers)
    return Edited(layers, residuals, factors, sizes, largest, saturated)


def rows_per_chunk(num_numbers: int) -> int:
    """Devices whose adaptive layers, of so many numbers each, are made at a time."""
    return max(1, NUMBERS_PER_CHUNK // num_numbers)


def _write(whole: Arrays, part: Parameters, rows: Ints, num_devices: int) -> None:
    for name, value in part.items():
        if name not in whole:
            whole[name] = np.empty((num_devices, *value.shape[1:]), np.float32)
        whole[name][rows] = value.numpy()


def _largest(edits: Parameters) -> Tensor:
    """``[n]``: the largest entry of each device's edits, without its sign."""
    flat = [value.flatten(1) for value in edits.values()]
    return torch.stack([torch.maximum(value.amax(1), -value.amin(1)) for value in flat]).amax(0)
