"""Fast Domain Adaptor (FDA): a clip's feature in, an adaptive layer's parameters out.

Four variants (see README.md beside this file for what is known of them), with z the feature, U×A
the kernel:

    twoM+bias   q = BN(z W₂ + b₂);  K = BN(q W₁ + b₁);  b = BN(q B₁)
    oneM+bias                       K = BN(z W₃ + b₃);  b = BN(z B₂)
    twobias     b = base + (z W₄ + b₄) B₄               no kernel
    onebias     b = base + z B₃                         no kernel
"""

import torch
from torch import Tensor, nn

from cdc_flower.models.layers import Parameters

VARIANTS = ("twoM+bias", "oneM+bias", "twobias", "onebias")


class FastDomainAdaptor(nn.Module):
    """Generates the adaptive layer of a device model, or its bias alone.

    All matrices are registered parameters. The last normalization starts at scale 0 and the base
    layer as shift (the bias variants at B = 0), so every feature generates the base layer at first.

    Args:
        variant: One of ``VARIANTS``.
        weight: ``[U, A]``, the base model's adaptive layer.
        bias: ``[A]``, of that layer.
        feature_width: ``Z``.
        hidden: ``H``, 128 in the code that the variants are known from.
        mean: ``[Z]``, of features over historical data, taken off first; None is 0.
        scale: ``[Z]``, their spread; None is 1.
        generator: Of the initialization.

    Raises:
        ValueError: If the variant is unknown or the width is below 1.
    """

    def __init__(
        self,
        variant: str,
        weight: Tensor,
        bias: Tensor,
        feature_width: int,
        *,
        hidden: int = 128,
        mean: Tensor | None = None,
        scale: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        if hidden < 1:
            raise ValueError(f"hidden must be >= 1, got {hidden}")
        self.variant, self.shape, self.hidden = variant, tuple(weight.shape), hidden
        self.has_kernel, self.is_two_stage = variant.endswith("M+bias"), variant.startswith("two")
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(feature_width) if mean is None else mean.clone())
        self.register_buffer("scale", torch.ones(feature_width) if scale is None else scale.clone())
        num_inputs, num_outputs = self.shape

        def matrix(rows: int, columns: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(rows, columns, generator=generator) / rows**0.5)

        inner = hidden if self.is_two_stage else feature_width
        if self.is_two_stage:
            self.first_weight = matrix(feature_width, hidden)
            self.first_bias = nn.Parameter(torch.zeros(hidden))
        if not self.has_kernel:
            self.bias_weight = nn.Parameter(torch.zeros(inner, num_outputs))
            self.base_bias: Tensor
            self.register_buffer("base_bias", bias.detach().clone())
            return
        if self.is_two_stage:
            self.first_norm = nn.BatchNorm1d(hidden)
        self.kernel_weight = matrix(inner, num_inputs * num_outputs)
        self.kernel_bias = nn.Parameter(torch.zeros(num_inputs * num_outputs))
        self.bias_weight = matrix(inner, num_outputs)
        self.kernel_norm = nn.BatchNorm1d(num_inputs * num_outputs)
        self.bias_norm = nn.BatchNorm1d(num_outputs)
        with torch.no_grad():
            for norm, start in ((self.kernel_norm, weight.flatten()), (self.bias_norm, bias)):
                norm.weight.zero_()
                norm.bias.copy_(start)

    def forward(self, feature: Tensor) -> Parameters:
        """Makes ``head.0.weight`` ``[B, U, A]``, if it has one, and ``head.0.bias`` ``[B, A]``.

        In training mode normalization uses the batch and needs at least two rows; in evaluation
        mode each row counts by itself alone.
        """
        z = (feature - self.mean) / self.scale
        if self.is_two_stage:
            z = z @ self.first_weight + self.first_bias
        if not self.has_kernel:
            return {"head.0.bias": self.base_bias + z @ self.bias_weight}
        if self.is_two_stage:
            z = self.first_norm(z)
        kernel = self.kernel_norm(z @ self.kernel_weight + self.kernel_bias)
        return {
            "head.0.weight": kernel.unflatten(1, self.shape),
            "head.0.bias": self.bias_norm(z @ self.bias_weight),
        }

    @torch.no_grad()
    def settle(self, features: Tensor, batch_size: int = 1024) -> None:
        """Takes the statistics of evaluation mode anew, by the cumulative mean over ``[M, Z]``."""
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm1d)]
        was_training = self.training
        self.train()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        for part in features.split(batch_size):
            if len(part) > 1:
                self(part)
        for norm in norms:
            norm.momentum = 0.1
        self.train(was_training)

    @property
    def num_generated(self) -> int:
        """Counts the numbers that go down to a device: 97 A with U = 96, or A."""
        num_inputs, num_outputs = self.shape
        return (num_inputs + 1) * num_outputs if self.has_kernel else num_outputs

    @property
    def num_parameters(self) -> int:
        """Counts the numbers that are trained."""
        return sum(value.numel() for value in self.parameters())

    def flops(self) -> float:
        """Counts floating-point operations of one generation, a multiply-add as two."""
        first = len(self.mean) * self.hidden if self.is_two_stage else 0
        inner = self.hidden if self.is_two_stage else len(self.mean)
        return 2.0 * (first + inner * self.num_generated)
