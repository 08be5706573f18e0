"""Moves prototypes by editing matrices that the cloud computes from what their members reported.

Device i predicts with ``K_i = (1 - h) Σ_j w_ij P_j + h W_0 + G_i``. Every next item of its report
says how well that ranked it. An editing matrix E_j for each prototype lowers

    L(E) = mean_i mean_t -log p(i_t | before, K_i with P_j + E_j in place of P_j)

by a few steps of Adam (Kingma and Ba, ICLR 2015) over part of the devices; of the points passed,
the start among them, each prototype takes the one at which its members among the others are fitted
best, if it gains more than its standard error. Entries of ``P_j + E_j - W_j`` stay within ±γ.

It is a residual: where members are predicted as well as they can be, their mean gradient is zero
and the prototype stays, so nothing is counted twice and nothing walks away. (Persona, ACM MM 2025,
says of prototypes that they are "dynamically refined via the parameter editing matrix", and gives
no formula.)
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.persona.likelihood import Likelihood, Pairs
from cdc_flower.strategies.persona.mixing import mixed
from cdc_flower.strategies.persona.robust_means import MEAN, held_in, robust_means


@dataclass(frozen=True)
class Members:
    """Reports of ``n`` devices, and what they predict with beside their prototypes.

    Attributes:
        pairs: Of the reports.
        weight: w, ``[n, N]``.
        edits: G, ``[n, ...]`` by name; None for none.
        is_held_out: ``[n]``, devices on which steps are chosen; the others make them.
    """

    pairs: Pairs
    weight: Tensor
    edits: Parameters | None
    is_held_out: Tensor


@dataclass(frozen=True)
class Mover:
    """Computes editing matrices of prototypes.

    Attributes:
        likelihood: Of pairs.
        base: W_0 by name.
        hedge: h.
        clip: γ; infinity clips nothing.
        steps: Of Adam; 0 moves nothing.
        rate: Of Adam; 0 moves nothing.
        mean: Over members, of gradients and of gains; one of ``MEANS``.
    """

    likelihood: Likelihood
    base: Parameters
    hedge: float
    clip: float
    steps: int
    rate: float
    mean: str = MEAN

    def edits(self, heads: Parameters, trained: Parameters, members: Members) -> Parameters:
        """Computes E, ``[N, ...]`` by name; zeros where a prototype had better stay.

        Args:
            heads: P, ``[N, ...]`` by name.
            trained: W, ``[N, ...]`` by name.
            members: Of all prototypes.
        """
        steps = {name: torch.zeros_like(value).requires_grad_() for name, value in heads.items()}
        optimizer = torch.optim.Adam(list(steps.values()), lr=self.rate)
        losses = self._losses(heads, members)
        mine = (~members.is_held_out) & members.pairs.is_there.any(1)
        is_plain = self.mean == MEAN or not bool(mine.any())
        robust = None if is_plain else self._robust(heads, members, mine)
        path, fitted = [], []
        for step in range(self.steps + 1):
            with torch.enable_grad():
                found = losses(steps)
                path.append({name: value.detach().clone() for name, value in steps.items()})
                fitted.append(found.detach())
                if step == self.steps or not bool(mine.any()):
                    break
                optimizer.zero_grad()
                if robust is None:
                    found[mine].mean().backward()
                else:
                    robust(steps)
            optimizer.step()
            self._clip(steps, heads, trained)
        best = chosen(torch.stack(fitted), members, self.mean)
        return {
            name: torch.stack([path[step][name][index] for index, step in enumerate(best)])
            for name in heads
        }

    def _losses(self, heads: Parameters, members: Members) -> Callable[[Parameters], Tensor]:
        """Gives a function: E -> mean ``-log p`` of the pairs of each report, ``[n]``."""
        pairs, is_there = members.pairs, members.pairs.is_there
        of_heads = self.likelihood.losses(pairs.history, pairs.target)
        count = is_there.sum(1).clamp(min=1)

        def losses(steps: Parameters) -> Tensor:
            moved = {name: value + steps[name] for name, value in heads.items()}
            layers = mixed(moved, members.weight, self.base, self.hedge)
            if members.edits is not None:
                layers = {name: value + members.edits[name] for name, value in layers.items()}
            return (of_heads(layers) * is_there).sum(1) / count

        return losses

    def _robust(
        self, heads: Parameters, members: Members, mine: Tensor
    ) -> Callable[[Parameters], None]:
        """Gives a function that sets the gradients of E to robust means over members.

        The gradient of device i for E_j is ``(1 - h) w_ij ∂L_i/∂K_i``, so one backward pass down to
        the layers K of all devices has those of each.

        Args:
            heads: P, ``[N, ...]`` by name.
            members: Of all prototypes.
            mine: ``[n]``, the devices that make steps.
        """
        pairs = members.pairs.select(mine.nonzero()[:, 0].numpy())
        weight = members.weight[mine]
        of_heads = self.likelihood.losses(pairs.history, pairs.target)
        count = pairs.is_there.sum(1).clamp(min=1)
        share = (1 - self.hedge) * weight.mean(0)

        def set_gradients(steps: Parameters) -> None:
            moved = {name: value + steps[name].detach() for name, value in heads.items()}
            layers = mixed(moved, weight, self.base, self.hedge)
            if members.edits is not None:
                layers = {name: value + members.edits[name][mine] for name, value in layers.items()}
            leaves = {name: value.detach().requires_grad_() for name, value in layers.items()}
            loss = (of_heads(leaves) * pairs.is_there).sum(1) / count
            found = torch.autograd.grad(loss.sum(), list(leaves.values()))
            flat = torch.cat([value.flatten(1) for value in found], 1)
            means = share[:, None] * robust_means(flat, weight, self.mean)
            sizes = [value[0].numel() for value in found]
            for step, part in zip(steps.values(), means.split(sizes, 1), strict=True):
                step.grad = part.reshape(step.shape)

        return set_gradients

    def _clip(self, steps: Parameters, heads: Parameters, trained: Parameters) -> None:
        """Holds the entries of ``P + E - W`` within ±γ, in place."""
        if self.clip == float("inf"):
            return
        with torch.no_grad():
            for name, step in steps.items():
                drift = heads[name] - trained[name]
                step.copy_((drift + step).clamp(-self.clip, self.clip) - drift)

    def flops(self, num_pairs: int) -> float:
        """Counts operations for one device; a backward pass counts as two forward passes."""
        return 3.0 * self.steps * self.likelihood.flops(num_pairs)


def chosen(fitted: Tensor, members: Members, mean: str = MEAN) -> list[int]:
    """Chooses the step of each prototype on the devices that were held out.

    Args:
        fitted: ``[steps + 1, n]``, the loss of each device at each point of the path.
        members: With weights, and the devices held out.
        mean: Of gains over members; one of ``MEANS``.

    Returns:
        For each prototype the point at which its weighted members gain most over the start; 0
        where the gain is not above its standard error, or nobody was held out.
    """
    rows = members.is_held_out & members.pairs.is_there.any(1)
    weight = members.weight[rows].double()
    gain = (fitted[0] - fitted)[:, rows].double()
    total = weight.sum(0).clamp(min=1e-12)
    means = gain @ weight / total if mean == MEAN else robust_means(gain.T, weight, mean).T
    best = means.argmax(0)
    at_best = gain[best].T  # [rows, N]
    apart = at_best - means.max(0).values
    if mean != MEAN:  # else a few that lose much would hold every prototype where it is
        apart = held_in(apart, weight)
    spread = ((weight * apart) ** 2).sum(0).sqrt() / total
    return [int(step) for step in torch.where(means.max(0).values > spread, best, 0)]
