"""Ranks by the trained base model with adaptive layers fitted to each true context.

So it says how much of what the oracle knows the adaptive layers can say at all: the static layers
stay as they are, and each context has layers of its own, fitted to draws from that context alone.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.core.seeds import generator
from cdc_flower.core.stream import SegmentBatch
from cdc_flower.models.layers import Parameters
from cdc_flower.tasks.recommendation.laws.law import ContextLaw
from cdc_flower.tasks.recommendation.references.registry import Known, Line, references
from cdc_flower.training.cloud import Cloud
from cdc_flower.training.scoring import Scorer

#: Windows drawn from each context, and steps of the fit over batches of them.
NUM_DRAWS = 4000
NUM_STEPS = 600
BATCH_SIZE = 256
NUM_NEGATIVES = 16
RATE = 6e-3


@references.register("ceiling", needs_law=True)
def ceiling(known: Known) -> Line:
    """Ranks by the base model with its adaptive layers fitted to the true context: their limit."""
    law = shared_law(known)
    cloud = known.train()
    heads = fitted_heads(cloud, law, known.stream.history_length)
    scorer = Scorer(cloud.model, cloud.arrays(), [{k: v.numpy() for k, v in heads.items()}])

    def score(data: SegmentBatch, segment: int) -> NDArray[np.float32]:
        _, context, _ = data.truth.read(known)
        return scorer.score(context[data.row], data.history, data.candidates)

    return score


def shared_law(known: Known) -> ContextLaw:
    """Gives the law, if devices share its contexts.

    Raises:
        UserError: If each device has contexts of its own, to which no layers can be fitted here.
    """
    law = known.law
    if not isinstance(law, ContextLaw) or law.options.contexts == "own":
        raise UserError("references: ceiling needs data whose contexts are shared, such as regimes")
    return law


def fitted_heads(cloud: Cloud, law: ContextLaw, length: int) -> Parameters:
    """Fits adaptive layers ``[contexts, ...]`` to draws from each context.

    Args:
        cloud: With the trained base model, which is left as it is.
        law: Of the data.
        length: Items of a window.
    """
    model, base = cloud.model, cloud.parameters
    count = law.options.num_all_contexts
    draws = law.simulated(NUM_DRAWS, length + 1)
    heads = {name: torch.stack([base[name].detach()] * count) for name in model.adaptive}
    static = {name: value.detach() for name, value in base.items() if name not in heads}
    with torch.no_grad():
        static = model.tabulate(static)
    leaves = [value.requires_grad_() for value in heads.values()]
    optimizer = torch.optim.Adam(leaves, lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, NUM_STEPS)
    rng = generator(law.seed, "ceiling")
    for _ in range(NUM_STEPS):
        rows = rng.integers(NUM_DRAWS, size=BATCH_SIZE)
        negatives = rng.integers(
            1, law.options.num_items + 1, size=(count, BATCH_SIZE, NUM_NEGATIVES)
        )
        chosen = draws[:, rows].astype(np.int64)
        candidates = np.concatenate([chosen[..., -1:], negatives], axis=2)
        flat = (chosen[..., :-1].reshape(-1, length), candidates.reshape(-1, NUM_NEGATIVES + 1))
        with torch.no_grad():
            x, targets = model.encode(static, *(torch.from_numpy(ids) for ids in flat))
        shape = (count, BATCH_SIZE)
        y = model.head(heads, x.reshape(*shape, *x.shape[1:]))
        of_each = None if targets is None else targets.reshape(*shape, *targets.shape[1:])
        loss = model.loss(model.match(y, of_each)).mean(dim=1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {name: value.detach() for name, value in heads.items()}
