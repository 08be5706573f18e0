"""The edits of many devices, made in chunks that stay in the cache.

The edits of 1,000 devices of DIN are 67 MB, and one pass over them costs as much as a third of
their making. So all that looks at an edit looks at it while its chunk is there, only what is asked
for is written out, and where nobody asks for edits and clipping reaches none of them, the layers
are made at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.persona.group import Group, rows_per_chunk
from cdc_flower.strategies.persona.prototypes import Ints, norms
from cdc_flower.training.scoring import Arrays


@dataclass(frozen=True)
class Wanted:
    """Names the results of editing that are written out."""

    layers: bool
    residuals: bool
    factors: bool


@dataclass
class Edited:
    """The edits of ``n`` devices, ``[n, ...]`` by name; what nobody asked for is empty.

    Attributes:
        norms: ``[n]``, of the residuals; see
            :func:`~cdc_flower.strategies.persona.prototypes.norms`.
        largest: ``[n]``, with factors: the largest entry of each device's residuals, without its
            sign.
        layers: K, what a device predicts with.
        residuals: K - P, of its prototype.
        factors: What travels of the residuals: the same, or with low rank their factors.
        num_saturated: Entries that clipping holds at ±γ.
        num_entries: Entries of all devices.
    """

    norms: Tensor
    largest: Tensor
    layers: Arrays = field(default_factory=dict)
    residuals: Arrays = field(default_factory=dict)
    factors: Arrays = field(default_factory=dict)
    num_saturated: int = 0
    num_entries: int = 0

    @property
    def saturated(self) -> float:
        """Gives the share of entries that clipping holds."""
        return self.num_saturated / max(1, self.num_entries)


def edited(
    group: Callable[[int], Group], feature: Tensor, group_of: Ints, wanted: Wanted
) -> Edited:
    """Makes the edits of ``n`` devices, group by group.

    Args:
        group: By its number.
        feature: ``[n, w]``.
        group_of: ``[n]``.
        wanted: Results to write out.
    """
    made = Edited(torch.zeros(len(feature)), torch.zeros(len(feature)))
    for number in np.unique(group_of):
        members = np.flatnonzero(group_of == number)
        edits = group(int(number))
        made.num_entries = len(feature) * edits.editor.model.num_adaptive
        embeddings = edits.embeddings(feature[torch.from_numpy(members)])
        if not (wanted.residuals or wanted.factors) and edits.is_free(embeddings):
            made.norms[torch.from_numpy(members)] = edits.norms(embeddings).float()
            for rows, part in _chunks(edits, members, embeddings):
                _write(made.layers, edits.layers(part), rows, len(feature))
            continue
        for rows, part in _chunks(edits, members, embeddings):
            _edit(made, edits, rows, part, wanted)
    return made


def _chunks(
    edits: Group, members: Ints, embeddings: list[Tensor]
) -> Iterator[tuple[Ints, list[Tensor]]]:
    """Cuts the members of a group and their embeddings into parts that stay in the cache."""
    size = rows_per_chunk(edits.editor.model.num_adaptive)
    for start in range(0, len(members), size):
        chunk = slice(start, start + size)
        yield members[chunk], [each[chunk] for each in embeddings]


def _edit(made: Edited, edits: Group, rows: Ints, part: list[Tensor], wanted: Wanted) -> None:
    """Makes the edits of some devices, and looks at each while its chunk is in the cache.

    Args:
        made: What is filled in.
        edits: Of the group.
        rows: ``[k]``, which devices.
        part: Their embeddings.
        wanted: Results to write out.
    """
    num_devices = len(made.norms)
    sent, residuals = edits.edits(part)
    if wanted.factors:
        _write(made.factors, sent, rows, num_devices)
    if wanted.residuals:
        _write(made.residuals, residuals, rows, num_devices)
    place, clip = torch.from_numpy(rows), edits.editor.clip
    made.norms[place] = norms(residuals)
    made.largest[place] = largest_of(residuals)
    if float(made.largest[place].max()) >= clip:
        made.num_saturated += sum(int((each.abs() >= clip).sum()) for each in residuals.values())
    if wanted.layers:
        prototype = edits.prototype()
        layers = {name: value.add_(prototype[name]) for name, value in residuals.items()}
        _write(made.layers, layers, rows, num_devices)


def _write(whole: Arrays, part: Parameters, rows: Ints, num_devices: int) -> None:
    """Writes rows of arrays ``[num_devices, ...]``, which are made with the first ones."""
    for name, value in part.items():
        if name not in whole:
            whole[name] = np.empty((num_devices, *value.shape[1:]), np.float32)
        whole[name][rows] = value.numpy()


def largest_of(edits: Parameters) -> Tensor:
    """Finds the largest entry ``[n]`` of each device's edits, without its sign."""
    flat = [value.flatten(1) for value in edits.values()]
    return torch.stack([torch.maximum(value.amax(1), -value.amin(1)) for value in flat]).amax(0)
