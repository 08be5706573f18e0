"""Compares a trained base model with counting, on the historical events that were held out."""

import logging
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from cdc_flower.core.stream import SegmentBatch
from cdc_flower.tasks.recommendation.history import HistoricalBatch, HistoricalData
from cdc_flower.tasks.recommendation.metrics import gains, places, worst_for_nan
from cdc_flower.tasks.recommendation.references.counts import Counts
from cdc_flower.tasks.recommendation.references.markov import chances_after
from cdc_flower.training.cloud import Cloud

log = logging.getLogger("cdc_flower")

#: Candidates beside the true one at most, as when events are scored.
NUM_NEGATIVES = 99
#: Events that are compared at most.
MOST_EVENTS = 20_000
CUTOFF = 10
_LINES: dict[str, Callable[[Counts, SegmentBatch], NDArray[np.float64]]] = {
    "popularity": lambda counts, data: counts.share[data.candidates],
    "markov": chances_after,
}
_EVENTS_PER_BATCH = 2048


def base_notes(cloud: Cloud) -> list[str]:
    """Says, without a full stop, which line of counting the base model does not beat.

    Base model and lines rank the same candidates of the same events; lines count the events that
    the base model was trained on.

    Args:
        cloud: With the trained base model. One whose history is of another kind is not judged.
    """
    parts = cloud.train, cloud.validation
    if not all(isinstance(part, HistoricalData) for part in parts):
        return []
    train, validation = cast(tuple[HistoricalData, HistoricalData], parts)
    if not validation.num_examples:
        return []
    own, others = held_out_ndcg(cloud, train, validation)
    figures = ", ".join(f"{name} {value:.4f}" for name, value in others.items())
    log.info("base model: NDCG@%d %.4f on held-out data; %s", CUTOFF, own, figures)
    better = [name for name, value in others.items() if own <= value]
    if not better:
        return []
    return [
        f"it does not beat {' and '.join(better)} on held-out data "
        f"(NDCG@{CUTOFF} {own:.4f}; {figures}), so that gains over static may be further training"
    ]


@torch.no_grad()
def held_out_ndcg(
    cloud: Cloud, train: HistoricalData, validation: HistoricalData
) -> tuple[float, dict[str, float]]:
    """Computes the NDCG of the base model, and of each line of counting by its name.

    Args:
        cloud: With the base model.
        train: Events that are counted.
        validation: Events that are ranked, with at least one example.
    """
    model, counts = cloud.model, Counts.of(train)
    parameters = model.tabulate(cloud.parameters)
    sums = dict.fromkeys(("base", *_LINES), 0.0)
    num_events = 0
    for batch in _batches(cloud.seed, validation):
        history, candidates = (
            torch.from_numpy(ids).long() for ids in (batch.history, batch.candidates)
        )
        logits = model.score(parameters, history, candidates).numpy()
        sums["base"] += _ndcg(logits.astype(np.float32))
        for name, line in _LINES.items():
            # Lines read histories and candidates alone.
            sums[name] += _ndcg(line(counts, cast(SegmentBatch, batch)))
        num_events += len(batch.rows)
    means = {name: value / num_events for name, value in sums.items()}
    return means.pop("base"), means


def _batches(seed: int, validation: HistoricalData) -> Iterator[HistoricalBatch]:
    """Makes batches of held-out events, evenly spread where there are very many."""
    count = min(validation.num_examples, MOST_EVENTS)
    rows = np.linspace(0, validation.num_examples, count, endpoint=False).astype(np.int64)
    num_negatives = min(NUM_NEGATIVES, validation.num_items - 1)
    for start in range(0, count, _EVENTS_PER_BATCH):
        yield validation.batch(rows[start : start + _EVENTS_PER_BATCH], 0, seed, num_negatives)


def _ndcg(scores: NDArray[np.float32] | NDArray[np.float64]) -> float:
    """Adds up the NDCG of events whose true candidate comes first."""
    first = np.zeros(len(scores), np.int64)
    fitted, _ = worst_for_nan(scores.astype(np.float32), first)
    above, ties = places(fitted, fitted[:, 0])
    return float(gains(above, ties, CUTOFF, "mean")[1].sum())
