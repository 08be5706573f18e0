"""Serves devices by the likelihood of what they told: prototypes mixed, moved, and edited.

In each segment, from the reports alone:

    w      weights of the prototypes for each device           mixing.py
    E      with refinement=reports, how prototypes move        refinement.py, births.py
    K_i  = (1 - h) Σ_j w_ij P_j + h W_0 + G(z_i)
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cdc_flower.core.seeds import hashed_uniform
from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.persona.births import Births, idle_after
from cdc_flower.strategies.persona.downlink import as_arrays
from cdc_flower.strategies.persona.editing import Edited, largest_of
from cdc_flower.strategies.persona.likelihood import Pairs
from cdc_flower.strategies.persona.mixing import Mixture, evidence, weights
from cdc_flower.strategies.persona.prototypes import Bank, Ints, norms
from cdc_flower.strategies.persona.refinement import Members, Mover

#: Share of the devices on whose reports steps are chosen.
HELD_OUT_SHARE = 0.25

#: Shrinks edits ``[n, ...]`` of devices with these groups ``[n]``.
Shrink = Callable[[Parameters, Ints], Parameters]


@dataclass(frozen=True)
class Served:
    """Holds the layers that a segment's reports made.

    Attributes:
        made: Layers of the devices, or what leads to them from their prototypes.
        group_of: ``[n]``, the prototype of each device: that with the largest weight.
        bank: Of prototypes, from now on.
    """

    made: Edited
    group_of: Ints
    bank: Bank


@dataclass(frozen=True)
class Serving:
    """Answers reports.

    Attributes:
        mixture: Of prototypes.
        clip: γ, for the count of entries that it holds.
        mover: Moves prototypes; None: they stay.
        births: Decides on births; None: there are none.
        seed: Of the run.
    """

    mixture: Mixture
    clip: float
    mover: Mover | None
    births: Births | None
    seed: int

    def serve(
        self,
        reported: NDArray[np.int32],
        node_ids: ArrayLike,
        edits: Parameters,
        bank: Bank,
        *,
        whole: bool,
        shrink: Shrink | None = None,
    ) -> Served:
        """Makes what goes down to ``n`` devices.

        Args:
            reported: ``[n, R]`` items.
            node_ids: ``[n]``, by which devices are held out.
            edits: G, ``[n, ...]`` by name.
            bank: Of prototypes.
            whole: Whether layers travel whole, and not as edits of a prototype.
            shrink: Shrinks edits; None: they stay.
        """
        pairs = self.mixture.pairs(reported)
        if self.mover is not None:
            bank = self._refined(self.mover, pairs, node_ids, edits, bank)
        weight = self.mixture.weights(bank.layers, pairs)
        group_of = np.asarray(weight.argmax(1).numpy(), np.int64)
        edits = edits if shrink is None else shrink(edits, group_of)
        layers = self.mixture.heads(bank.layers, weight)
        layers = {name: value + edits[name] for name, value in layers.items()}
        return Served(self._made(layers, edits, bank, group_of, whole), group_of, bank)

    def _refined(
        self,
        mover: Mover,
        pairs: Pairs,
        node_ids: ArrayLike,
        edits: Parameters,
        bank: Bank,
    ) -> Bank:
        """Moves prototypes toward what their members reported, and lets at most one be born.

        Args:
            mover: Of prototypes.
            pairs: Of the reports.
            node_ids: ``[n]``.
            edits: G, ``[n, ...]`` by name.
            bank: Of prototypes.
        """
        ids = np.asarray(node_ids, np.uint64).astype(np.int64)
        held_out = hashed_uniform(self.seed, "persona-held-out", ids) < HELD_OUT_SHARE
        is_held_out = torch.from_numpy(held_out)
        losses = self.mixture.likelihood.of_reports(bank.layers, pairs)
        members = self.members(pairs, losses, edits, is_held_out)
        step = mover.edits(bank.layers, bank.trained, members)
        weight = weights(evidence(losses, pairs, self.mixture.num_pairs), self.mixture.sharpness)
        best = np.asarray(weight.argmax(1).numpy(), np.int64)
        bank = replace(bank.moved(step), idle=idle_after(bank.idle, best))
        if self.births is None:
            return bank
        count = pairs.last(self.mixture.num_pairs).sum(1)
        misfits = self.births.misfits(self.mixture.evidence(bank.layers, pairs), count)
        return self.births.born(bank, misfits, mover, members)

    def members(
        self, pairs: Pairs, losses: Tensor, edits: Parameters, is_held_out: Tensor
    ) -> Members:
        """Says who makes steps, and on what they are chosen.

        Steps are made with the weights of the newest pairs. They are chosen as devices are served:
        the newest pairs of those held out, under the weights of the pairs before. A prototype that
        only became surer of what was told has gained nothing there.

        Args:
            pairs: Of the reports of ``n`` devices.
            losses: ``-log p`` ``[n, T, N]``.
            edits: G, ``[n, ...]`` by name.
            is_held_out: ``[n]``.
        """
        sharpness, num_pairs = self.mixture.sharpness, self.mixture.num_pairs
        newest = weights(evidence(losses, pairs, num_pairs), sharpness)
        is_later = pairs.last(min(num_pairs, max(1, pairs.target.shape[1] // 2)))
        before = (pairs.is_there & ~is_later)[..., None]
        older = weights((losses * before).sum(1), sharpness)
        held = is_held_out[:, None]
        target = torch.where(held & ~is_later, 0, pairs.target)
        weight = torch.where(held, older, newest)
        return Members(Pairs(pairs.history, target), weight, edits, is_held_out)

    def _made(
        self, layers: Parameters, edits: Parameters, bank: Bank, group_of: Ints, whole: bool
    ) -> Edited:
        """Gathers what travels, and how large it is."""
        index = torch.from_numpy(group_of)
        made = Edited(norms(edits), torch.zeros(len(group_of)))
        made.num_entries = sum(value.numel() for value in edits.values())
        if self.clip < float("inf"):
            made.num_saturated = sum(
                int((value.abs() >= self.clip).sum()) for value in edits.values()
            )
        if whole:
            made.layers = as_arrays(layers)
            return made
        held = bank.layers
        residuals = {name: value - held[name][index] for name, value in layers.items()}
        made.factors = as_arrays(residuals)
        made.largest[:] = largest_of(residuals)
        return made

    def flops(self, num_heads: int, num_pairs: int, num_adaptive: int) -> float:
        """Counts operations for one device.

        Args:
            num_heads: N.
            num_pairs: Of a full report.
            num_adaptive: Numbers of the adaptive layers.
        """
        mixed = self.mixture.flops(num_heads, num_pairs, num_adaptive)
        if self.mover is None:
            return mixed
        moved = self.mixture.likelihood.encoding_flops(num_pairs) + self.mover.flops(num_pairs)
        return 2 * mixed + moved
