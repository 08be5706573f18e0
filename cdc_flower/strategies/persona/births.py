"""Birth and death of prototypes, while the stream goes on.

misfit   a device whose report fits badly under every head: its best mean -log p is above the
         level that one in a hundred historical reports exceeds
death    a prototype that was nobody's best for some segments gives its place
birth    where there is a place, and a share of the devices are misfits, a prototype starts from
         the base head, moved by what the misfits reported, if that helps those held out
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.strategies.persona.prototypes import Bank, Ints
from cdc_flower.strategies.persona.refinement import Members, Mover

#: Share of historical reports that fit worse than a misfit has to.
MISFIT_SHARE = 0.01


def misfit_level(evidence: Tensor, count: Tensor) -> float:
    """Finds the mean ``-log p`` that one in a hundred historical reports exceeds.

    Args:
        evidence: ``[n, N]``, sums over the last pairs of historical reports.
        count: ``[n]``, pairs of each.
    """
    best = evidence.min(1).values[count > 0] / count[count > 0]
    if not len(best):
        return float("inf")
    return float(torch.quantile(best.double(), 1 - MISFIT_SHARE))


def idle_after(idle: Ints, group_of: Ints) -> Ints:
    """Counts the segments ``[N]`` for which each prototype has been nobody's best.

    Args:
        idle: ``[N]``, before this segment.
        group_of: ``[n]``, the best prototype of each device.
    """
    has_member = np.bincount(group_of, minlength=len(idle)) > 0
    return np.where(has_member, 0, idle + 1)


@dataclass(frozen=True)
class Births:
    """Decides on births.

    Attributes:
        level: Mean ``-log p`` above which a report fits badly.
        share: Share of the devices that must be misfits.
        after: Segments without members after which a prototype gives its place.
    """

    level: float
    share: float
    after: int

    def misfits(self, evidence: Tensor, count: Tensor) -> NDArray[np.bool_]:
        """Tells which devices ``[n]`` fit badly under every head.

        Args:
            evidence: ``[n, N]``, sums over the last pairs of reports.
            count: ``[n]``, pairs of each.
        """
        best = evidence.min(1).values / count.clamp(min=1)
        return ((count > 0) & (best > self.level)).numpy()

    def born(self, bank: Bank, misfits: NDArray[np.bool_], mover: Mover, members: Members) -> Bank:
        """Gives the bank after at most one birth.

        Args:
            bank: Of prototypes.
            misfits: ``[n]``.
            mover: Makes the newborn's layers.
            members: Reports of all devices.
        """
        place = int(bank.idle.argmax())
        if bank.idle[place] < self.after or misfits.mean() < self.share or not misfits.any():
            return bank
        rows = np.flatnonzero(misfits)
        index = torch.from_numpy(rows)
        theirs = Members(
            members.pairs.select(rows),
            torch.ones(len(rows), 1),
            None
            if members.edits is None
            else {name: value[index] for name, value in members.edits.items()},
            members.is_held_out[index],
        )
        base = {name: value[None] for name, value in mover.base.items()}
        step = mover.edits(base, base, theirs)
        if not any(bool(value.any()) for value in step.values()):
            return bank
        trained = {name: value.clone() for name, value in bank.trained.items()}
        drift = {name: value.clone() for name, value in bank.drift.items()}
        for name, value in step.items():
            trained[name][place] = base[name][0]
            drift[name][place] = value[0]
        version, idle = bank.version.copy(), bank.idle.copy()
        version[place] += 1
        idle[place] = 0
        return replace(bank, trained=trained, drift=drift, version=version, idle=idle)
