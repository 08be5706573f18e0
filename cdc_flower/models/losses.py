"""Computes what device models are trained to minimize. Candidate 0 is the true one."""

import torch
from torch import Tensor


def cross_entropy(logits: Tensor) -> Tensor:
    """Averages the binary cross-entropy over ``C``, ``[..., C] -> [...]``."""
    losses = torch.nn.functional.softplus(logits)
    return losses.mean(-1) - logits[..., 0] / logits.shape[-1]


def softmax_cross_entropy(logits: Tensor) -> Tensor:
    """Computes the cross-entropy of a choice among all candidates, ``[..., C] -> [...]``."""
    return torch.logsumexp(logits, -1) - logits[..., 0]
