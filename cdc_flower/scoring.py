"""Score the events of many devices, each with its own set of parameters, without a loop over devices."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.layers import Parameters
from cdc_flower.models.base import DeviceModel

Arrays = dict[str, NDArray[np.float32]]

#: Up to this many distinct parameter sets go one after the other through plain matrix products.
FEW_SETS = 4
#: Events and stacked parameters in one batched product, which bound its memory.
EVENTS_PER_CHUNK = 2048
NUMBERS_PER_CHUNK = 8_000_000


def tensors(arrays: Arrays) -> Parameters:
    """NumPy arrays as tensors, sharing memory where they are writable."""
    return {name: torch.from_numpy(value if value.flags.writeable else value.copy()) for name, value in arrays.items()}


def pad(values: Tensor, row: Tensor, slot: Tensor, num_rows: int, num_slots: int) -> Tensor:
    """Flat ``[T, ...]`` -> ``[num_rows, num_slots, ...]`` with zeros where a row has no more."""
    padded = values.new_zeros(num_rows, num_slots, *values.shape[1:])
    padded[row, slot] = values
    return padded


@torch.inference_mode()
def score_events(
    model: DeviceModel,
    static: Arrays,
    pool: Arrays,
    set_of_event: NDArray[np.int64],
    history: NDArray[np.int32],
    candidates: NDArray[np.int32],
) -> NDArray[np.float32]:
    """Logits of every candidate of every event.

    Args:
        static: The deployed model, shared by all.
        pool: ``[P, ...]``, distinct sets of the parameters that devices may have of their own.
        set_of_event: ``[T]``, which set of the pool each event is scored with.
        history: ``[T, L]``; ``candidates``: ``[T, C]``.

    Returns:
        ``[T, C]``.
    """
    scores = np.empty(candidates.shape, np.float32)
    if not len(scores):
        return scores
    sets, place, num_events = np.unique(set_of_event, return_inverse=True, return_counts=True)
    shared = tensors(static)
    if all(name in model.adaptive for name in pool):
        shared = model.tabulate(shared)
    if len(sets) <= FEW_SETS:
        for index, chosen in enumerate(sets):
            _score_shared(model, shared, pool, chosen, np.flatnonzero(place == index), history, candidates, scores)
        return scores
    numbers = sum(value[0].size for value in pool.values())
    for chunk in chunks(num_events, max(1, NUMBERS_PER_CHUNK // numbers)):
        _score_stacked(model, shared, pool, sets, place, chunk, history, candidates, scores)
    return scores


def chunks(num_events: NDArray[np.int64], max_sets: int) -> Iterator[NDArray[np.int64]]:
    """Sets in order of their number of events (so that padding is small), cut to bounded chunks."""
    order = np.argsort(num_events, kind="stable")[::-1]
    start = 0
    while start < len(order):
        most = max(1, int(num_events[order[start]]))
        stop = start + max(1, min(max_sets, EVENTS_PER_CHUNK // most))
        yield order[start:stop]
        start = stop


def _score_shared(
    model: DeviceModel,
    shared: Parameters,
    pool: Arrays,
    chosen: int,
    events: NDArray[np.int64],
    history: NDArray[np.int32],
    candidates: NDArray[np.int32],
    scores: NDArray[np.float32],
) -> None:
    parameters = {**shared, **tensors({name: value[chosen] for name, value in pool.items()})}
    if "embedding" in pool:
        parameters = model.tabulate(parameters)
    for start in range(0, len(events), EVENTS_PER_CHUNK):
        rows = events[start : start + EVENTS_PER_CHUNK]
        inputs = torch.from_numpy(history[rows]).long(), torch.from_numpy(candidates[rows]).long()
        scores[rows] = model.score(parameters, *inputs).numpy()


def _score_stacked(
    model: DeviceModel,
    shared: Parameters,
    pool: Arrays,
    sets: NDArray[np.int64],
    place: NDArray[np.int64],
    chunk: NDArray[np.int64],
    history: NDArray[np.int32],
    candidates: NDArray[np.int32],
    scores: NDArray[np.float32],
) -> None:
    local = np.full(len(sets), -1)
    local[chunk] = np.arange(len(chunk))
    events = np.flatnonzero(local[place] >= 0)
    row = local[place[events]]
    order = np.argsort(row, kind="stable")
    events, row = events[order], row[order]
    slot = np.arange(len(row)) - np.searchsorted(row, row)
    index = torch.from_numpy(row), torch.from_numpy(slot)
    shape = len(chunk), int(slot.max()) + 1
    own = tensors({name: value[sets[chunk]] for name, value in pool.items()})
    inputs = torch.from_numpy(history[events]).long(), torch.from_numpy(candidates[events]).long()
    if "embedding" in pool:
        padded = model.score({**shared, **own}, *(pad(ids, *index, *shape) for ids in inputs))
        scores[events] = padded[index].numpy()
        return
    x, targets = model.encode(shared, *inputs)
    y = model.head(own, pad(x, *index, *shape))
    scores[events] = model.match(y[index], targets).numpy()
