"""DUET's decoders: a layer embedding in, one adaptive layer out, its weight and bias in a row.

The equation numbers are those of the paper (see README.md beside this file).
"""

import torch
from torch import Tensor, nn

from cdc_flower.models.generated_layers import generated
from cdc_flower.strategies.reference_code import random_numbers


class Decoder(nn.Module):
    """Two linear maps (4), each a mixture of ``m`` ones: the stable weight adapter (6)-(8).

    With one map there is nothing to mix, and this is equation (4) to the bit. The second map starts
    at zero, so that every embedding gives the starting layer at first.

    Args:
        start: ``[n]``, the layer that is generated before any training.
        width: Of the embedding; ``decoder_width``: between the two maps.
        num_generators: m.
        temperature: τ, above 0; the larger, the more equal the shares.
    """

    def __init__(
        self,
        start: Tensor,
        width: int,
        decoder_width: int,
        num_generators: int = 1,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        drawn = [nn.Linear(width, decoder_width) for _ in range(num_generators)]
        self.first = nn.Parameter(torch.stack([linear.weight.detach() for linear in drawn]))
        self.first_bias = nn.Parameter(drawn[0].bias.detach().clone())
        self.second = nn.Parameter(torch.zeros(num_generators, len(start), decoder_width))
        self.second_bias = nn.Parameter(start.clone())

    def shares(self) -> Tensor:
        """Shares p ``[m]`` of the parallel maps, which sum to 1.

        S = W'₁ W'₁ᵀ (6) with a row of W'₁ for each of the m maps, its numbers one after the other;
        p = softmax(S 1 / τ) (7).
        """
        rows = self.first.flatten(1)
        return torch.softmax((rows @ rows.T).sum(-1) / self.temperature, -1)

    def last_map(self, embedding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Makes ``h`` ``[B, w]``, ``P`` ``[w, n]`` and ``p`` ``[n]``: the layers are ``h P + p``.

        Wⱼ = Σᵢ pᵢ W'ⱼᵢ (8), h = W₁ e + B₁, P = W₂, p = B₂ (4).
        """
        shares = self.shares().view(-1, 1, 1)
        first, second = ((shares * maps).sum(0) for maps in (self.first, self.second))
        return nn.functional.linear(embedding, first, self.first_bias), second.T, self.second_bias

    def forward(self, embedding: Tensor) -> Tensor:
        """``[B, width] -> [B, n]``: (W₁ e + B₁) W₂ + B₂ (4)."""
        return generated(*self.last_map(embedding))

    @property
    def flops(self) -> float:
        """Floating-point operations for one embedding; the mixture is the same for all."""
        return 2.0 * (self.first[0].numel() + self.second[0].numel())


class RandomDecoder(nn.Module):
    """The released code's: one random linear map, never trained.

    Args:
        width: Of the embedding; ``num_outputs``: of the layer.
        generator: Of the draws.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, width: int, num_outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("weight", random_numbers(generator, width, num_outputs))
        self.register_buffer("bias", random_numbers(generator, num_outputs))

    def last_map(self, embedding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[B, width]`` -> the embedding, the map and its bias."""
        return embedding, self.weight, self.bias

    def forward(self, embedding: Tensor) -> Tensor:
        """``[B, width] -> [B, num_outputs]``."""
        return generated(*self.last_map(embedding))

    @property
    def flops(self) -> float:
        """Floating-point operations for one embedding."""
        return 2.0 * self.weight.numel()
