"""Mixes prototypes by the sharpened likelihood of a device's last pairs.

    w_ij ∝ exp(β Σ_t log p(i_t | before, P_j))      over the last pairs t of the report of device i
    P̄_i  = (1 - h) Σ_j w_ij P_j + h W_0             W_0 is the base model's head

β sharpens: 0 takes all prototypes alike, infinity the one that fits best. The hedge h pays for what
no report can tell: that the device has moved on since.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.persona.likelihood import Likelihood, Pairs


def evidence(losses: Tensor, pairs: Pairs, num_pairs: int) -> Tensor:
    """Sums ``-log p`` ``[n, N]`` of the last pairs of each report.

    Args:
        losses: ``[n, T, N]``.
        pairs: Of the ``n`` reports.
        num_pairs: Pairs that count; a shorter report has fewer.
    """
    return (losses * pairs.last(num_pairs)[..., None]).sum(1)


def weights(evidence: Tensor, sharpness: float) -> Tensor:
    """Computes w ``[n, N]``, rows summing to 1, from ``-log p`` ``[n, N]``.

    Args:
        evidence: From :func:`evidence`.
        sharpness: β; infinity gives all weight to the best prototype, of equals to the first.
    """
    if sharpness == float("inf"):
        best = evidence.argmin(1, keepdim=True)
        return torch.zeros_like(evidence).scatter_(1, best, 1.0)
    return torch.softmax(-sharpness * evidence, 1)


def mixed(heads: Parameters, weight: Tensor, base: Parameters, hedge: float) -> Parameters:
    """Makes the mixed heads P̄ ``[n, ...]`` by name.

    Args:
        heads: P, ``[N, ...]`` by name.
        weight: w, ``[n, N]``.
        base: W_0 by name.
        hedge: h in [0, 1]; 0 leaves the base head out, 1 gives nothing else.
    """
    made: Parameters = {}
    for name, value in heads.items():
        own = (weight @ value.flatten(1)).reshape(len(weight), *value.shape[1:])
        made[name] = own if not hedge else (1 - hedge) * own + hedge * base[name]
    return made


@dataclass(frozen=True)
class Mixture:
    """Mixes the prototypes of a bank for devices by what they told.

    Attributes:
        likelihood: Of pairs.
        base: W_0 by name.
        num_pairs: Last pairs of a report that count.
        sharpness: β.
        hedge: h.
    """

    likelihood: Likelihood
    base: Parameters
    num_pairs: int
    sharpness: float
    hedge: float

    def pairs(self, reported: NDArray[np.int32]) -> Pairs:
        """Cuts reports ``[n, R]`` into pairs."""
        return Pairs.of(reported, self.likelihood.model.history_length)

    def evidence(self, heads: Parameters, pairs: Pairs) -> Tensor:
        """Sums ``-log p`` ``[n, N]`` of the last pairs of reports under every head."""
        newest = pairs.newest(self.num_pairs)
        return evidence(self.likelihood.of_reports(heads, newest), newest, self.num_pairs)

    def weights(self, heads: Parameters, pairs: Pairs) -> Tensor:
        """Computes w ``[n, N]``; a single prototype needs no likelihood."""
        if len(next(iter(heads.values()))) == 1:
            return torch.ones(len(pairs.target), 1)
        return weights(self.evidence(heads, pairs), self.sharpness)

    def heads(self, heads: Parameters, weight: Tensor) -> Parameters:
        """Makes P̄ ``[n, ...]`` by name."""
        return mixed(heads, weight, self.base, self.hedge)

    def flops(self, num_heads: int, num_pairs: int, num_adaptive: int) -> float:
        """Counts operations of one device: its pairs under every head, and the mixture.

        Args:
            num_heads: N.
            num_pairs: Of a full report.
            num_adaptive: Numbers of the adaptive layers.
        """
        counted = min(self.num_pairs, num_pairs) if num_heads > 1 else 0
        scored = self.likelihood.encoding_flops(counted)
        scored += num_heads * self.likelihood.flops(counted)
        return scored + 2.0 * num_heads * num_adaptive
