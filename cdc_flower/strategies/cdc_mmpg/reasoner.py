"""AnchorFrame Distribution Reasoner (ADR): from one frame to a distribution over its clip's."""

import torch
from torch import Tensor, nn

#: Bounds of the logarithm of the variance, which keep the likelihood finite where frames are
#: identical.
LOG_VARIANCE = (-8.0, 4.0)


class AnchorFrameReasoner(nn.Module):
    """q(z | f_a) = N(μ(f_a), σ²(f_a)), a normal distribution with independent entries.

    ``μ = f_a + M(f_a)``: the last map starts at 0, so at first the anchor stands for its clip.

    Args:
        width: ``Z``, of features.
        hidden: Width between the maps.
        mean: ``[Z]``, of features over historical data.
        scale: ``[Z]``, their spread.
        seed: Of the initialization.
    """

    def __init__(self, width: int, hidden: int, mean: Tensor, scale: Tensor, seed: int = 0) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", mean.clone())
        self.register_buffer("scale", scale.clone())
        self.width, self.hidden = width, hidden
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Sequential(
                nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()
            )
            self.last = nn.Linear(hidden, 2 * width)
        with torch.no_grad():
            self.last.weight.zero_()
            self.last.bias.zero_()

    def forward(self, anchor: Tensor) -> tuple[Tensor, Tensor]:
        """Makes μ ``[B, Z]`` and σ² ``[B, Z]`` of anchors ``[B, Z]``."""
        z = (anchor - self.mean) / self.scale
        shift, log_variance = self.last(self.body(z)).chunk(2, -1)
        variance = log_variance.clamp(*LOG_VARIANCE).exp() * self.scale.square()
        return anchor + shift * self.scale, variance

    def mismatch(self, mu: Tensor, variance: Tensor, frames: Tensor) -> Tensor:
        """Measures ``[B]`` the negative log-likelihood of true frames, without its constant.

        ½ mean_z [log σ² + ((m − μ)² + s²) / σ²] with m and s² the mean and variance over the clip's
        frames, in units of the features' spread. It is least at μ = m and σ² = s².

        Args:
            mu: ``[B, Z]``.
            variance: σ², ``[B, Z]``.
            frames: Features of the true frames, ``[B, n, Z]``.
        """
        m, s2 = frames.mean(1), frames.var(1, unbiased=False)
        unit = self.scale.square()
        return 0.5 * ((variance / unit).log() + ((m - mu).square() + s2) / variance).mean(-1)

    def flops(self) -> float:
        """Counts floating-point operations of one reasoning, a multiply-add as two."""
        return 2.0 * self.hidden * (3 * self.width + self.hidden)
