"""Shrinks each device's edit toward the mean of its prototype's members (James and Stein, 1961).

Edits of m members of a prototype are means plus noise. With p entries each, noise of variance σ² an
entry, and ``S = Σ_i ‖G_i - Ḡ‖²`` over the members,

    G_i ← Ḡ + (1 - B) (G_i - Ḡ)       B = min(1, ((m - 1) p - 2) σ² / S)

(Efron and Morris, Stein's estimation rule and its competitors, JASA 68, 1973, positive part). The
noise is measured: the older and the newer half of a report give two edits whose difference has four
times the noise of an edit of the whole, ``σ² = mean_i ‖G(older_i) - G(newer_i)‖² / (4 p)``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.persona.prototypes import Ints


def halves(reported: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Cuts reports ``[n, R]``, padded on the right with 0, into older and newer halves ``[n, H]``.

    Of an odd number the middle item is in both, so a single item is its own two halves.
    """
    items = np.asarray(reported)
    count = (items != 0).sum(1)
    half = (count + 1) // 2
    columns = np.arange((items.shape[1] + 1) // 2)
    is_there = columns < half[:, None]

    def taken(start: NDArray[np.int64]) -> NDArray[np.int32]:
        place = np.minimum(start[:, None] + columns, items.shape[1] - 1)
        return np.where(is_there, np.take_along_axis(items, place, 1), 0).astype(items.dtype)

    return taken(np.zeros_like(count)), taken(count - half)


def noise(apart: Tensor) -> Tensor:
    """Measures ``p σ²`` ``[n]`` from differences ``[n, ...]`` of edits of reports' halves."""
    return apart.flatten(1).square().sum(1) / 4


def shrunk(edits: Parameters, noises: Tensor, group_of: Ints) -> tuple[Parameters, Tensor]:
    """Shrinks edits toward the mean of their group.

    Args:
        edits: G, ``[n, ...]`` by name.
        noises: ``[n]``, from :func:`noise`.
        group_of: ``[n]``.

    Returns:
        The shrunk edits, and B ``[n]`` of each device's group; 0 leaves an edit as it is, which is
        so for a single member.
    """
    made = {name: value.clone() for name, value in edits.items()}
    shares = torch.zeros(len(noises))
    num_entries = sum(value[0].numel() for value in edits.values())
    for group in np.unique(group_of):
        rows = torch.from_numpy(np.flatnonzero(group_of == group))
        mean = {name: value[rows].mean(0) for name, value in edits.items()}
        apart = {name: value[rows] - mean[name] for name, value in edits.items()}
        spread = sum(float(value.double().square().sum()) for value in apart.values())
        share = weight(spread, float(noises[rows].double().mean()), len(rows), num_entries)
        shares[rows] = share
        for name, value in apart.items():
            made[name][rows] = mean[name] + (1 - share) * value
    return made, shares


def weight(spread: float, noise_of_edit: float, num_members: int, num_entries: int) -> float:
    """Computes B in [0, 1].

    Args:
        spread: S.
        noise_of_edit: ``p σ²``.
        num_members: m.
        num_entries: p.
    """
    if num_members < 2 or spread <= 0:
        return 0.0
    freedom = max(0.0, (num_members - 1) * num_entries - 2)
    return min(1.0, freedom * noise_of_edit / num_entries / spread)


@dataclass(frozen=True)
class Shrinking:
    """Shrinks edits by the noise that the halves of reports show.

    Attributes:
        edits_of: Reports ``[n, H]`` -> edits ``[n, ...]`` by name.
    """

    edits_of: Callable[[NDArray[np.int32]], Parameters]

    def of(self, reported: NDArray[np.int32]) -> Callable[[Parameters, Ints], Parameters]:
        """Gives a function: edits ``[n, ...]``, groups ``[n]`` -> the shrunk edits.

        Args:
            reported: ``[n, R]``.
        """
        older, newer = (self.edits_of(half) for half in halves(reported))
        apart = {name: value - newer[name] for name, value in older.items()}
        noises = sum((noise(value) for value in apart.values()), torch.zeros(len(reported)))
        return lambda edits, group_of: shrunk(edits, noises, group_of)[0]
