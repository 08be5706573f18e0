"""CDC-MMPG's reasoner alone: mean and spread of frames from an anchor."""

import numpy as np
import torch

from cdc_flower.strategies.cdc_mmpg.reasoner import AnchorFrameReasoner


def test_the_reasoner_begins_with_the_anchor_itself_and_a_positive_variance() -> None:
    adr = AnchorFrameReasoner(5, 8, torch.zeros(5), torch.ones(5))
    anchor = torch.randn(4, 5)
    mu, variance = adr(anchor)
    torch.testing.assert_close(mu, anchor)
    assert (variance > 0).all()


def test_of_frames_around_a_known_mean_the_reasoner_learns_mean_and_spread() -> None:
    mean, spread = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.3, 1.0, 2.0])
    random = torch.Generator().manual_seed(0)
    adr = AnchorFrameReasoner(3, 16, torch.zeros(3), torch.ones(3))
    optimizer = torch.optim.Adam(adr.parameters(), lr=0.01)
    for _ in range(600):
        frames = mean + spread * torch.randn(128, 40, 3, generator=random)
        loss = adr.mismatch(*adr(frames[:, 0]), frames).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    mu, variance = adr(mean + spread * torch.randn(500, 3, generator=random))
    torch.testing.assert_close(mu.mean(0), mean, atol=0.12, rtol=0)
    torch.testing.assert_close(variance.sqrt().mean(0), spread, atol=0, rtol=0.1)


def test_the_mismatch_is_least_at_the_mean_and_variance_of_the_frames() -> None:
    frames = torch.randn(1, 50, 3)
    adr = AnchorFrameReasoner(3, 4, torch.zeros(3), torch.ones(3))
    best = frames.mean(1), frames.var(1, unbiased=False)
    least = adr.mismatch(*best, frames)
    for mu, variance in (
        (best[0] + 0.1, best[1]),
        (best[0], best[1] * 1.2),
        (best[0], best[1] * 0.8),
    ):
        assert adr.mismatch(mu, variance, frames) > least
    sampled = -torch.distributions.Normal(best[0], best[1].sqrt()).log_prob(frames[0]).mean()
    torch.testing.assert_close(least[0], sampled - 0.5 * np.log(2 * np.pi), atol=1e-5, rtol=0)
