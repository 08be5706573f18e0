"""The edits of many devices, made in chunks that stay in the cache.

The edits of 1,000 devices of DIN are 67 MB, and one pass over them costs as much as a third of
their making. So all that looks at an edit looks at it while its chunk is there, only what is asked
for is written out, and where nobody asks for edits and clipping reaches none of them, the layers
are made at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.persona.group import Group, rows_per_chunk
from cdc_flower.strategies.persona.prototypes import Ints, norms
from cdc_flower.training.scoring import Arrays


@dataclass(frozen=True)
class Edited:
    """What was made for ``n`` devices, ``[n, ...]`` by name; what nobody asked for is empty.

    Attributes:
        layers: K, what a device predicts with.
        residuals: K - P, of its prototype.
        factors: What travels of the residuals: the same, or with low rank their factors.
        norms: ``[n]``, of the residuals; see
            :func:`~cdc_flower.strategies.persona.prototypes.norms`.
        largest: ``[n]``, with factors: the largest entry of each device's residuals, without its
            sign.
        saturated: The share of entries that clipping holds at ±γ.
    """

    layers: Arrays
    residuals: Arrays
    factors: Arrays
    norms: Tensor
    largest: Tensor
    saturated: float


def edited(
    group: Callable[[int], Group],
    feature: Tensor,
    group_of: Ints,
    *,
    with_layers: bool,
    with_residuals: bool,
    with_factors: bool,
) -> Edited:
    """Make the edits of ``n`` devices, group by group.

    Args:
        group: By its number.
        feature: ``[n, w]``.
        group_of: ``[n]``.
        with_layers, with_residuals, with_factors: What is written out.
    """
    num_devices = len(feature)
    layers: Arrays = {}
    residuals: Arrays = {}
    factors: Arrays = {}
    sizes, largest, num_saturated, num_numbers = (
        torch.zeros(num_devices),
        torch.zeros(num_devices),
        0,
        0,
    )
    for number in np.unique(group_of):
        edits, members = group(int(number)), np.flatnonzero(group_of == number)
        clip, prototype = (
            edits.editor.clip,
            {name: value[number] for name, value in edits.bank.layers.items()},
        )
        num_numbers = edits.editor.model.num_adaptive
        embeddings = edits.embeddings(feature[torch.from_numpy(members)])
        only_layers = not (with_residuals or with_factors) and edits.is_free(embeddings)
        if only_layers:
            sizes[torch.from_numpy(members)] = edits.norms(embeddings).float()
        size = rows_per_chunk(num_numbers)
        for start in range(0, len(members), size):
            rows, part = (
                members[start : start + size],
                [e[start : start + size] for e in embeddings],
            )
            if only_layers:
                _write(layers, edits.layers(part), rows, num_devices)
                continue
            sent, made = edits.edits(part)
            if with_factors:
                _write(factors, sent, rows, num_devices)
            if with_residuals:
                _write(residuals, made, rows, num_devices)
            place = torch.from_numpy(rows)
            sizes[place], largest[place] = norms(made), _largest(made)
            if float(largest[place].max()) >= clip:
                num_saturated += sum(int((value.abs() >= clip).sum()) for value in made.values())
            if with_layers:
                _write(
                    layers,
                    {name: value.add_(prototype[name]) for name, value in made.items()},
                    rows,
                    num_devices,
                )
    return Edited(
        layers,
        residuals,
        factors,
        sizes,
        largest,
        num_saturated / max(1, num_devices * num_numbers),
    )


def _write(whole: Arrays, part: Parameters, rows: Ints, num_devices: int) -> None:
    for name, value in part.items():
        if name not in whole:
            whole[name] = np.empty((num_devices, *value.shape[1:]), np.float32)
        whole[name][rows] = value.numpy()


def _largest(edits: Parameters) -> Tensor:
    """``[n]``: the largest entry of each device's edits, without its sign."""
    flat = [value.flatten(1) for value in edits.values()]
    return torch.stack([torch.maximum(value.amax(1), -value.amin(1)) for value in flat]).amax(0)
