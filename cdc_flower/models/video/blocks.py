"""Cuts clips and queries into blocks that are always encoded whole.

A product of other rows may be rounded otherwise. What is made of a clip and kept must not depend on
which clips were asked for before or beside it: not on other strategies, on a training that came
from the cache, or on the segment after which a run goes on. So it is made among its neighbors.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

#: Numbers in a row that make a block. Larger ones are encoded a little faster, and more of them is
#: encoded for nothing where few are asked for.
IDS_PER_BLOCK = 32


def blocks_of(wanted: Tensor, num_ids: int) -> Iterator[Tensor]:
    """Gives the ids of each block that holds a wanted one.

    Args:
        wanted: Ids ``[k]``.
        num_ids: All there are; the last block ends with them.
    """
    for number in torch.unique(wanted // IDS_PER_BLOCK).tolist():
        first = number * IDS_PER_BLOCK
        yield torch.arange(first, min(first + IDS_PER_BLOCK, num_ids))
