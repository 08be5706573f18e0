"""Prototypes as heads of regimes, found by expectation-maximisation over windows of history.

A window is a few neighboring pairs of a device, so short that one regime holds in most of it. With
the static layers frozen, and ``l(w | P)`` the negative log-likelihood of a window under a head:

    E   j(w) = argmin_j l(w | P_j)                each window goes to the head that fits it best
    M   P_j ← Adam on the mean of -log p          over the pairs of the windows with j(w) = j
        a head with hardly a window starts anew, at the windows that are fitted worst

(hard expectation-maximisation: Celeux and Govaert, A classification EM algorithm, Computational
Statistics & Data Analysis 14, 1992). The first half of the rounds has windows three times as long:
heads that hardly differ yet need more pairs to be told apart. No true context is used, and no
device has a regime: its windows have.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdc_flower.core.errors import UserError
from cdc_flower.core.seeds import generator
from cdc_flower.models.layers import Parameters
from cdc_flower.strategies.persona.likelihood import Likelihood

#: Windows of the first half of the rounds are so many times as long.
LONGER_AT_FIRST = 3
#: Pairs of a head that are drawn for one step.
PAIRS_PER_STEP = 128
#: A head with fewer windows than this share of an equal part starts anew.
HARDLY_ANY = 0.05

Ints = NDArray[np.int64]


@runtime_checkable
class LabelledPast(Protocol):
    """Historical examples that tell an item and what came before it."""

    @property
    def device(self) -> Ints:
        """Gives the device ``[M]`` of each example; those of one are neighbors, in time."""

    @property
    def target(self) -> NDArray[np.int32]:
        """Gives the item ``[M]`` that was chosen."""

    def history(self, rows: Ints | None = None) -> NDArray[np.int32]:
        """Makes the items ``[M, L]`` before."""


def labelled(
    past: object,
    what: str = "cluster_on=likelihood",
    why: str = "frames tell of no next item",
) -> LabelledPast:
    """Gives a history back whose examples tell what was chosen; those of video do not.

    Args:
        past: The history.
        what: The option that needs it, with its value.
        why: The option needs it for this.

    Raises:
        UserError: If it does not.
    """
    if not isinstance(past, LabelledPast):
        raise UserError(f"strategy.persona.{what} must go with task=recommendation: {why}")
    return past


@dataclass(frozen=True)
class PastPairs:
    """All pairs of a history, of a device together and in time.

    Attributes:
        history: ``[M, L]``.
        target: ``[M]``.
        device: ``[M]``.
    """

    history: Tensor
    target: Tensor
    device: Ints

    @staticmethod
    def of(past: LabelledPast) -> "PastPairs":
        """Takes the pairs of historical examples."""
        history, target = (
            torch.from_numpy(np.asarray(ids, np.int64)) for ids in (past.history(), past.target)
        )
        return PastPairs(history, target, np.asarray(past.device))

    def __len__(self) -> int:
        return len(self.device)

    @property
    def first(self) -> Ints:
        """Finds the first pair of each pair's device, ``[M]``."""
        is_first = np.r_[True, self.device[1:] != self.device[:-1]][: len(self)]
        return np.maximum.accumulate(np.where(is_first, np.arange(len(self)), 0))

    def windows(self, size: int) -> Ints:
        """Numbers the windows of ``size`` neighboring pairs of a device, ``[M]``."""
        place = np.arange(len(self)) - self.first
        is_new = (place % size == 0).astype(np.int64)
        return np.cumsum(is_new) - 1

    def of_first_devices(self, max_pairs: int) -> "PastPairs":
        """Takes as many whole devices as have at most so many pairs, at least one."""
        if len(self) <= max_pairs:
            return self
        ends = np.append(np.unique(self.first)[1:], len(self))
        stop = int(ends[ends <= max_pairs].max(initial=ends[0]))
        return PastPairs(self.history[:stop], self.target[:stop], self.device[:stop])


@dataclass(frozen=True)
class Search:
    """Looks for heads of regimes.

    Attributes:
        likelihood: Of pairs.
        base: The head that every one starts from, by name.
        num_heads: N.
        rounds: Of both steps; 0 leaves all heads as the base's.
        rate: Of Adam; 0 likewise.
        window: Pairs of a window.
        seed: Of the run.
    """

    likelihood: Likelihood
    base: Parameters
    num_heads: int
    rounds: int
    rate: float
    window: int
    seed: int

    def start(self) -> Parameters:
        """Copies the base head N times, ``[N, ...]`` by name."""
        return {
            name: value.detach()[None].repeat(self.num_heads, *[1] * value.dim())
            for name, value in self.base.items()
        }

    def run(
        self,
        heads: Parameters,
        pairs: PastPairs,
        held_out: Callable[[Parameters], float],
        on_round: Callable[[], None] = lambda: None,
    ) -> list[float]:
        """Moves heads, in place, to the round that is best on held-out data, or leaves them.

        Args:
            heads: From :meth:`start`.
            pairs: To learn from.
            held_out: Heads -> loss of serving others with them.
            on_round: Called after each round, to show progress.

        Returns:
            The loss before the first round and after each one in which windows are short.
        """
        best = {name: value.clone() for name, value in heads.items()}
        curve = [held_out(heads)]
        draws = generator(self.seed, "persona", "regimes")
        leaves = [value.requires_grad_() for value in heads.values()]
        optimizer = torch.optim.Adam(leaves, lr=self.rate)
        window_of = pairs.windows(self._window(0))
        head_of = draws.integers(0, self.num_heads, int(window_of.max(initial=-1)) + 1)
        for number in range(self.rounds if len(pairs) else 0):
            rows = [np.flatnonzero(head_of[window_of] == head) for head in range(self.num_heads)]
            self._maximise(heads, optimizer, pairs, rows, draws)
            now = {name: value.detach() for name, value in heads.items()}
            window_of = pairs.windows(self._window(number))
            fitted = self._fitted(now, pairs, window_of)
            head_of = np.asarray(fitted.argmin(1).numpy(), np.int64)
            if number < self.rounds // 2:
                self._start_anew(heads, optimizer, head_of, fitted, window_of)
            else:
                curve.append(held_out(now))
                if curve[-1] <= min(curve):
                    best = {name: value.clone() for name, value in now.items()}
            on_round()
        for name, value in heads.items():
            value.requires_grad_(False).copy_(best[name])
        return curve

    def _window(self, number: int) -> int:
        """Counts the pairs of a window in a round."""
        return self.window * (LONGER_AT_FIRST if number < self.rounds // 2 else 1)

    def _fitted(self, heads: Parameters, pairs: PastPairs, window_of: Ints) -> Tensor:
        """Computes l(w | P_j), ``[W, N]``."""
        losses = self.likelihood.table(heads, pairs.history, pairs.target)
        fitted = losses.new_zeros(int(window_of[-1]) + 1, self.num_heads)
        return fitted.index_add_(0, torch.from_numpy(window_of), losses)

    def _maximise(
        self,
        heads: Parameters,
        optimizer: torch.optim.Adam,
        pairs: PastPairs,
        rows: list[Ints],
        draws: np.random.Generator,
    ) -> None:
        """Trains every head on pairs of its own windows; all of them take about one pass.

        Args:
            heads: ``[N, ...]``, changed in place.
            optimizer: Over them.
            pairs: To learn from.
            rows: Which pairs each head has; one without any stays.
            draws: Of the pairs of a step.
        """
        has_any = torch.tensor([len(mine) > 0 for mine in rows])
        for _ in range(max(1, round(len(pairs) / (self.num_heads * PAIRS_PER_STEP)))):
            chosen = [
                mine[draws.integers(0, len(mine), PAIRS_PER_STEP)]
                if len(mine)
                else np.zeros(PAIRS_PER_STEP, np.int64)
                for mine in rows
            ]
            index = torch.from_numpy(np.stack(chosen))
            losses = self.likelihood.losses(pairs.history[index], pairs.target[index])(heads)
            optimizer.zero_grad()
            (losses.mean(1) * has_any).sum().backward()
            optimizer.step()

    def _start_anew(
        self,
        heads: Parameters,
        optimizer: torch.optim.Adam,
        head_of: Ints,
        fitted: Tensor,
        window_of: Ints,
    ) -> None:
        """Gives heads with hardly a window the base's layers, and windows that are fitted worst.

        Args:
            heads: ``[N, ...]``, changed in place.
            optimizer: Over them, whose moments are forgotten.
            head_of: ``[W]``, changed in place.
            fitted: ``[W, N]``.
            window_of: ``[M]``.
        """
        count = np.bincount(head_of, minlength=self.num_heads)
        share = len(head_of) / self.num_heads
        empty = np.flatnonzero(count < max(1.0, HARDLY_ANY * share))
        if not len(empty):
            return
        loss = fitted.min(1).values.numpy() / np.bincount(window_of)
        worst = np.argsort(-loss, kind="stable")[: len(empty) * max(1, round(share / 2))]
        head_of[worst] = empty[np.arange(len(worst)) % len(empty)]
        with torch.no_grad():
            for name, value in heads.items():
                value[empty] = self.base[name]
                for moment in ("exp_avg", "exp_avg_sq"):
                    optimizer.state[value][moment][empty] = 0.0
