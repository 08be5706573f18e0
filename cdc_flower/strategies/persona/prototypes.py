"""The bank of prototypes: a model and an editor for each group, and how prototypes move.

A group ``j`` has trained layers ``W_j`` and an editor whose edits ``G_j`` are meant for them. Its
prototype ``P_j = W_j + D_j`` starts there (``D_j = 0``) and moves. A device of the group predicts
with ``K = W_j + G_j`` whatever ``D_j`` is; what changes is the edit ``K - P_j`` that it takes to
get there.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.core.saveable import Saved
from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.persona.robust_means import MEAN, robust_means
from cdc_flower.training.scoring import Arrays

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Bank:
    """``N`` prototypes.

    Attributes:
        trained: W, ``[N, ...]`` by name.
        drift: D, ``[N, ...]`` by name.
        centers: ``[N, c]``, in the space in which samples were clustered.
        editor: ``[N]``, which trained group's editor each prototype has; a re-seeded one takes over
            its donor's.
        version: ``[N]``, how often each prototype has moved.
        idle: ``[N]``, segments for which each has been nobody's best; counted where one may die.
    """

    trained: Parameters
    drift: Parameters
    centers: Tensor
    editor: Ints
    version: Ints
    idle: Ints

    @staticmethod
    def of(trained: Parameters, centers: Tensor) -> "Bank":
        """A bank that has not moved."""
        drift = {name: torch.zeros_like(value) for name, value in trained.items()}
        none = np.zeros(len(centers), np.int64)
        return Bank(trained, drift, centers, np.arange(len(centers)), none, none)

    def __len__(self) -> int:
        return len(self.version)

    @property
    def layers(self) -> Parameters:
        """P = W + D, ``[N, ...]`` by name."""
        return {name: value + self.drift[name] for name, value in self.trained.items()}

    def moved(self, steps: Parameters) -> "Bank":
        """Gives the bank after prototypes moved by E ``[N, ...]``; where that is zero they stay."""
        largest = torch.stack([step.flatten(1).abs().amax(1) for step in steps.values()]).amax(0)
        drift = {name: value + steps[name] for name, value in self.drift.items()}
        return replace(self, drift=drift, version=self.version + (largest > 0).numpy())

    def to_arrays(self) -> Arrays:
        """Writes the bank as arrays by name; see :meth:`from_arrays`."""
        parts = {"trained": self.trained, "drift": self.drift}
        layers = {
            f"{part}.{name}": value.numpy()
            for part, group in parts.items()
            for name, value in group.items()
        }
        return {
            **layers,
            "centers": self.centers.numpy(),
            "editor": self.editor,
            "version": self.version,
            "idle": self.idle,
        }

    @staticmethod
    def from_arrays(arrays: Saved) -> "Bank":
        """Makes the bank of what :meth:`to_arrays` wrote."""
        layers: dict[str, Parameters] = {"trained": {}, "drift": {}}
        for key, value in arrays.items():
            part, _, name = key.partition(".")
            if name:
                layers[part][name] = torch.from_numpy(np.array(value))
        centers = torch.from_numpy(np.array(arrays["centers"]))
        return Bank(
            **layers,
            centers=centers,
            editor=np.array(arrays["editor"]),
            version=np.array(arrays["version"]),
            idle=np.array(arrays["idle"]),
        )

    def residual(self, group: int, edits: Parameters, clip: float) -> Parameters:
        """Computes the edit ``clip(G - D, ±γ)`` that leads from a prototype to ``W + G``.

        Args:
            group: Of the prototype.
            edits: G, ``[n, ...]`` by name; they are the result while D is zero.
            clip: γ.
        """
        if not self.version[group]:
            return edits
        moved = {name: edit - self.drift[name][group] for name, edit in edits.items()}
        return (
            moved
            if clip == float("inf")
            else {name: value.clamp(-clip, clip) for name, value in moved.items()}
        )

    def refined(
        self,
        group_of: Ints,
        residuals: Parameters,
        points: Tensor,
        rate: float,
        how: str = MEAN,
    ) -> "Bank":
        """The bank after each prototype moved toward its members, and empty groups were re-seeded.

        ``D_j ← D_j + ρ mean_i(K_i - P_j)`` and ``c_j ← (1 - ρ) c_j + ρ mean_i(point_i)`` over the
        members ``i`` of group ``j``. The mean edit that members still need shrinks by ``1 - ρ``;
        where it is zero the prototype stays. An empty group takes the place of the device with the
        largest edit, and its donor's editor.

        Args:
            group_of: ``[n]``, the group of each device.
            residuals: ``K - P``, ``[n, ...]`` by name.
            points: ``[n, c]``, where each device lies among the centers.
            rate: ρ; 0 gives the bank itself.
            how: Which mean over members is meant above; one of ``MEANS``.
        """
        if not rate or not len(group_of):
            return self
        count = np.bincount(group_of, minlength=len(self))
        index = torch.from_numpy(group_of)
        share = torch.from_numpy(1.0 / np.maximum(count, 1)).float()

        def mean(values: Tensor) -> Tensor:
            if how != MEAN:
                members = torch.nn.functional.one_hot(index, len(self))
                found = robust_means(values.flatten(1), members, how)
                return found.reshape(len(self), *values.shape[1:])
            total = values.new_zeros(len(self), *values.shape[1:]).index_add_(0, index, values)
            return total * share.view(-1, *[1] * (values.dim() - 1))

        step = {name: rate * mean(value) for name, value in residuals.items()}
        drift = {name: self.drift[name] + value for name, value in step.items()}
        moved = (
            torch.stack([value.flatten(1).abs().amax(1) for value in step.values()]).amax(0).numpy()
            > 0
        )
        filled = torch.from_numpy(count > 0)[:, None]
        centers = torch.where(filled, (1 - rate) * self.centers + rate * mean(points), self.centers)
        bank = replace(self, drift=drift, centers=centers, version=self.version + moved)
        empty = np.flatnonzero(count == 0)
        return (
            bank
            if not len(empty)
            else bank._reseeded(empty, count, group_of, self, residuals, points)
        )

    def _reseeded(
        self,
        empty: Ints,
        count: Ints,
        group_of: Ints,
        before: "Bank",
        residuals: Parameters,
        points: Tensor,
    ) -> "Bank":
        """Puts empty groups where devices with the largest edits are, of groups that keep a member.

        Args:
            empty: Numbers of the empty groups.
            count: ``[N]``, members of each group.
            group_of: ``[n]``, the group of each device.
            before: The bank before prototypes moved.
            residuals: ``K - P``, ``[n, ...]`` by name.
            points: ``[n, c]``, where each device lies.
        """
        order = np.argsort(-norms(residuals).numpy(), kind="stable")
        left = count.copy()
        chosen: list[int] = []
        for device in order:
            if len(chosen) == len(empty):
                break
            if left[group_of[device]] > 1:
                left[group_of[device]] -= 1
                chosen.append(int(device))
        groups, donors = empty[: len(chosen)], group_of[chosen]
        trained = {name: value.clone() for name, value in self.trained.items()}
        drift = {name: value.clone() for name, value in self.drift.items()}
        centers, editor, version = self.centers.clone(), self.editor.copy(), self.version.copy()
        for name, value in trained.items():
            value[groups] = before.trained[name][donors]
            drift[name][groups] = before.drift[name][donors] + residuals[name][chosen]
        centers[groups] = points[chosen]
        editor[groups] = before.editor[donors]
        version[groups] += 1
        return Bank(trained, drift, centers, editor, version, self.idle)


def norms(edits: Parameters) -> Tensor:
    """Measures the Frobenius norm ``[n]`` of each device's editing matrices, without biases."""
    sizes = [
        torch.linalg.vector_norm(value.flatten(1), dim=1)
        for name, value in edits.items()
        if name.endswith("weight")
    ]
    return torch.linalg.vector_norm(torch.stack(sizes), dim=0)


def nearest(points: Tensor, centers: Tensor) -> Ints:
    """Finds the center ``[n]`` closest to each point ``[n, c]``; of equals the first."""
    return np.asarray(torch.cdist(points.double(), centers.double()).argmin(1).numpy(), np.int64)


def cluster(points: Tensor, num_groups: int, seed: int) -> Tensor:
    """Finds centers ``[N, c]`` by scikit-learn's k-means. Fewer distinct points repeat the last.

    The points are samples, not users: a device may move between groups as its sequence grows.

    Args:
        points: ``[M, c]``.
        num_groups: N.
        seed: Of k-means.
    """
    distinct = np.unique(points.numpy(), axis=0)
    if len(distinct) <= num_groups:
        chosen = distinct[np.minimum(np.arange(num_groups), len(distinct) - 1)]
        return torch.from_numpy(chosen).float()
    from sklearn.cluster import (
        KMeans,  # here, as a device imports the strategies and needs no scikit-learn
    )

    fitted = KMeans(num_groups, random_state=seed).fit(points.double().numpy())
    return torch.from_numpy(fitted.cluster_centers_).float()
