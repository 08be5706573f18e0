"""Answers by the trained base model with adaptive layers fitted to the true names and mirror.

So it says how much of what the oracle knows the adaptive layers can say at all. The static layers
stay as they are. Places that name alike and are mirrored alike share layers, which are fitted to
clips drawn at all of them, unseen ones too; habits of a single place are left out.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cdc_flower.core.seeds import generator
from cdc_flower.core.stream import SegmentBatch
from cdc_flower.models.layers import Parameters
from cdc_flower.models.video.ranking import VideoModel
from cdc_flower.tasks.video.moving_digits import drawn_at
from cdc_flower.tasks.video.queries import Ints, QueryTable
from cdc_flower.tasks.video.references.registry import Known, Line, references
from cdc_flower.training.cloud import Cloud
from cdc_flower.training.scoring import Scorer

#: Clips drawn for the layers of one way to name and mirror, at least; steps over batches of them.
NUM_DRAWS = 3000
NUM_STEPS = 600
BATCH_SIZE = 256
RATE = 6e-3


@dataclass(frozen=True)
class Fitted:
    """Layers ``[ways, ...]``, and which of them each place has ``[P]``."""

    layers: Parameters
    way_of_place: Ints


@references.register("ceiling", needs_law=True)
def ceiling(known: Known) -> Line:
    """Answers by the base model with its adaptive layers fitted to the true place: their limit."""
    cloud = known.train()
    fitted = fit_to_places(cloud, known)
    pool = {name: value.numpy() for name, value in fitted.layers.items()}
    scorer = Scorer(cloud.model, cloud.arrays(), [pool])

    def score(data: SegmentBatch) -> NDArray[np.float32]:
        _, place, _ = data.truth.read(known)
        ways = fitted.way_of_place[place]
        return scorer.score(ways[data.row], data.history, data.candidates)

    return score


def fit_to_places(cloud: Cloud, known: Known) -> Fitted:
    """Fits adaptive layers to clips drawn at the places of each way to name and mirror.

    Args:
        cloud: With the trained base model, which is left as it is.
        known: With the places.
    """
    clips = known.clips
    places = clips.places
    kinds = np.stack([places.naming, places.is_mirrored], 1)
    _, way_of_place = np.unique(kinds, axis=0, return_inverse=True)
    num_ways = int(way_of_place.max()) + 1
    per_place = NUM_DRAWS * num_ways // len(way_of_place)
    draws = drawn_at(clips, -(-per_place // clips.clips_per_segment))
    model = copy.copy(cloud.model)
    assert isinstance(model, VideoModel)
    model.clips = draws.clips
    model.forget()
    layers = _fit(model, cloud.parameters, draws, way_of_place, places.seed)
    return Fitted(layers, way_of_place)


def _fit(
    model: VideoModel, base: Parameters, draws: QueryTable, way_of_place: Ints, seed: int
) -> Parameters:
    """Fits layers ``[ways, ...]``, each to the queries of its own places.

    Args:
        model: That looks up the drawn clips.
        base: Parameters at the start.
        draws: Queries; device ``p`` is always at place ``p``.
        way_of_place: ``[P]``.
        seed: Of the batches.
    """
    num_ways = int(way_of_place.max()) + 1
    layers = {name: torch.stack([base[name].detach()] * num_ways) for name in model.adaptive}
    static = {name: value.detach() for name, value in base.items() if name not in layers}
    with torch.no_grad():
        static = model.tabulate(static)
    leaves = [value.requires_grad_() for value in layers.values()]
    optimizer = torch.optim.Adam(leaves, lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, NUM_STEPS)
    rng = generator(seed, "ceiling")
    way_of_query = way_of_place[draws.place(np.arange(len(draws.answer)))[0]]
    of_way = [np.flatnonzero(way_of_query == way) for way in range(num_ways)]
    for _ in range(NUM_STEPS):
        queries = np.concatenate([rng.choice(mine, BATCH_SIZE) for mine in of_way])
        history = torch.from_numpy(queries[:, None])
        candidates = torch.from_numpy(draws.true_first(queries)).long()
        with torch.no_grad():
            x, targets = model.encode(static, history, candidates)
        shape = (num_ways, BATCH_SIZE)
        y = model.head(layers, x.reshape(*shape, *x.shape[1:]))
        of_each = None if targets is None else targets.reshape(*shape, *targets.shape[1:])
        loss = model.loss(model.match(y, of_each)).mean(dim=1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {name: value.detach() for name, value in layers.items()}
