"""Means of what members of prototypes ask for that a few hostile members cannot carry away.

Of numbers ``x_i`` with weights ``w_i`` of the members of a prototype, as shares of their sum:

    mean      Σ w_i x_i
    clipped   Σ w_i x_i min(1, c / ‖x_i‖)       c is the weighted median of the norms
    trimmed   each number without a fifth of the weight at either end
    median    the weighted median of each number
"""

import torch
from torch import Tensor

MEAN = "mean"
CLIPPED = "clipped"
TRIMMED = "trimmed"
MEDIAN = "median"
MEANS = (MEAN, CLIPPED, TRIMMED, MEDIAN)
#: Share of the weight that a trimmed mean leaves out at either end, as Flower's FedTrimmedAvg.
TRIM_SHARE = 0.2
#: Median distances at which a distance from a mean is held where a standard error is made of it.
FARTHEST = 3.0
#: Shares of weights are sums of rounded numbers: so near a half they are one.
_ROUNDING = 1e-6


def robust_means(values: Tensor, weight: Tensor, how: str) -> Tensor:
    """Takes a mean for each prototype, ``[N, d]``; zeros where it has no member.

    Args:
        values: ``[n, d]``, a row for each device.
        weight: ``[n, N]``, of each device in each prototype.
        how: One of :data:`MEANS`.
    """
    return torch.stack([_of_members(values, own, how) for own in weight.T])


def _of_members(values: Tensor, weight: Tensor, how: str) -> Tensor:
    """Takes the mean ``[d]`` of one prototype, with weights ``[n]``."""
    rows = weight > 0
    if not rows.any():
        return values.new_zeros(values.shape[1])
    own = values[rows].double()
    share = weight[rows].double()
    share = share / share.sum()
    if how == MEAN:
        found = share @ own
    elif how == CLIPPED:
        size = torch.linalg.vector_norm(own, dim=1)
        limit = weighted_median(size[:, None], share)
        found = (share * (limit / size.clamp(min=1e-30)).clamp(max=1)) @ own
    else:
        found = trimmed_mean(own, share) if how == TRIMMED else weighted_median(own, share)
    return found.to(values.dtype)


def held_in(apart: Tensor, weight: Tensor) -> Tensor:
    """Holds distances from a mean, ``[n, N]``, within three times their weighted median.

    Args:
        apart: Of each device for each prototype.
        weight: ``[n, N]``.
    """
    if not len(apart):
        return apart
    share = weight / weight.sum(0).clamp(min=1e-30)
    sizes = [
        weighted_median(own[:, None], mine)
        for own, mine in zip(apart.abs().T, share.T, strict=True)
    ]
    most = FARTHEST * torch.cat(sizes)
    return torch.maximum(torch.minimum(apart, most), -most)


def trimmed_mean(values: Tensor, share: Tensor, trim: float = TRIM_SHARE) -> Tensor:
    """Averages each number ``[d]`` without the extremes.

    Args:
        values: ``[n, d]``.
        share: ``[n]``, weights that add up to 1.
        trim: Share of the weight that is left out at either end.
    """
    ordered, mass = _sorted(values, share)
    upto = mass.cumsum(0)
    kept = (upto.clamp(max=1 - trim) - (upto - mass).clamp(min=trim)).clamp(min=0)
    return (kept * ordered).sum(0) / kept.sum(0)


def weighted_median(values: Tensor, share: Tensor) -> Tensor:
    """Finds the weighted median of each number, ``[d]``; of two in the middle their mean.

    Args:
        values: ``[n, d]``.
        share: ``[n]``, weights that add up to 1.
    """
    ordered, mass = _sorted(values, share)
    upto = mass.cumsum(0)
    last = len(values) - 1
    lower = (upto < 0.5 - _ROUNDING).sum(0, keepdim=True).clamp(max=last)
    upper = (upto <= 0.5 + _ROUNDING).sum(0, keepdim=True).clamp(max=last)
    return ((ordered.gather(0, lower) + ordered.gather(0, upper)) / 2)[0]


def _sorted(values: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Sorts each number, and gives the weights in that order."""
    ordered, order = values.sort(0)
    return ordered, share[order]
