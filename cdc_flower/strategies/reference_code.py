"""Does what the released code of DUET, APG and Persona does where a decoder should be trained.

Its numbers are kept where the optimizer does not see them, so that they stay as they were drawn.
Strategies do the same with ``released_code=true``.
"""

import torch
from torch import Tensor


def random_numbers(generator: torch.Generator, *shape: int) -> Tensor:
    """Draws standard normal numbers, remainders by 2: in (-2, 2)."""
    return torch.empty(shape).normal_(generator=generator).fmod(2)
