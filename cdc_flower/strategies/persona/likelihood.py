"""The likelihood of what devices report: every next item of a report tells how well a head fits.

A report ``i_1 ... i_R`` has ``R - 1`` pairs: the items before, as a device reads them, and the item
that followed. With the scores ``s`` of the device model under a head ``P``

    -log p(i | before, P) = log Σ_k exp s_k - s_i        over k: i itself and items to tell it from

so each pair is a label that was told already: nothing more goes up, and nothing runs on the device.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.core.seeds import generator
from cdc_flower.models.base import DeviceModel
from cdc_flower.models.layers import Parameters

#: Items that a next item is told from: the whole catalog if it is not larger. Few where the head
#: runs once for each of them.
MAX_CONTRAST = 256
MAX_CONTRAST_OF_HEADS_THAT_SEE_THEM = 16
#: Pairs that are scored at a time, which bounds the memory.
PAIRS_PER_CHUNK = 4096


@dataclass(frozen=True)
class Pairs:
    """Pairs of ``n`` reports, ``T`` each at most; places without a pair have ``target`` 0.

    Attributes:
        history: ``[n, T, L]``, the items before, oldest first, padded on the right with 0.
        target: ``[n, T]``, the item that followed.
    """

    history: Tensor
    target: Tensor

    @staticmethod
    def of(reported: NDArray[np.int32], history_length: int) -> "Pairs":
        """Cuts reports ``[n, R]``, oldest first and padded on the right with 0, into pairs.

        Args:
            reported: The items that devices told.
            history_length: ``L``, items that the device model reads.
        """
        items = np.asarray(reported, np.int64)
        target = items[:, 1:]
        history = np.zeros((*target.shape, history_length), np.int64)
        for place in range(target.shape[1]):
            before = items[:, max(0, place + 1 - history_length) : place + 1]
            history[:, place, : before.shape[1]] = before
        history[target == 0] = 0
        return Pairs(torch.from_numpy(history), torch.from_numpy(np.ascontiguousarray(target)))

    @property
    def is_there(self) -> Tensor:
        """Tells which places have a pair, ``[n, T]``."""
        return self.target != 0

    def last(self, count: int) -> Tensor:
        """Tells which places have one of the last ``count`` pairs of a report, ``[n, T]``."""
        newer = self.is_there.flip(1).cumsum(1).flip(1)
        return self.is_there & (newer <= count)

    def newest(self, count: int) -> "Pairs":
        """Moves the last ``count`` pairs of each report to the front, ``[n, min(count, T)]``."""
        width = min(count, self.target.shape[1])
        start = (self.is_there.sum(1) - width).clamp(min=0)
        place = start[:, None] + torch.arange(width)
        history = self.history.gather(1, place[..., None].expand(-1, -1, self.history.shape[-1]))
        return Pairs(history, self.target.gather(1, place))

    def select(self, rows: NDArray[np.int64]) -> "Pairs":
        """Takes the pairs of some reports."""
        index = torch.from_numpy(rows)
        return Pairs(self.history[index], self.target[index])


def log_sum_exp(scores: Tensor) -> Tensor:
    """Computes ``log Σ_k exp s_k``, ``[..., S] -> [...]``; twice as fast as torch.logsumexp."""
    return scores[..., 0] - scores.log_softmax(-1)[..., 0]


@dataclass(frozen=True)
class Likelihood:
    """Scores pairs with the heads of a device model whose static layers are fixed.

    Attributes:
        model: The device model.
        shared: Its parameters, static ones tabulated.
        contrast: ``[S]``, the items that a next item is told from.
        targets: ``[S, d]``, their targets where they are the same for every history; else None.
    """

    model: DeviceModel
    shared: Parameters
    contrast: Tensor
    targets: Tensor | None

    @staticmethod
    def of(model: DeviceModel, parameters: Parameters, seed: int) -> "Likelihood":
        """Draws the items to tell from, once for a run.

        Args:
            model: The device model.
            parameters: Static layers and a head, as trained.
            seed: Of the run.
        """
        sees = model.head_sees_candidates or type(model).match is not DeviceModel.match
        most = MAX_CONTRAST_OF_HEADS_THAT_SEE_THEM if sees else MAX_CONTRAST
        order = generator(seed, "persona", "contrast").permutation(model.num_items) + 1
        contrast = torch.from_numpy(np.sort(order[:most]))
        with torch.no_grad():
            shared = model.tabulate({name: value.detach() for name, value in parameters.items()})
            nothing = torch.zeros(1, model.history_length, dtype=torch.long)
            targets = None if sees else model.encode(shared, nothing, contrast[None])[1]
        return Likelihood(model, shared, contrast, None if targets is None else targets[0])

    def losses(self, history: Tensor, target: Tensor) -> Callable[[Parameters], Tensor]:
        """Runs the static layers, and gives a function: head -> ``-log p`` of the pairs ``[...]``.

        Args:
            history: ``[..., L]``; with stacked heads ``[n, ..., L]``.
            target: ``[...]``.
        """
        model, is_itself = self.model, self.contrast == target[..., None]
        is_among = is_itself.any(-1)
        with torch.no_grad():
            if self.targets is None:
                others = self.contrast.expand(*target.shape, -1)
                candidates = torch.cat([target[..., None], others], -1)
            else:
                candidates = target[..., None]
            x, targets = model.encode(self.shared, history, candidates)

        def of(head: Parameters) -> Tensor:
            y = model.head(head, x)
            scores = model.match(y, targets)
            true, others = scores[..., 0], scores[..., 1:]
            if self.targets is not None:
                others = y.squeeze(-2) @ self.targets.T
            total = log_sum_exp(others)
            # A next item that is among the others counts once.
            return torch.where(is_among, total, torch.logaddexp(total, true)) - true

        return of

    @torch.no_grad()
    def table(self, heads: Parameters, history: Tensor, target: Tensor) -> Tensor:
        """Computes ``-log p`` of pairs under every head, ``[P, N]``; 0 where there is no pair.

        Args:
            heads: ``[N, ...]`` by name.
            history: ``[P, L]``.
            target: ``[P]``.
        """
        num_heads = len(next(iter(heads.values())))
        each = [{name: value[index] for name, value in heads.items()} for index in range(num_heads)]
        parts = [torch.zeros(0, num_heads)]
        for before, after in zip(
            history.split(PAIRS_PER_CHUNK), target.split(PAIRS_PER_CHUNK), strict=True
        ):
            losses = self.losses(before, after)
            found = torch.stack([losses(head) for head in each], 1)
            parts.append(found.masked_fill((after == 0)[:, None], 0.0))
        return torch.cat(parts)

    def of_reports(self, heads: Parameters, pairs: Pairs) -> Tensor:
        """Computes ``-log p`` of the pairs of reports under every head, ``[n, T, N]``."""
        num_reports, num_places, length = pairs.history.shape
        flat = pairs.history.reshape(-1, length), pairs.target.reshape(-1)
        table = self.table(heads, *flat)
        return table.reshape(num_reports, num_places, table.shape[1])

    def flops(self, num_pairs: int) -> float:
        """Counts operations of scoring so many pairs under one head, once encoded."""
        return num_pairs * self.model.head_flops(1 + len(self.contrast))

    def encoding_flops(self, num_pairs: int) -> float:
        """Counts operations of running the static layers over so many pairs."""
        candidates = 1 if self.targets is not None else 1 + len(self.contrast)
        return num_pairs * (self.model.flops(candidates) - self.model.head_flops(candidates))
