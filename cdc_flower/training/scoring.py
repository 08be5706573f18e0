"""Scores the events of many devices, each with its own parameters, without a loop over them."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.models.base import DeviceModel
from cdc_flower.models.layers import Parameters

Arrays = dict[str, NDArray[np.float32]]

#: Up to this many distinct parameter sets go one after the other through plain matrix products.
FEW_SETS = 4
#: Events and stacked parameters in one batched product, which bound its memory.
EVENTS_PER_CHUNK = 2048
NUMBERS_PER_CHUNK = 8_000_000


def tensors(arrays: Arrays) -> Parameters:
    """Turns NumPy arrays into tensors, sharing memory where they are writable."""
    return {
        name: torch.from_numpy(value if value.flags.writeable else value.copy())
        for name, value in arrays.items()
    }


def pad(values: Tensor, row: Tensor, slot: Tensor, num_rows: int, num_slots: int) -> Tensor:
    """Turns flat ``[T, ...]`` into ``[num_rows, num_slots, ...]``, with zeros where a row ends.

    Args:
        values: ``[T, ...]``.
        row: ``[T]``, first index of each value.
        slot: ``[T]``, second index of each value.
        num_rows: Length of the first axis.
        num_slots: Length of the second axis.
    """
    padded = values.new_zeros(num_rows, num_slots, *values.shape[1:])
    padded[row, slot] = values
    return padded


def sets_of(pools: Sequence[Arrays], sets: NDArray[np.int64]) -> Arrays:
    """Takes the parameters ``[k, ...]`` of some sets of several pools.

    Args:
        pools: ``[P, ...]`` each, of the same names, numbered through.
        sets: ``[k]``, at least one.
    """
    firsts = np.cumsum([0, *(len(next(iter(pool.values()))) for pool in pools)])
    pool = np.searchsorted(firsts, sets, side="right") - 1
    if (pool == pool[0]).all():
        rows = sets - firsts[pool[0]]
        return {name: value[rows] for name, value in pools[pool[0]].items()}
    parts = [(np.flatnonzero(pool == k), k) for k in np.unique(pool)]
    back = np.argsort(np.concatenate([rows for rows, _ in parts]))
    return {
        name: np.concatenate([pools[k][name][sets[rows] - firsts[k]] for rows, k in parts])[back]
        for name in pools[0]
    }


def score_events(
    model: DeviceModel,
    static: Arrays,
    pool: Arrays,
    set_of_event: NDArray[np.int64],
    history: NDArray[np.int32],
    candidates: NDArray[np.int32],
) -> NDArray[np.float32]:
    """Scores every candidate of every event; see :class:`Scorer`, which serves several calls.

    Args:
        model: Of the devices.
        static: The deployed model, shared by all.
        pool: ``[P, ...]``, distinct sets of the parameters that devices may have of their own.
        set_of_event: ``[T]``, which set of the pool each event is scored with.
        history: ``[T, L]``.
        candidates: ``[T, C]``.

    Returns:
        ``[T, C]``.
    """
    return Scorer(model, static, [pool]).score(set_of_event, history, candidates)


class Scorer:
    """Makes one deployed model and a pool of parameter sets ready, and scores events with them.

    Where devices differ in their adaptive layers only, the static layers see all events at once,
    and their maps of single items are applied to the whole catalog once if the events look up more
    items than it has.

    Args:
        model: Of the devices.
        static: The deployed model, shared by all.
        pools: One or more pools ``[P, ...]`` of the same names, numbered through; their distinct
            sets of parameters take the place of those in ``static``.
    """

    def __init__(self, model: DeviceModel, static: Arrays, pools: Sequence[Arrays]) -> None:
        self.model = model
        self.pools = pools
        self._shared = tensors(static)
        self._is_tabulated = False
        self._only_heads = all(name in model.adaptive for name in pools[0])
        self._numbers = sum(value[0].size for value in pools[0].values())

    def _own(self, sets: NDArray[np.int64]) -> Parameters:
        """Takes the parameters ``[k, ...]`` of some sets."""
        return tensors(sets_of(self.pools, sets))

    @torch.inference_mode()
    def score(
        self,
        set_of_event: NDArray[np.int64],
        history: NDArray[np.int32],
        candidates: NDArray[np.int32],
    ) -> NDArray[np.float32]:
        """Computes logits ``[T, C]``.

        Args:
            set_of_event: ``[T]``, which set of the pools each event is scored with.
            history: ``[T, L]``.
            candidates: ``[T, C]``.
        """
        num_lookups = history.size + candidates.size
        if self._only_heads and not self._is_tabulated and self.model.pays_to_tabulate(num_lookups):
            self._shared = self.model.tabulate(self._shared)
            self._is_tabulated = True
        scores = np.empty(candidates.shape, np.float32)
        inputs = torch.from_numpy(history).long(), torch.from_numpy(candidates).long()
        sets, place, num_events = np.unique(set_of_event, return_inverse=True, return_counts=True)
        if len(sets) <= FEW_SETS:  # a plain product of many events is faster than a batched one
            for index, chosen in enumerate(sets):
                parameters = self._parameters(int(chosen))
                events = np.flatnonzero(place == index)
                for start in range(0, len(events), EVENTS_PER_CHUNK):
                    rows = events[start : start + EVENTS_PER_CHUNK]
                    chosen_inputs = (ids[torch.from_numpy(rows)] for ids in inputs)
                    scores[rows] = self.model.score(parameters, *chosen_inputs).numpy()
            return scores

        # Sets of like size share a chunk, so that little of it is padding.
        by_size = np.argsort(-num_events, kind="stable")
        # Of each event's set, among the sets by size.
        rank = np.argsort(by_size, kind="stable")[place]
        events = np.argsort(rank, kind="stable")
        ends = np.cumsum(num_events[by_size])
        for start, stop in chunks(num_events[by_size], max(1, NUMBERS_PER_CHUNK // self._numbers)):
            rows = events[ends[start] - num_events[by_size[start]] : ends[stop - 1]]
            own = self._own(sets[by_size[start:stop]])
            chosen_inputs = (ids[torch.from_numpy(rows)] for ids in inputs)
            scores[rows] = self._score_stacked(own, rank[rows] - start, *chosen_inputs).numpy()
        return scores

    def _parameters(self, chosen: int) -> Parameters:
        """Puts together the whole model of one set."""
        own = {name: value[0] for name, value in self._own(np.array([chosen])).items()}
        parameters = {**self._shared, **own}
        return parameters if self._only_heads else self.model.tabulate(parameters)

    def _score_stacked(
        self, own: Parameters, row: NDArray[np.int64], history: Tensor, candidates: Tensor
    ) -> Tensor:
        """Computes logits ``[t, C]`` of events sorted by row.

        Args:
            own: Stacked sets of parameters ``[m, ...]``.
            row: ``[t]``, position of each event's set in the stack, ascending.
            history: ``[t, L]``.
            candidates: ``[t, C]``.
        """
        slot = np.arange(len(row)) - np.searchsorted(row, row)
        index = torch.from_numpy(row), torch.from_numpy(slot)
        shape = int(row[-1]) + 1, int(slot.max()) + 1
        parameters = {**self._shared, **own}
        if self._only_heads:
            x, targets = self.model.encode(parameters, history, candidates)
            return self.model.match(
                self.model.head(parameters, pad(x, *index, *shape))[index], targets
            )
        return self.model.score(
            parameters, *(pad(ids, *index, *shape) for ids in (history, candidates))
        )[index]


def chunks(num_events: NDArray[np.int64], max_sets: int) -> Iterator[tuple[int, int]]:
    """Cuts sets into ranges of bounded size.

    Args:
        num_events: Of each set, largest first, so that padding is small.
        max_sets: At most so many sets a range.
    """
    start = 0
    while start < len(num_events):
        stop = min(
            start + max(1, min(max_sets, EVENTS_PER_CHUNK // int(num_events[start]))),
            len(num_events),
        )
        yield start, stop
        start = stop
